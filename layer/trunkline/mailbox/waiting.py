"""Receivers that wait, and receivers that let others run first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")
Waiter = asyncio.Future[None]

TURN = 0.002  # seconds for which receivers may take messages without waiting before other tasks get their turn
SLICE = 16  # members, at least, that are woken in one round of the event loop: others wait some ten microseconds
MOST_GROWTH = 16  # times as many in the next round, at most
LAG = 0.02  # seconds
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


class Slices(Generic[T]):
    """Has the receivers of one event loop woken in portions, one in each of its rounds, until all have had their turn.

    So a message for ten thousand members doesn't keep the loop from everything else, and a member that further messages
    reach before its turn receives all of them when it is woken once. A portion grows where a round is long for other
    reasons: the receivers get as much of the loop's time as everything else together.

    :param wake: takes those whose turn it is, in the loop.
    :param clock: monotonic seconds.
    :ivar loop: where the receivers wait.
    """

    __slots__ = ("_after", "_began", "_clock", "_due", "_ended", "_many", "_since", "_wake", "loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wake: Callable[[list[T]], None], clock: Callable[[], float]
    ) -> None:
        self.loop = loop
        self._wake = wake
        self._clock = clock
        self._due: deque[T] = deque()
        self._many = SLICE
        self._since = self._began = self._ended = 0.0
        self._after: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self._due)

    def add(self, due: list[T], begun: float) -> None:
        """Have these woken after those of earlier calls; to be called in the loop.

        :param begun: when the caller began to look for them, which is not what the rest of the loop takes for itself.
        """
        now = self._clock()
        if self._due:
            self._ended += now - begun
            self._due.extend(due)
        elif due:
            self._due.extend(due)
            self._many = SLICE
            self._since = now
            self._next()

    def lag(self) -> bool:
        """Whether some have been due for so long that no more should be read for them."""
        return bool(self._due) and self._clock() - self._since > LAG

    def then(self, action: Callable[[], None]) -> None:
        """Do it in the loop when nobody is due any more."""
        self._after.append(action)

    def _next(self) -> None:
        due = self._due
        some = [due.popleft() for _ in range(min(len(due), self._many))]
        try:
            if due:
                self.loop.call_soon(self._begin)
            self._wake(some)
        finally:
            self._ended = self._clock()
            if due:
                self.loop.call_soon(self._measure)  # when those just woken have run
            else:
                after, self._after = self._after, []
                for action in after:
                    self.loop.call_soon(action)

    def _begin(self) -> None:
        self._began = self._clock()

    def _measure(self) -> None:
        ours, others = self._clock() - self._began, self._began - self._ended
        self._many = max(SLICE, min(int(self._many * others / max(ours, 1e-6)), self._many * MOST_GROWTH))
        self._next()


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
