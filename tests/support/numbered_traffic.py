"""Traffic in all three kinds (own channel, normal channel, group) that goes on through trouble, counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from types import TracebackType
from typing import Any

from trunkline import LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, within

PAUSE_S = 0.003  # between two sends of a writer
KINDS = ("direct", "queue", "group")


class Traffic:
    """Writers number what they send; a send that raised ``LayerUnavailable`` counts as unconfirmed and is not repeated.

    :ivar confirmed: numbers whose send returned, for each kind.
    :ivar unconfirmed: numbers whose send raised, for each kind.
    :ivar received: numbers in the order in which they came, for each kind.
    :ivar refusals: what the sends raised.
    """

    def __init__(self, sender: RedisChannelLayer, receiver: RedisChannelLayer) -> None:
        self.sender, self.receiver = sender, receiver
        self.confirmed: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self.unconfirmed: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self.received: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self.refusals: list[LayerUnavailable] = []
        self._stop = asyncio.Event()
        self._tasks = Tasks()
        self._readers: list[asyncio.Task[Any]] = []
        self._ended: list[asyncio.Task[Any]] = []
        self._writers: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Traffic:
        own, member = await self.receiver.new_channel(), await self.receiver.new_channel()
        await self.receiver.group_add("room", member)
        await self._tasks.__aenter__()
        start = self._tasks.start
        self._readers = [start(self._read(own)), start(self._read(member)), start(self._read("orders"))]
        self._writers = [start(self._write("direct", own)), start(self._write("queue", "orders"))]
        self._writers.append(start(self._write("group", "room")))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = [task for task in self._readers if task.done()]
        await self._tasks.__aexit__(kind, error, trace)

    def sent(self) -> dict[str, int]:
        """How many sends were confirmed, for each kind."""
        return {kind: len(self.confirmed[kind]) for kind in KINDS}

    async def more(self, count: int, deadline_s: float = 20.0) -> None:
        """Wait until so many more sends of each kind were confirmed."""
        before, end = self.sent(), time.monotonic() + deadline_s
        while min(now - before[kind] for kind, now in self.sent().items()) < count:
            assert time.monotonic() < end, f"sends do not go on: {before}, {self.sent()}, {self.refusals[-1:]}"
            await asyncio.sleep(0.02)

    async def end(self, deadline_s: float = 20.0) -> None:
        """Stop the writers and wait until everything that was confirmed has come."""
        self._stop.set()
        await within(asyncio.gather(*self._writers), deadline_s, "the end of the writers")
        end = time.monotonic() + deadline_s
        while self.missing() and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)  # a doubled message would come now

    def missing(self) -> int:
        return sum(len(set(self.confirmed[kind]) - set(self.received[kind])) for kind in KINDS)

    def check(self, *, at_least: int = 40) -> None:
        """Assert that nothing confirmed was lost, nothing doubled or turned round, and no consumer saw an error."""
        assert not self._ended, f"consumers saw an error: {self._ended}"
        for kind in KINDS:
            confirmed, received = set(self.confirmed[kind]), self.received[kind]
            assert len(confirmed) >= at_least, f"{kind}: {len(confirmed)} messages are too few to show anything"
            lost = sorted(confirmed - set(received))
            assert not lost, f"{kind}: {len(lost)} of {len(confirmed)} were lost, the first ones {lost[:10]}"
            doubled = [number for number, times in Counter(received).items() if times > 1]
            assert not doubled, f"{kind}: {len(doubled)} were doubled, the first ones {sorted(doubled)[:10]}"
            assert received == sorted(received), f"{kind}: some came out of order"
            unknown = set(received) - confirmed - set(self.unconfirmed[kind])
            assert not unknown, f"{kind}: nobody sent {sorted(unknown)[:10]}"

    async def _write(self, kind: str, target: str) -> None:
        send = self.sender.group_send if kind == "group" else self.sender.send
        number = 0
        while not self._stop.is_set():
            try:
                await send(target, {"type": "test.numbered", "kind": kind, "number": number})
                self.confirmed[kind].append(number)
            except LayerUnavailable as refusal:
                self.refusals.append(refusal)
                self.unconfirmed[kind].append(number)
                await asyncio.sleep(0.05)
            number += 1
            await asyncio.sleep(PAUSE_S)

    async def _read(self, channel: str) -> None:
        while True:
            message = await self.receiver.receive(channel)
            self.received[message["kind"]].append(message["number"])
