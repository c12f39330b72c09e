"""Sends that several tasks of one event loop make in the same turn travel together, in one transaction.

Beginning and committing a transaction costs as much as writing the message. A task that sends alone, or one message
after the other, does so at once: waiting for company would only cost it time.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence

SendEach = Callable[[Sequence[tuple[str, bytes]]], list[Exception | None]]  # why each was refused, if it was

MOST = 32  # messages in one transaction: a fraction of a millisecond, so that other processes come in between


class Together:
    """The sends of one event loop. Used in this loop only.

    :param send_each: sends channels' messages in their order.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send_each: SendEach) -> None:
        self._loop = weakref.ref(loop)  # whoever keeps this by its loop shall not keep the loop
        self._send_each = send_each
        self._waiting: list[tuple[tuple[str, bytes], asyncio.Future[None]]] = []
        self._turning = False
        self._task: asyncio.Task[object] | None = None
        self._crowded = False

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop() is loop

    def alone(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the running task should send at once, for itself: nobody else has sent in this turn, nor did several
        in the last one that had sends."""
        task = asyncio.current_task(loop)
        if not self._turning:
            self._turning = True
            self._task = task
            crowded, self._crowded = self._crowded, False
            loop.call_soon(self._turn_ends)
            return not crowded
        if task is self._task and not self._waiting:
            return True
        self._crowded = True
        return False

    def send(self, loop: asyncio.AbstractEventLoop, channel: str, body: bytes) -> asyncio.Future[None]:
        """Send with the others at the turn's end; returns what to await."""
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(((channel, body), future))
        if len(self._waiting) >= MOST:
            self.go()
        return future

    def go(self) -> None:
        """Send what waits."""
        waiting = [each for each in self._waiting if not each[1].cancelled()]
        self._waiting.clear()
        if not waiting:
            return
        outcomes = self._send_each([message for message, _ in waiting])
        for (_, future), error in zip(waiting, outcomes, strict=True):
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _turn_ends(self) -> None:
        self._turning = False
        self._task = None
        self.go()
