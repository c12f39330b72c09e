"""Counting what arrives: which message, where, how often, and when the last one did."""

from __future__ import annotations

import asyncio
import time

STALL_S = 10.0  # nothing new for so long, and what is missing counts as lost
AFTERMATH_S = 0.2  # how long to look for messages that arrive once more


class Tally:
    """Counts the messages of ``places`` channels with ``each`` numbers; warm-up messages are told apart."""

    def __init__(self, places: int, each: int) -> None:
        self._seen = [bytearray(each) for _ in range(places)]
        self._warm: set[int] = set()
        self._awaited = 0
        self._reached = asyncio.Event()
        self._all_warm = asyncio.Event()
        self.expected = places * each
        self.distinct = 0
        self.received = 0
        self.last = 0.0

    def note(self, place: int, number: int) -> None:
        """Count message ``number``, received now on channel ``place``; a negative number is a warm-up."""
        if number < 0:
            self._warm.add(place)
            if len(self._warm) == len(self._seen):
                self._all_warm.set()
            return
        self.received += 1
        self.last = time.monotonic()
        if not self._seen[place][number]:
            self._seen[place][number] = 1
            self.distinct += 1
            if self.distinct == self._awaited:
                self._reached.set()

    async def warm(self) -> None:
        """Return once every place has had a warm-up message."""
        await self._all_warm.wait()

    async def until(self, distinct: int) -> None:
        """Return when so many different messages have arrived, or nothing more does."""
        self._awaited = distinct
        self._reached.clear()
        while self.distinct < distinct:
            before = self.received
            try:
                await asyncio.wait_for(self._reached.wait(), STALL_S)
            except asyncio.TimeoutError:
                if self.received == before:
                    return

    async def settle(self) -> None:
        """Return when all have arrived, or nothing more does; then look for doubled ones."""
        await self.until(self.expected)
        await asyncio.sleep(AFTERMATH_S)

    def result(self) -> dict[str, float]:
        return {
            "received": self.received,
            "lost": self.expected - self.distinct,
            "doubled": self.received - self.distinct,
            "last": self.last,
        }


class Counted:
    """The sum of several tallies."""

    def __init__(self) -> None:
        self._sums = {"received": 0.0, "lost": 0.0, "doubled": 0.0}

    def add(self, tally: Tally) -> None:
        result = tally.result()
        self._sums = {name: value + result[name] for name, value in self._sums.items()}

    def result(self) -> dict[str, float]:
        return self._sums
