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
    """

    __slots__ = ("_under_way", "_waiting", "first", "uses")

    def __init__(self, first: float) -> None:
        self.first = first
        self.uses = 0
        self._under_way = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def busy(self) -> bool:
        """Whether something is under way in the shared thread, or waits for that."""
        return bool(self._under_way or self._waiting)

    async def elsewhere(self, work: Awaitable[T]) -> T:
        """Follow work of the shared thread."""
        self._under_way += 1
        try:
            return await work
        finally:
            self._under_way -= 1
            if not self._under_way:
                for waiter in self._waiting:
                    _let_go(waiter)

    async def turn(self) -> None:
        """Wait until all that was asked for before is done; those who wait go on in the order in which they came."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        if not self._under_way:  # those before are about to go on; a future that is done would be no wait at all
            loop.call_soon(_let_go, waiter)
        try:
            await waiter
        finally:
            self._waiting.remove(waiter)


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
