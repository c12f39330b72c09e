"""Steady traffic over every path of a layer, each message numbered, timed and accounted for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from trunkline.conformance.api import ChannelLayer

Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class Path:
    """One way that messages take: how to send on it, and the channels at whose end each of them should arrive.

    :ivar kept: nobody receives from the ends before all was sent: what is lost on a server is seen to be lost.
    :ivar acknowledged: number -> when its send returned.
    :ivar raised: number -> the error of its send.
    :ivar arrived: by channel: number -> when it was received, first time.
    :ivar repeats: by channel: numbers that came more than once.
    """

    name: str
    send: Send
    ends: tuple[str, ...]
    kept: bool = False
    sent: int = 0
    acknowledged: dict[int, float] = field(default_factory=dict)
    raised: dict[int, Exception] = field(default_factory=dict)
    arrived: dict[str, dict[int, float]] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> dict[int, float]:
        """Messages whose send returned and that did not arrive at some end: number -> when the send returned."""
        return {
            number: at
            for number, at in self.acknowledged.items()
            if any(number not in self.arrived[end] for end in self.ends)
        }

    def first_after(self, at: float) -> float:
        """Seconds from ``at`` until a message was received that was also sent by then or later."""
        times = [when for numbers in self.arrived.values() for when in numbers.values() if when >= at]
        return min(times, default=float("inf")) - at


class Traffic:
    """Sends ``rate`` messages a second, evenly over its paths, until it is stopped; an asynchronous context manager."""

    def __init__(self, paths: Iterable[Path], receivers: Iterable[tuple[ChannelLayer, str]], rate: float) -> None:
        self.paths = list(paths)
        self._receivers = list(receivers)
        self._rate = rate
        self._sends: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.last_arrival = 0.0

    async def __aenter__(self) -> Traffic:
        for path in self.paths:
            path.arrived = {end: {} for end in path.ends}
        self._sending = asyncio.ensure_future(self._run())
        self._tasks = [self._sending]
        self._listen(kept=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._tasks, *self._sends):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._sends, return_exceptions=True)

    def add(self, path: Path) -> None:
        """One more path from now on, to ends that have receivers already."""
        path.arrived = {end: {} for end in path.ends}
        self.paths.append(path)

    def _listen(self, *, kept: bool) -> None:
        ends = {end for path in self.paths if path.kept for end in path.ends}
        chosen = [(layer, channel) for layer, channel in self._receivers if (channel in ends) is kept]
        self._tasks += [asyncio.ensure_future(self._receive(layer, channel)) for layer, channel in chosen]

    async def finish(self, quiet_s: float, deadline_s: float) -> None:
        """Stop sending; return when all sends have ended and nothing has arrived for ``quiet_s`` seconds."""
        self._sending.cancel()
        end = time.monotonic() + deadline_s
        if self._sends:
            await asyncio.wait(set(self._sends), timeout=deadline_s)
        assert not self._sends, f"{len(self._sends)} sends neither returned nor raised"
        self._listen(kept=True)
        self.last_arrival = time.monotonic()
        while time.monotonic() - self.last_arrival < quiet_s and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def _run(self) -> None:
        began, count = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self._rate)
            for number in range(count, due):
                path = self.paths[number % len(self.paths)]
                task = asyncio.ensure_future(self._send(path, path.sent))
                path.sent += 1
                self._sends.add(task)
                task.add_done_callback(self._sends.discard)
            count = due
            await asyncio.sleep(0.01)

    async def _send(self, path: Path, number: int) -> None:
        try:
            await path.send({"type": "test.numbered", "path": path.name, "number": number})
        except Exception as error:
            path.raised[number] = error
        else:
            path.acknowledged[number] = time.monotonic()

    async def _receive(self, layer: ChannelLayer, channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            path = next(path for path in self.paths if path.name == message["path"])
            number = message["number"]
            self.last_arrival = time.monotonic()
            if number in path.arrived[channel]:
                path.repeats[channel] += 1
            else:
                path.arrived[channel][number] = self.last_arrival
