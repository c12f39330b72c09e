"""Work that a reactor can't do because it has ended, and without which messages would be lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

from trunkline.redis.engine import Engine, Work
from trunkline.redis.handback import HandBack
from trunkline.redis.process import Process

LATE_WITHIN = 10.0  # seconds for what a busy event loop hands over after close()


def promise() -> concurrent.futures.Future[None]:
    """A future of work that goes on whether anybody waits for it or not: who waits can't cancel it."""
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()
    ended.set_running_or_notify_cancel()
    return ended


def begin(
    process: Process, engine: Engine, work: Work, ended: concurrent.futures.Future[None], tasks: set[asyncio.Task[None]]
) -> None:
    """Start ``work`` as a task of the running loop, which is among ``tasks`` until it is over; its error is logged."""
    task = engine.loop.create_task(work(engine))
    tasks.add(task)

    def done(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            process.warn("background", "A background operation failed: %s", error)
        ended.set_result(None)

    task.add_done_callback(done)


class Late:
    """A thread that lives as long as there is something to do; for any thread.

    :param lock: guards all of this; may be held by the caller.
    """

    def __init__(self, process: Process, lock: threading.RLock, hand: HandBack) -> None:
        self._process = process
        self._lock = lock
        self._hand = hand
        self._waiting: list[tuple[Work, concurrent.futures.Future[None]]] = []
        self._thread: threading.Thread | None = None

    def do(self, work: Work) -> concurrent.futures.Future[None]:
        """Do ``work``; the future ends with it, without its error."""
        ended = promise()
        with self._lock:
            self._waiting.append((work, ended))
            if self._thread is not None:
                return ended
            thread = self._thread = threading.Thread(target=self._turn, name="trunkline late", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._give_up(error)
        return ended

    def _turn(self) -> None:
        main = self._main()
        try:
            asyncio.run(main)
        except Exception as error:
            self._give_up(error)
        finally:
            main.close()

    async def _main(self) -> None:
        engine = Engine(self._process, asyncio.get_running_loop(), self._hand)
        try:
            while True:
                with self._lock:
                    waiting, self._waiting = self._waiting, []
                    if not waiting:
                        self._thread = None
                        return
                tasks: set[asyncio.Task[None]] = set()
                for work, ended in waiting:
                    begin(self._process, engine, work, ended, tasks)
                _, pending = await asyncio.wait(set(tasks), timeout=LATE_WITHIN)
                for task in pending:
                    task.cancel()
        finally:
            await engine.stop()

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            waiting, self._waiting, self._thread = self._waiting, [], None
        for _, ended in waiting:
            ended.set_result(None)
        if waiting:
            self._process.warn("background", "After close() messages could not be given back: %s", error)
