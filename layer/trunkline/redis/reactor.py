"""The background thread of one layer object in one process, with connections of its own.

It beats, finishes what a closed event loop left, and does the I/O of plain threads and of loops that were made for one
call.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from trunkline.errors import LayerUnavailable
from trunkline.redis.engine import Engine, Work
from trunkline.redis.handback import HandBack
from trunkline.redis.handover import Errand, Handover
from trunkline.redis.late import Late, begin, promise
from trunkline.redis.liveness import Heart
from trunkline.redis.process import Process
from trunkline.redis.shortcut import Shortcut

T = TypeVar("T")


class Reactor:
    """The thread starts when it is first needed, and once. All methods may be called from any thread.

    :ivar engine: the thread's, while it runs.
    :ivar hand: gives back what an event loop can't finish, in this thread.
    :param lock: guards all of this. It may be taken by finalizers, which run anywhere: nobody waits while holding it.
    :param check: called in the thread once a second.
    :param at_exit: called when the interpreter ends and the thread runs.
    """

    def __init__(
        self, process: Process, lock: threading.RLock, check: Callable[[], None], at_exit: Callable[[], None]
    ) -> None:
        self.engine: Engine | None = None
        self.hand = HandBack(process, self.background)
        self._process = process
        self._lock = lock
        self._check = check
        self._at_exit = at_exit
        self._closed = False
        self._starting: concurrent.futures.Future[Engine] | None = None
        self._thread: threading.Thread | None = None
        self._handover: Handover | None = None
        self._shortcut: Shortcut | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._late = Late(process, lock, self.hand)

    # -- beginning

    def start(self) -> Engine:
        """The thread's engine.

        :raises LayerUnavailable: if the thread can't start (no memory, no descriptors), or the layer was closed.
        """
        engine = self.engine
        if engine is not None:
            return engine
        with self._lock:
            if self.engine is not None:
                return self.engine
            if self._closed:
                raise LayerUnavailable("The layer was closed while it was in use.")
            starting, first = self._starting, self._starting is None
            if starting is None:
                starting = self._starting = concurrent.futures.Future()
        try:
            if first:
                threading.Thread(target=self._turn, args=(starting,), name="trunkline", daemon=True).start()
            return starting.result()
        except Exception as error:
            with self._lock:
                if self._starting is starting:
                    self._starting = None
            raise LayerUnavailable(f"The layer's thread could not start: {error}") from error

    def _turn(self, starting: concurrent.futures.Future[Engine]) -> None:
        main = self._main(starting)
        try:
            asyncio.run(main)
        except BaseException as error:
            if starting.done():
                raise
            starting.set_exception(error)
        finally:
            main.close()

    async def _main(self, starting: concurrent.futures.Future[Engine]) -> None:
        loop = asyncio.get_running_loop()
        engine = Engine(self._process, loop, self.hand)
        stop = self._stop = asyncio.Event()
        heart = Heart(self._process, self._check, lambda: engine.acknowledge(True))
        with self._lock:
            if self._closed:
                raise LayerUnavailable("it was closed meanwhile")
            self._thread, self.engine, self._starting = threading.current_thread(), engine, None
            handover = self._handover = Handover(engine)
            atexit.register(self._at_exit)
        beating = loop.create_task(self._beat(heart), name="trunkline heart")
        starting.set_result(engine)
        try:
            await stop.wait()
        finally:
            if self._work:
                await asyncio.wait(set(self._work), timeout=2.0)
            beating.cancel()
            await asyncio.wait({beating})
            await engine.stop()
            if self._shortcut is not None:
                await self._shortcut.stop()
            handover.end()
            await heart.end()

    async def _beat(self, heart: Heart) -> None:
        while True:
            try:
                await heart.run()
            except Exception:  # whatever it is, a process that stops beating is taken for dead
                self._process.warn("heart", "The heartbeat failed and goes on.", level=logging.ERROR, exc_info=True)
                await asyncio.sleep(1.0)

    # -- what it does for others

    def submit(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Do ``work`` in the thread."""
        engine = self.start()
        return asyncio.run_coroutine_threadsafe(work(engine), engine.loop)

    def hand_over(self, errand: Errand[T]) -> Handover:
        """Do an errand in the thread; returns where it can be dropped."""
        while True:
            self.start()
            with self._lock:  # so that it comes before the request to stop
                if self.engine is not None and self._handover is not None:
                    self._handover.hand(errand)
                    return self._handover

    def shortcut(self) -> Shortcut:
        """What sends for threads without an event loop."""
        shortcut = self._shortcut
        if shortcut is None:
            made = Shortcut(self._process, self.start(), self.hand, self.hand_over, self.background)
            with self._lock:
                shortcut = self._shortcut = self._shortcut or made
        return shortcut

    def background(self, work: Work, *, late: bool = False) -> concurrent.futures.Future[None]:
        """Do ``work`` in the thread, which finishes it before it stops; the future ends with it, without its error.

        :param late: do it also where the thread doesn't run, as messages would be lost.
        """
        ended = promise()
        with self._lock:
            engine = self.engine
            if engine is not None:
                # With the lock held, so that it comes before the request to stop.
                engine.loop.call_soon_threadsafe(begin, self._process, engine, work, ended, self._work)
                return ended
        if late:
            return self._late.do(work)
        ended.set_result(None)
        return ended

    # -- the end

    def stop(self, inherited: bool) -> threading.Thread | None:
        """Ask the thread to finish its work and end; returns it, for whoever wants to wait.

        No thread starts after this, but for what would be lost otherwise.

        :param inherited: this is a forked child, and the thread the parent's: nothing is asked.
        """
        atexit.unregister(self._at_exit)
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            engine, self.engine = self.engine, None
            if engine is not None and not inherited:
                try:
                    engine.loop.call_soon_threadsafe(self._stop.set)
                except RuntimeError:
                    pass
        return thread
