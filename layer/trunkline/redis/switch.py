"""An event loop's change from the shared thread to connections of its own: what it asked for before goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Switch:
    """Of one event loop, and used in it only.

    :ivar first: monotonic seconds since when the loop is known.
    :ivar uses: how often it asked for something.
    :ivar busy: whether something is under way in the shared thread, or waits for that.
    """

    __slots__ = ("_under_way", "_waiting", "busy", "first", "uses")

    def __init__(self, first: float) -> None:
        self.first = first
        self.uses = 0
        self.busy = False
        self._under_way = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def elsewhere(self, work: Awaitable[T]) -> T:
        """Follow work of the shared thread."""
        self._under_way += 1
        self.busy = True
        try:
            return await work
        finally:
            self._under_way -= 1
            self._look()
            if not self._under_way:
                for waiter in self._waiting:
                    _let_go(waiter)

    async def turn(self) -> None:
        """Wait until all that was asked for before is done; those who wait go on in the order in which they came."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        self.busy = True
        if not self._under_way:  # those before are about to go on; a future that is done would be no wait at all
            loop.call_soon(_let_go, waiter)
        try:
            await waiter
        finally:
            self._waiting.remove(waiter)
            self._look()

    def _look(self) -> None:
        self.busy = bool(self._under_way or self._waiting)


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
