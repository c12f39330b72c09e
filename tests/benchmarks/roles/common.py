"""What several roles need: readers that count, sends in flight, and a way that is proved to be open."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from benchmarks.link import Link
from benchmarks.load import SENDS_IN_FLIGHT, Load
from benchmarks.tally import Tally

Result = dict[str, Any]
Role = Callable[[Any, Link, Load], Awaitable[Result]]

GROUP = "bench-group"
WARM = -1  # the number of a message that only proves that the way is open
WARM_EVERY_S = 0.25  # a subscription that isn't in place yet loses a message; then the next one proves it


async def repeat_until(done: Awaitable[Any], send: Callable[[], Awaitable[Any]], every: float = WARM_EVERY_S) -> Any:
    """Send every so many seconds until ``done``, whose result this returns."""
    waiting = asyncio.ensure_future(done)
    while not waiting.done():
        await send()
        await asyncio.wait({waiting}, timeout=every)
    return waiting.result()


async def in_flight(calls: Iterable[Callable[[], Awaitable[Any]]]) -> None:
    """Make all calls in order, at most ``SENDS_IN_FLIGHT`` of them unfinished at a time."""
    left = iter(calls)

    async def work() -> None:
        for call in left:
            await call()

    await asyncio.gather(*(work() for _ in range(SENDS_IN_FLIGHT)))


async def read(layer: Any, channel: str, tally: Tally, place: int) -> None:
    """Count what arrives on ``channel``, for ever."""
    while True:
        tally.note(place, (await layer.receive(channel))["n"])


class Members:
    """Channels of this process in one group, each with a reader.

    :ivar tally: what the readers count in; its places are the channels.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._count = 0
        self.tally = Tally(0, 0)
        self.readers: list[asyncio.Future[None]] = []

    async def grow(self, members: int, messages: int) -> None:
        """Let more join until there are so many, and count so many messages anew."""
        self.tally = Tally(members, messages)
        await in_flight(partial(self._join, place) for place in range(self._count, members))
        self._count = members

    async def _join(self, place: int) -> None:
        channel = await self._layer.new_channel()
        await self._layer.group_add(GROUP, channel)
        self.readers.append(asyncio.ensure_future(self._read(channel, place)))

    async def _read(self, channel: str, place: int) -> None:
        while True:
            number = (await self._layer.receive(channel))["n"]
            self.tally.note(place, number)

    async def unless_failed(self, work: Awaitable[Any]) -> None:
        await unless_failed(self.readers, work)


async def unless_failed(readers: Sequence[asyncio.Future[Any]], work: Awaitable[Any]) -> None:
    """Await ``work``, or raise what ended one of the readers, which never end otherwise."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task, *readers}, return_when=asyncio.FIRST_COMPLETED)
    for one in itertools.chain(done - {task}, [task]):
        one.result()
