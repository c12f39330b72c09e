"""A mailbox to tell stories with: its clock stands still, and what it tells its transport is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from trunkline.codec import Shared
from trunkline.mailbox import Mailbox
from trunkline.stats import Counters

OWN = "specific." + "a" * 24 + "!"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class RealClock(Clock):
    def __call__(self) -> float:
        return time.monotonic()


class Story:
    """A mailbox with a clock that stands still, and a record of what the transport was told."""

    def __init__(self, capacity: int = 3, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.counters = Counters()
        self.told: list[object] = []
        self.box = Mailbox(
            capacity_of=lambda _channel: capacity,
            idle=60,
            clock=self.clock,
            consumed=lambda _channel, token, _capacity: self.told.append(token),
            counters=self.counters,
        )

    def direct(self, local: str, body: bytes, token: object, life: float = 60) -> None:
        self.box.deliver(OWN + local, self.clock() + life, body, token)

    async def receive(self, channel: str) -> bytes:
        """As the layer does."""
        waited = False
        while True:
            got = self.box.ask(channel, waited)
            if got is None:
                self.box.open(channel)
                continue
            if isinstance(got, (bytes, Shared)):
                return got if isinstance(got, bytes) else got.body
            try:
                await got
            except BaseException:
                self.box.withdraw(channel, got)
                raise
            waited = True

    def group(self, group: str, body: bytes) -> int:
        return self.box.deliver_group(group, self.clock() + 60, body)


async def soon(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), 5)
