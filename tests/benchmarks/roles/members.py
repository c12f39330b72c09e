"""What one group send costs while the members of one process grow: its sender, the receiving process, and Redis."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable
from typing import Any, NamedTuple

import redis

from benchmarks.link import Link
from benchmarks.load import SIZES, Load, message
from benchmarks.roles.common import GROUP, WARM, WARM_EVERY_S, Members, Result, repeat_until
from benchmarks.tally import Counted

PACED = 8  # sends for the server's work, at one pace for all sizes: after a longer sleep it does the same more slowly
PACE_S = 0.1
SPREAD = 8  # commands; acknowledgements travel with their send or with the next one, a beat has sixty and more


class Work(NamedTuple):
    """What a server did."""

    busy_us: float
    commands: float


async def growing_sender(layer: Any, link: Link, load: Load) -> Result:
    """One send at a time: the next one goes when the last member has had it."""
    values: dict[str, float] = {}
    sent = 0
    with _Server(load.redis_url) as server:
        for size in SIZES:
            await link.hear()
            # A warm-up that many have to hear takes long, and a second one would stand before what is measured.
            every = WARM_EVERY_S * size / SIZES[0]
            await repeat_until(link.hear(), lambda: layer.group_send(GROUP, message(WARM)), every)
            awaited, delivered = [], []
            for number in range(load.messages):
                begun = time.monotonic()
                await layer.group_send(GROUP, message(number))
                awaited.append(time.monotonic() - begun)
                delivered.append(await link.hear() - begun)

            async def send(number: int) -> None:
                await layer.group_send(GROUP, message(number))
                await link.hear()

            idle = [await server.in_a_pace() for _ in range(_paced(load))]
            works = [await server.in_a_pace(send(load.messages + number)) for number in range(_paced(load))]
            sent += (load.messages + _paced(load)) * load.of(size)
            await link.hear()
            values[f"awaited_{size}"] = statistics.median(awaited) * 1e3
            values[f"delivered_{size}"] = statistics.median(delivered) * 1e3
            if works:
                work, nothing = _usual(works), _usual(idle)
                values[f"server_{size}"] = work.busy_us - nothing.busy_us
                values[f"commands_{size}"] = work.commands - nothing.commands
    return {"sent": sent, "values": values}


def _paced(load: Load) -> int:
    return PACED if load.redis_url else 0


class _Server:
    """What Redis did, by its own counts: its main thread's processor time, as waiting for the processor is no work."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=5) if url else None

    def __enter__(self) -> _Server:
        if self._client:
            self._client.config_set("hz", 1)  # its housekeeping ten times a second would be part of what is measured
        return self

    def __exit__(self, *_: object) -> None:
        if self._client:
            self._client.config_set("hz", 10)
            self._client.close()

    async def in_a_pace(self, action: Awaitable[None] | None = None) -> Work:
        """What it does for ``action``, or for nothing, within ``PACE_S`` (longer, if the action takes longer)."""
        before, end = self._look(), time.monotonic() + PACE_S
        if action is not None:
            await action
        await asyncio.sleep(end - time.monotonic())
        after = self._look()
        return Work(after.busy_us - before.busy_us, after.commands - before.commands)

    def _look(self) -> Work:
        assert self._client is not None
        cpu, stats = self._client.info("cpu"), self._client.info("stats")
        return Work(
            (cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]) * 1e6,
            stats["total_commands_processed"],
        )


def _usual(works: list[Work]) -> Work:
    """The medians of those with the fewest commands: beats go on at any time, but fall into some only."""
    fewest = min(work.commands for work in works)
    quiet = [work for work in works if work.commands <= fewest + SPREAD]
    return Work(statistics.median(work.busy_us for work in quiet), statistics.median(work.commands for work in quiet))


async def growing_member(layer: Any, link: Link, load: Load) -> Result:
    members = Members(layer)
    counted = Counted()
    for size in SIZES:
        await members.grow(load.of(size), load.messages + _paced(load))
        await link.say("joined")
        await members.unless_failed(members.tally.warm())
        await link.say("warm")
        for number in range(load.messages + _paced(load)):
            await members.unless_failed(members.tally.until((number + 1) * load.of(size)))
            await link.say(members.tally.last)
        await members.unless_failed(members.tally.settle())
        counted.add(members.tally)
        await link.say("counted")
    return counted.result()
