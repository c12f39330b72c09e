"""The doorbells of the event loops of one process."""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import Callable
from typing import Any

from trunkline.ipc.directory import Home
from trunkline.ipc.doorbell import Doorbell


class Bells:
    """The doorbells of one process' event loops.

    A loop keeps its doorbell until it is closed; the doorbell then goes to the next loop. So a process has as many as
    it ever had loops at the same time, although nobody says when a loop ends.

    :param rung: called in the loop of a doorbell that was rung.
    :ivar home: the doorbell that shows that this process lives, whether or not it has a loop; rung for its inbox too.
    :ivar poll: ``poll(0)`` returns something if there is something to listen to at the home, else an empty list.
    :ivar last: returns the loop that was asked for last, if it has a doorbell; most processes have one loop.
    :ivar bell: the name of that doorbell.
    """

    def __init__(self, home: Home, rung: Callable[[Doorbell], None]) -> None:
        self._home = home
        self._rung = rung
        self.home = Doorbell(home)
        # Where there is no epoll, poll takes half as long again.
        self._poller: Any = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._poller.register(self.home.descriptor, select.POLLIN)
        self.poll: Callable[[int], list[tuple[int, int]]] = self._poller.poll
        self._free = [self.home]
        self._of_loop: dict[Doorbell, weakref.ref[asyncio.AbstractEventLoop]] = {}
        self._known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Doorbell] = weakref.WeakKeyDictionary()
        self.last: Callable[[], asyncio.AbstractEventLoop | None] = _no_loop
        self.bell = b""
        self._last_doorbell: Doorbell | None = None

    def __repr__(self) -> str:
        return f"<Bells of {len(self._of_loop)} loops, {len(self._free)} free>"

    def of(self, loop: asyncio.AbstractEventLoop) -> Doorbell | None:
        """The doorbell of ``loop``, if it has one."""
        if self.last() is loop:
            return self._last_doorbell
        doorbell = self._known.get(loop)
        if doorbell is not None:
            self.last, self.bell, self._last_doorbell = weakref.ref(loop), doorbell.bell, doorbell
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
            self.last = _no_loop
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
        self._stop_polling()
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
        self.last = _no_loop
        self._free.clear()

    def abandon(self) -> None:
        """In a forked child: close the descriptors, for the parent's FIFOs must have the parent alone as reader."""
        self._stop_polling()
        for doorbell in (*self._of_loop, *self._free):
            doorbell.close(unlink=False)

    def _stop_polling(self) -> None:
        if hasattr(self._poller, "close"):
            self._poller.close()


def _leave(loop: asyncio.AbstractEventLoop, doorbell: Doorbell) -> None:
    loop.remove_reader(doorbell.descriptor)
    doorbell.close()


def _no_loop() -> None:
    return None
