"""Everything that one layer object runs in one process: its event loops' engines and one background thread.

Which event loop has connections of its own, which reads the inboxes, and what the others leave to the thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, TypeVar

from trunkline.codec import Record
from trunkline.redis.closed import finalize
from trunkline.redis.engine import Engine
from trunkline.redis.groups import Groups
from trunkline.redis.handover import wait_in_loop
from trunkline.redis.process import Process
from trunkline.redis.reactor import Reactor
from trunkline.redis.reliable import Keeper
from trunkline.redis.shortcut import run
from trunkline.redis.switch import Switch

T = TypeVar("T")

SETTLED = 1.0  # seconds; an event loop that is still in use after them gets connections of its own
SETTLED_USES = 16  # the same sooner for the main thread's, of which there is only one at a time

CLOSE_WITHIN = 3.0  # seconds that close() waits for the other event loops, and the end for work under way


class _Attached(NamedTuple):
    """An event loop with connections of its own.

    :ivar guard: ends with the loop.
    :ivar retired: done when the loop has closed its connections.
    :ivar switch: what the loop asked for before it had them.
    """

    engine: Engine
    guard: asyncio.Task[None]
    retired: concurrent.futures.Future[None]
    switch: Switch | None


class Runtime:
    """See the module. All methods may be called from any thread, unless they say otherwise.

    The process' lock may be held when ``_lock`` is taken, never the other way round, and nobody waits while holding
    ``_lock``: finalizers run anywhere.

    :ivar knows: whether a channel of this process is open; its name was judged when it was opened.
    """

    def __init__(self, process: Process) -> None:
        self.pid = os.getpid()
        self.process = process
        self.groups = Groups(process)
        self.knows = process.mailbox.knows
        self._engines: dict[asyncio.AbstractEventLoop, _Attached] = {}
        self._seen: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Switch] = weakref.WeakKeyDictionary()
        self._home: Engine | None = None
        self._generation = 0
        self._abandoned: list[_Attached] = []
        self._lock = threading.RLock()
        self._reactor = Reactor(process, self._lock, self._check, self._at_exit)
        self.keeper = Keeper(process, self._reactor.background)
        process.ack_soon = self._ack_soon
        process.lost_memberships = self._restore

    # -- which engine

    def engine(self) -> Engine | None:
        """The running loop's own engine; ``None`` where the reactor has to do the work, or still does some that is to
        be done before."""
        loop = asyncio.get_running_loop()
        found = self._engines.get(loop)
        if found:
            return None if found.switch is not None and found.switch.busy else found.engine
        reactor = self._reactor.engine
        if reactor is not None and reactor.loop is loop:
            return reactor
        seen = self._seen.get(loop)
        if seen is None:
            seen = self._seen[loop] = Switch(time.monotonic())
        seen.uses += 1
        settled = seen.uses > SETTLED_USES and threading.current_thread() is threading.main_thread()
        if settled or time.monotonic() - seen.first > SETTLED:
            engine = self._promote(loop)
            return None if seen.busy else engine
        return None

    def own_engine(self) -> Engine:
        """The running loop's own engine, made now if need be: this loop receives."""
        loop = asyncio.get_running_loop()
        found = self._engines.get(loop)
        if found is None:
            self.engine()
            found = self._engines.get(loop)
        if found is not None:
            return found.engine
        reactor = self._reactor.engine
        return reactor if reactor is not None and reactor.loop is loop else self._promote(loop)

    async def run(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """Do ``work`` with the running loop's engine, or in the reactor."""
        engine = self.engine()
        if engine is None:
            found, switch = self._attachment()
            if found is None:
                return await switch.elsewhere(asyncio.wrap_future(self.submit(work)))
            await switch.turn()
            engine = found.engine
        return await work(engine)

    def _attachment(self) -> tuple[_Attached | None, Switch]:
        """What the running loop has, after ``engine`` returned ``None``."""
        loop = asyncio.get_running_loop()
        return self._engines.get(loop), self._seen[loop]

    def submit(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Do ``work`` in the reactor."""
        return self._reactor.submit(work)

    async def send(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """As ``run`` after ``engine`` returned ``None``, and for work that waits for the engine's calls only."""
        found, switch = self._attachment()
        if found is None:
            return await switch.elsewhere(wait_in_loop(self._reactor.hand_over, work))
        await switch.turn()
        return await work(found.engine)

    def send_sync(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """The same, blocking a thread without an event loop."""
        return run(work(self._reactor.shortcut()))

    def _promote(self, loop: asyncio.AbstractEventLoop) -> Engine:
        self._reactor.start()
        self._notice_closed()
        engine = Engine(self.process, loop, self._reactor.hand)
        retired: concurrent.futures.Future[None] = concurrent.futures.Future()
        retired.set_running_or_notify_cancel()  # who waits for it can't cancel it
        guard = loop.create_task(self._guard(engine, retired), name="trunkline guard")
        with self._lock:
            self._engines[loop] = _Attached(engine, guard, retired, self._seen.get(loop))
        return engine

    async def _guard(self, engine: Engine, retired: concurrent.futures.Future[None]) -> None:
        """Ends with the loop (asyncio.run cancels it) and then closes what the loop owned."""
        try:
            await engine.loop.create_future()
        except asyncio.CancelledError:  # and no GeneratorExit: then the loop is no more
            await self._retire(engine, retired)
            raise

    async def _retire(self, engine: Engine, retired: concurrent.futures.Future[None]) -> None:
        try:
            with self._lock:
                self._engines.pop(engine.loop, None)
            self._leave_home(engine)
            await engine.stop()
        finally:
            self.groups.forget(engine)
            retired.set_result(None)

    # -- who reads the inboxes

    def announce(self) -> None:
        """This process has channels of its own: it beats from now on."""
        self.process.present = True
        self._reactor.start()

    def attend(self, engine: Engine) -> None:
        """This process has channels of its own: it beats, and an engine reads its inboxes; ``engine``, if no other
        loop of the application does already. To be called in the engine's loop."""
        home = self._home
        if home is engine or (home is not None and home is not self._reactor.engine and home.loop.is_running()):
            return
        self.process.present = True
        self._move_home(engine)

    def reads_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the process' inboxes are read in ``loop``; then there is nothing to ``attend`` to."""
        home = self._home
        return home is not None and home.loop is loop

    def _move_home(self, engine: Engine) -> None:
        with self.process.lock, self._lock:  # nobody is just handing out
            before, self._home = self._home, engine
            self._generation += 1
            generation = self._generation
        # Both are done some time later where the loop is another one, and then they may be out of date.
        if before is not None and before is not engine:
            _in_loop(before, lambda: before.stop_inboxes() if self._home is not before else None)
        _in_loop(engine, lambda: self._read_inboxes(engine, generation))

    def _read_inboxes(self, engine: Engine, generation: int) -> None:
        if self._generation == generation and not engine.stopped:
            engine.read_inboxes(lambda: self._generation == generation, self._control)

    def _leave_home(self, engine: Engine) -> None:
        reactor = self._reactor.engine
        if self._home is engine and reactor is not None and engine is not reactor:
            self._move_home(reactor)

    def _notice_closed(self) -> None:
        """Notice loops that were closed without a word."""
        with self._lock:
            closed = [found for found in self._engines.values() if found.engine.loop.is_closed()]
            for found in closed:
                del self._engines[found.engine.loop]
            self._abandoned += closed  # kept until they are finalized, so that the collector does not find them before
        for found in closed:
            found.engine.abandon()
            self.groups.forget(found.engine)
            self._leave_home(found.engine)

    def _check(self) -> None:
        """Once a second, in the reactor: look after loops that don't run any more, and what servers have to be told."""
        self._notice_closed()
        with self._lock:
            abandoned, self._abandoned = self._abandoned, []
        for found in abandoned:
            finalize(found.engine.loop)
        home = self._home
        if home is not None and not home.loop.is_running():
            self._leave_home(home)
        self._mend(self.groups.overdue())
        self.keeper.tend()

    def _control(self, record: Record) -> None:
        if self.groups.apply(record):
            self._reactor.background(lambda engine: self.groups.settle(engine, record.name))

    def _restore(self, shard: int) -> None:
        self._mend(self.groups.lost(shard))

    def _mend(self, positions: list[int]) -> None:
        for position in positions:
            self._reactor.background(partial(self.groups.mend, position=position))

    def _ack_soon(self, urgent: bool) -> None:
        loop = asyncio._get_running_loop()
        found = self._engines.get(loop) if loop else None
        if found and not found.engine.stopped:
            found.engine.acknowledge(urgent)
            return
        reactor = self._reactor.engine
        if reactor is not None:
            _in_loop(reactor, lambda: reactor.acknowledge(urgent))

    # -- the end

    async def close(self) -> None:
        """Close every loop's connections, give back what was taken, and end the thread."""
        loop = asyncio.get_running_loop()
        thread: threading.Thread | None = None
        try:
            own, others = self._release()
            if own is not None:
                own.guard.cancel()
                await asyncio.wait({own.guard})
                if not own.retired.done():  # it was cancelled before it began
                    await self._retire(own.engine, own.retired)
            retiring = [asyncio.wrap_future(other.retired) for other in others if other.engine.loop.is_running()]
            if retiring:
                try:
                    await asyncio.wait(retiring, timeout=CLOSE_WITHIN)  # what they give back, the reactor takes
                finally:
                    for future in retiring:
                        future.cancel()
        finally:
            thread = self.stop()
        if thread is not None and thread is not threading.current_thread():
            await loop.run_in_executor(None, thread.join, 5.0)

    def discard(self) -> None:
        """As ``close``, when nobody uses the layer any more; waits for nothing and does nothing in a forked child."""
        if os.getpid() == self.pid:
            own, _ = self._release()
            if own is not None:
                own.guard.cancel()
            self.stop()

    def _release(self) -> tuple[_Attached | None, list[_Attached]]:
        """Ask the other loops to close what they own; returns what the running loop owns, and the others."""
        running = asyncio._get_running_loop()
        with self._lock:
            engines = list(self._engines.values())
        others = [found for found in engines if found.engine.loop is not running]
        for found in others:
            try:
                found.engine.loop.call_soon_threadsafe(found.guard.cancel)
            except RuntimeError:  # it was closed without a word
                with self._lock:
                    if self._engines.pop(found.engine.loop, None) is None:
                        continue
                found.engine.abandon()
                finalize(found.engine.loop)
        return next((found for found in engines if found.engine.loop is running), None), others

    def stop(self) -> threading.Thread | None:
        """Ask the reactor to finish its work and end; returns its thread, for whoever wants to wait.

        The runtime is not used again: no thread starts after this, but for what would be lost otherwise.
        """
        inherited = os.getpid() != self.pid
        if not inherited:
            self.keeper.give_back_open()
        with self._lock:
            if self._home is self._reactor.engine:
                self._home = None
            return self._reactor.stop(inherited)

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
