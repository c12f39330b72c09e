"""Everything that one layer object runs in one process: its event loops' engines and one background thread.

The background thread (the reactor) beats, restores what a server lost, finishes what a closed event loop left, and
does the I/O of plain threads and of loops that were made for one call.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from trunkline.codec import Record
from trunkline.redis.connections import NotNow, ServerAway, Wire
from trunkline.redis.engine import Engine
from trunkline.redis.groups import Groups
from trunkline.redis.liveness import Heart
from trunkline.redis.process import Process, Server
from trunkline.redis.queue import Take, Taken, ask_take

T = TypeVar("T")

SETTLED = 1.0  # seconds; an event loop that is still in use after them gets connections of its own
SETTLED_USES = 16  # the same sooner for the main thread's, of which there is only one at a time


class _Seen:
    """An event loop that has no connections of its own: since when it is known, and how often it was used."""

    __slots__ = ("first", "uses")

    def __init__(self, first: float) -> None:
        self.first = first
        self.uses = 0


class Runtime:
    """See the module. All methods may be called from any thread, unless they say otherwise."""

    def __init__(self, process: Process) -> None:
        self.pid = os.getpid()
        self.process = process
        self.groups = Groups(process)
        self._engines: dict[asyncio.AbstractEventLoop, tuple[Engine, asyncio.Task[None]]] = {}
        self._seen: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Seen] = weakref.WeakKeyDictionary()
        self._home: Engine | None = None
        self._generation = 0
        self._abandoned: list[tuple[Engine, asyncio.Task[None]]] = []
        self._work: set[asyncio.Task[Any]] = set()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._reactor: Engine | None = None
        process.ack_soon = self._ack_soon
        process.lost_memberships = self._restore
        atexit.register(self._at_exit)

    # -- which engine

    def engine(self) -> Engine | None:
        """The running loop's own engine; ``None`` where the reactor has to do the work."""
        loop = asyncio.get_running_loop()
        found = self._engines.get(loop)
        if found:
            return found[0]
        reactor = self._reactor
        if reactor is not None and reactor.loop is loop:
            return reactor
        seen = self._seen.get(loop)
        if seen is None:
            seen = self._seen[loop] = _Seen(time.monotonic())
        seen.uses += 1
        settled = seen.uses > SETTLED_USES and threading.current_thread() is threading.main_thread()
        return self._promote(loop) if settled or time.monotonic() - seen.first > SETTLED else None

    def own_engine(self) -> Engine:
        """The running loop's own engine, made now if need be: this loop receives."""
        return self.engine() or self._promote(asyncio.get_running_loop())

    async def run(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """Do ``work`` with the running loop's engine, or in the reactor."""
        engine = self.engine()
        if engine is not None:
            return await work(engine)
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> Any:
        """Do ``work`` in the reactor; returns a concurrent future."""
        reactor = self.reactor()
        return asyncio.run_coroutine_threadsafe(work(reactor), reactor.loop)

    def _promote(self, loop: asyncio.AbstractEventLoop) -> Engine:
        self.reactor()
        self.check_home()
        engine = Engine(self.process, loop, self)
        guard = loop.create_task(self._guard(engine), name="trunkline guard")
        with self._lock:
            self._engines[loop] = (engine, guard)
        return engine

    async def _guard(self, engine: Engine) -> None:
        """Ends with the loop (asyncio.run cancels it) and then closes what the loop owned."""
        try:
            await engine.loop.create_future()
        finally:
            await self._retire(engine)

    async def _retire(self, engine: Engine) -> None:
        with self._lock:
            self._engines.pop(engine.loop, None)
        self._leave_home(engine)
        await engine.stop()

    # -- who reads the inboxes

    def announce(self) -> None:
        """This process has channels of its own: it beats from now on."""
        self.process.present = True
        self.reactor()

    def attend(self, engine: Engine) -> None:
        """This process has channels of its own: it beats, and an engine reads its inboxes; ``engine``, if no other
        loop of the application does already."""
        home = self._home
        if home is engine or (home is not None and home is not self._reactor and not home.loop.is_closed()):
            return
        self.process.present = True
        self._move_home(engine)

    def _move_home(self, engine: Engine) -> None:
        with self._lock:
            before, self._home = self._home, engine
            with self.process.lock:
                self._generation += 1
                generation = self._generation
        if before is not None and before is not engine:
            _in_loop(before, before.stop_inboxes)
        _in_loop(engine, lambda: engine.read_inboxes(lambda: self._generation == generation, self._control))

    def _leave_home(self, engine: Engine) -> None:
        if self._home is engine and self._reactor is not None and engine is not self._reactor:
            self._move_home(self._reactor)

    def check_home(self) -> None:
        """Notice loops that were closed without a word."""
        with self._lock:
            closed = [engine for engine, _ in self._engines.values() if engine.loop.is_closed()]
            for engine in closed:
                _, guard = self._engines.pop(engine.loop)
                self._abandoned.append((engine, guard))  # kept: finalizing them would need their loop
                engine.abandon()
        for engine in closed:
            self._leave_home(engine)

    def _control(self, record: Record) -> None:
        if self.groups.apply(record):
            self.background(lambda engine: self.groups.settle(engine, record.name))

    # -- what the reactor does

    def reactor(self) -> Engine:
        """The reactor's engine; starts the thread when it is first needed."""
        with self._lock:
            if self._reactor is None:
                started = threading.Event()
                self._thread = threading.Thread(target=self._turn, args=(started,), name="trunkline", daemon=True)
                self._thread.start()
                started.wait()
            assert self._reactor is not None
            return self._reactor

    def _turn(self, started: threading.Event) -> None:
        asyncio.run(self._main(started))

    async def _main(self, started: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        engine = self._reactor = Engine(self.process, loop, self)
        self._stop = asyncio.Event()
        heart = Heart(self.process, self.check_home, lambda: engine.acknowledge(True))
        beating = loop.create_task(heart.run(), name="trunkline heart")
        started.set()
        try:
            await self._stop.wait()
        finally:
            if self._work:
                await asyncio.wait(set(self._work), timeout=2.0)
            beating.cancel()
            await asyncio.wait({beating})
            await engine.stop()
            await heart.end()

    def background(self, work: Callable[[Engine], Coroutine[Any, Any, None]]) -> concurrent.futures.Future[None]:
        """Do ``work`` in the reactor, which finishes it before it stops; the future ends with it, without its error."""
        engine = self.reactor()
        ended: concurrent.futures.Future[None] = concurrent.futures.Future()

        def start() -> None:
            task = engine.loop.create_task(work(engine))
            self._work.add(task)
            task.add_done_callback(self._done)
            task.add_done_callback(lambda _task: ended.set_result(None))

        engine.loop.call_soon_threadsafe(start)
        return ended

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.process.warn("background", "A background operation failed: %s", error)

    def _ack_soon(self, urgent: bool) -> None:
        loop = asyncio._get_running_loop()
        found = self._engines.get(loop) if loop else None
        if found and not found[0].stopped:
            found[0].acknowledge(urgent)
            return
        reactor = self._reactor
        if reactor is not None:
            _in_loop(reactor, lambda: reactor.acknowledge(urgent))

    def _restore(self, shard: int) -> None:
        self.background(lambda engine: self.groups.restore(engine, shard))

    def give_back(self, channel: str, taken: list[Taken]) -> list[tuple[int, concurrent.futures.Future[None]]]:
        """Put messages back to the front of their queues, in order; a future for each server, by position."""
        places: dict[tuple[int, int], list[Taken]] = {}
        for item in taken:
            places.setdefault((item.server.position, item.shard), []).append(item)
        return [
            (position, self.background(partial(_put_front, shard=shard, channel=channel, items=items)))
            for (position, shard), items in places.items()
        ]

    def finish_take(self, take: Take) -> None:
        """Ask again for a take whose reply a closing loop did not see, and put the messages back."""

        async def finish(engine: Engine) -> None:
            wire = Wire(self.process.options.hosts[take.server.position])
            try:
                for _ in range(20):
                    try:
                        _, records = await ask_take(self.process, wire, take)
                    except (ServerAway, NotNow):
                        await asyncio.sleep(0.5)
                        continue
                    if records:
                        self.give_back(take.channel, [Taken(take.server, take.shard, data) for data in records])
                    return
            finally:
                await wire.close()

        self.background(finish)

    def ring(self, server: Server, shard: int, channel: str) -> None:
        """Ring a bell again that was heard in vain."""
        self.background(lambda engine: _ring(engine, shard, channel))

    # -- the end

    async def close(self) -> None:
        """Close every loop's connections, give back what was taken, and end the thread."""
        loop = asyncio.get_running_loop()
        with self._lock:
            engines = list(self._engines.values())
        for engine, guard in engines:
            if engine.loop is loop:
                guard.cancel()
                await asyncio.wait({guard})
            elif not engine.loop.is_closed():
                engine.loop.call_soon_threadsafe(guard.cancel)
        thread = self.stop()
        if thread is not None and thread is not threading.current_thread():
            await loop.run_in_executor(None, thread.join, 5.0)

    def stop(self) -> threading.Thread | None:
        """Ask the reactor to finish its work and end; returns its thread, for whoever wants to wait."""
        atexit.unregister(self._at_exit)
        with self._lock:
            thread, self._thread = self._thread, None
            reactor, self._reactor = self._reactor, None
            if self._home is reactor:
                self._home = None
        if reactor is not None and os.getpid() == self.pid:
            try:
                reactor.loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                pass
        return thread

    def _at_exit(self) -> None:
        if os.getpid() == self.pid and (thread := self.stop()) is not None:
            thread.join(timeout=3.0)


def _in_loop(engine: Engine, action: Callable[[], None]) -> None:
    if asyncio._get_running_loop() is engine.loop:
        action()
        return
    try:
        engine.loop.call_soon_threadsafe(action)
    except RuntimeError:  # its loop closed without a word
        pass


async def _put_front(engine: Engine, shard: int, channel: str, items: list[Taken]) -> None:
    head = (channel, int(engine.process.common.expiry * 1000), 0, "front")
    await asyncio.gather(*(engine.call("push", shard, "q", channel, head, (item.data,), held=True) for item in items))


async def _ring(engine: Engine, shard: int, channel: str) -> None:
    await engine.call("ring", shard, "q", channel, (channel,), held=True)
