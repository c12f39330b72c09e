"""Receivers that wait, and receivers that let others run first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator

Waiter = asyncio.Future[None]

TURN = 0.002  # seconds for which receivers may take messages without waiting before other tasks get their turn
SLICE = 16  # members that are woken in one round of the event loop: some ten microseconds until others get their turn
STUCK = 0.5  # seconds after which an event loop that was to begin a turn counts as standing still


class NextTurn:
    """Awaiting it lets everything else that is ready run once."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


NEXT_TURN = NextTurn()


class Turns:
    """Bounds for how long receivers that find messages, and so never wait, keep an event loop to themselves.

    When a turn has lasted ``TURN``, every receiver has to let the others run before its next message, until the event
    loop has come round: so one round takes ``TURN`` and one message of each receiver that is ready, however many
    messages lie there. Event loops of several threads share the turns, which at worst lets them pause more often.

    :ivar ends: when the turn ends, in the clock that ``over`` and ``clock`` share.
    """

    __slots__ = ("_asked", "_clock", "ends")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked: float | None = None
        self.ends = 0.0

    def over(self, now: float) -> NextTurn:
        """The turn has ended: what the receiver, which has not waited, has to await before it takes a message."""
        if self._asked is None or now - self._asked > STUCK:
            self._asked = now
            asyncio.get_running_loop().call_soon(self._begin)
        return NEXT_TURN

    def _begin(self) -> None:
        self.ends = self._clock() + TURN
        self._asked = None


class Slices:
    """Wakes many receivers of one event loop, some in each of its rounds.

    So a message for ten thousand members doesn't keep the loop from everything else, and a member that further messages
    reach before its turn comes receives all of them when it is woken once.

    :ivar loop: where the receivers wait.
    """

    __slots__ = ("_due", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._due: deque[Waiter] = deque()

    def wake(self, waiters: list[Waiter]) -> None:
        """Wake them in their order, after those of earlier calls; to be called in the loop."""
        waiting = bool(self._due)
        self._due.extend(waiters)
        if not waiting:
            self._go_on()

    def _go_on(self) -> None:
        due = self._due
        for _ in range(min(len(due), SLICE)):
            waiter = due.popleft()
            if not waiter.done():
                waiter.set_result(None)
        if due:
            self.loop.call_soon(self._go_on)


def wake(waiter: Waiter, running: asyncio.AbstractEventLoop | None) -> bool:
    """Wake a receiver, whatever loop it lives in; returns whether it still waited.

    :param running: the event loop that runs in this thread.
    """
    if waiter.done():
        return False
    loop = waiter.get_loop()
    if loop is running:
        waiter.set_result(None)
        return True
    try:
        loop.call_soon_threadsafe(_wake, waiter)
    except RuntimeError:  # its loop closed without a word
        return False
    return True


def wake_one(waiters: deque[Waiter]) -> bool:
    """Wake the first waiter that still waits, whatever loop it lives in; waiters of closed loops are forgotten."""
    if not waiters:
        return False
    running = asyncio._get_running_loop()
    while waiters:
        if wake(waiters.popleft(), running):
            return True
    return False


def _wake(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)


def fail_one(waiter: Waiter, error: Exception) -> None:
    """Let a receiver raise ``error``; to be called in its own loop."""
    if not waiter.done():
        waiter.set_exception(error)
        waiter.exception()  # who was cancelled in the same turn won't look at it, and nobody shall be told of that
