"""Receivers of one process that wait, by what they wait for; and the doorbells of the event loops they wait in."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Iterator

from trunkline.ipc.directory import Home
from trunkline.ipc.doorbell import Doorbell
from trunkline.ipc.keys import head_of
from trunkline.mailbox import Waiter, wake
from trunkline.mailbox.waiting import Slices


class Waiting:
    """Who waits for what; any thread may call it while holding ``lock``.

    :ivar clock: seconds; tells how long members and others take in a round of an event loop.
    """

    def __init__(self, lock: threading.RLock, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = lock
        self.clock = clock
        self._waiters: dict[str, list[Waiter]] = {}
        self._due: set[str] = set()
        self._slices: Slices[str] | None = None

    def __contains__(self, name: object) -> bool:
        return name in self._waiters

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._waiters))

    def add(self, name: str, waiter: Waiter, *, first: bool = False) -> None:
        """Let ``waiter`` wait for ``name``; ``first`` keeps the place of one that was woken for nothing."""
        queue = self._waiters.get(name)
        if queue is None:
            self._waiters[name] = [waiter]
        elif first:
            queue.insert(0, waiter)
        else:
            queue.append(waiter)

    def wake(self, name: str, running: asyncio.AbstractEventLoop | None = None) -> bool:
        """Wake the first that waits for ``name``; returns whether there was one.

        :param running: the event loop that runs in this thread, where the caller knows it.
        """
        queue = self._waiters.get(name)
        if queue is None:
            return False
        running = running or asyncio._get_running_loop()
        woken = False
        while queue and not woken:
            waiter = queue.pop(0)
            if waiter.get_loop() is running and not waiter.done():  # as ``wake``, for what is usual
                waiter.set_result(None)
                woken = True
            else:
                woken = wake(waiter, running)
        if not queue:
            del self._waiters[name]
        return woken

    def due(self, name: str, running: asyncio.AbstractEventLoop | None, due: list[str]) -> bool:
        """As ``wake``, but a receiver of the running loop goes on waiting, and ``due`` takes it for later."""
        queue = self._waiters.get(name)
        if queue is None:
            return False
        if queue[0].get_loop() is not running or head_of(name) in self._waiters:
            return self.wake(name, running)
        if self._slices is None or self._slices.loop is not running or name not in self._due:
            due.append(name)
        return True

    def wake_in_slices(self, due: list[str], running: asyncio.AbstractEventLoop | None, begun: float) -> None:
        """Wake receivers of the running loop, some in each of its rounds; ``begun`` as in ``Slices.add``."""
        if running is None:
            return
        slices = self._slices
        if slices is None or slices.loop is not running:
            slices = self._slices = Slices(running, self._wake_due, self.clock)
            self._due.clear()  # of a loop that may have ended
        self._due.update(due)
        slices.add(due, begun)
        if not slices:
            self._slices = None

    def lag(self) -> bool:
        """Whether receivers of the running loop have been due for so long that no more should be read for them."""
        slices = self._slices
        return slices is not None and slices.loop is asyncio._get_running_loop() and slices.lag()

    def _wake_due(self, names: list[str]) -> None:
        with self._lock:
            running = asyncio._get_running_loop()
            for name in names:
                self._due.discard(name)
                if not self.wake(name, running):
                    self.wake(head_of(name), running)
            if self._slices is not None and self._slices.loop is running and not self._slices:
                self._slices = None

    def wake_all(self) -> None:
        """Wake the first that waits for each name; each goes on to wake the next if there is more."""
        for name in self:
            self.wake(name)

    def withdraw(self, name: str, waiter: Waiter) -> bool:
        """A receiver gave up; returns whether it had not been woken yet."""
        queue = self._waiters.get(name)
        if queue is None or waiter not in queue:
            return False
        queue.remove(waiter)
        if not queue:
            del self._waiters[name]
        return True

    def loops(self, name: str) -> set[asyncio.AbstractEventLoop]:
        """The event loops in which somebody waits for ``name``."""
        queue = self._waiters.get(name)
        return {waiter.get_loop() for waiter in queue if not waiter.done()} if queue else set()


def wake_here(waiter: Waiter) -> None:
    """Wake one receiver, in its own loop."""
    if not waiter.done():
        waiter.set_result(None)


class Bells:
    """The doorbells of one process' event loops.

    A loop keeps its doorbell until it is closed; the doorbell then goes to the next loop. So a process has as many as
    it ever had loops at the same time, although nobody says when a loop ends.

    :param rung: called in the loop of a doorbell that was rung.
    :ivar home: the doorbell that shows that this process lives, whether or not it has a loop; rung for its inbox too.
    """

    def __init__(self, home: Home, rung: Callable[[Doorbell], None]) -> None:
        self._home = home
        self._rung = rung
        self.home = Doorbell(home)
        self._free = [self.home]
        self._of_loop: dict[Doorbell, weakref.ref[asyncio.AbstractEventLoop]] = {}
        self._known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Doorbell] = weakref.WeakKeyDictionary()
        self._last: tuple[weakref.ref[asyncio.AbstractEventLoop] | None, Doorbell | None] = (None, None)

    def __repr__(self) -> str:
        return f"<Bells of {len(self._of_loop)} loops, {len(self._free)} free>"

    def of(self, loop: asyncio.AbstractEventLoop) -> Doorbell | None:
        """The doorbell of ``loop``, if it has one."""
        reference, doorbell = self._last
        if reference is None or reference() is not loop:
            doorbell = self._known.get(loop)
            self._last = (weakref.ref(loop), doorbell) if doorbell is not None else (None, None)
        return doorbell

    def attach(self, loop: asyncio.AbstractEventLoop) -> Doorbell:
        """Give the running ``loop`` a doorbell."""
        self.reclaim()
        doorbell = self._free.pop() if self._free else Doorbell(self._home)
        loop.add_reader(doorbell.descriptor, self._rung, doorbell)
        self._of_loop[doorbell] = weakref.ref(loop)
        self._known[loop] = doorbell
        return doorbell

    def reclaim(self) -> bool:
        """Take the doorbells of closed loops back; returns whether there were any."""
        closed = [bell for bell, ref in self._of_loop.items() if (loop := ref()) is None or loop.is_closed()]
        if closed:
            self._last = (None, None)
        for doorbell in closed:
            loop = self._of_loop.pop(doorbell)()
            if loop is not None:
                self._known.pop(loop, None)
            self._free.append(doorbell)
        return bool(closed)

    def listening(self) -> list[Doorbell]:
        """The doorbells that loops listen to, and the home."""
        return list({self.home: None, **self._of_loop})

    def names(self) -> list[bytes]:
        """The doorbells to ring for the process' inbox."""
        return [doorbell.bell for doorbell in self.listening()]

    def lost(self) -> bool:
        """Whether somebody removed one of the files."""
        return any(doorbell.lost() for doorbell in self.listening())

    def close(self) -> None:
        """Close all of them. A loop in another thread is told to look away first."""
        running = asyncio._get_running_loop()
        for doorbell, ref in self._of_loop.items():
            loop = ref()
            if loop is None or loop.is_closed():
                doorbell.close()
            elif loop is running:
                loop.remove_reader(doorbell.descriptor)
                doorbell.close()
            else:
                try:
                    loop.call_soon_threadsafe(_leave, loop, doorbell)
                except RuntimeError:  # closed in this moment
                    doorbell.close()
        for doorbell in self._free:
            doorbell.close()
        self._of_loop.clear()
        self._known.clear()
        self._last = (None, None)
        self._free.clear()

    def abandon(self) -> None:
        """In a forked child: close the descriptors, for the parent's FIFOs must have the parent alone as reader."""
        for doorbell in (*self._of_loop, *self._free):
            doorbell.close(unlink=False)


def _leave(loop: asyncio.AbstractEventLoop, doorbell: Doorbell) -> None:
    loop.remove_reader(doorbell.descriptor)
    doorbell.close()
