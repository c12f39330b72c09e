"""Joining and leaving: how fast, and whether exactly the members get what is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.link import Link
from benchmarks.load import JOINED, Load, message
from benchmarks.roles.common import GROUP, WARM, Result, in_flight, read, repeat_until, unless_failed
from benchmarks.tally import AFTERMATH_S, Tally

WARM_GROUP = "bench-warm"
LEFT_TOLD = 300  # of the groups that were left, so many get one more message, for nobody

Place = Callable[[int], str]  # the group of the n-th channel


def planned(load: Load) -> tuple[int, int]:
    """How many channels join and leave, and how often."""
    count = min(load.of(JOINED), load.messages)
    return count, load.messages // count


async def _joiner(layer: Any, link: Link, load: Load, group: Place) -> Result:
    """Join and leave with all channels, as often as the load says; after the last join all hear one message."""
    count, cycles = planned(load)
    channels = [await layer.new_channel() for _ in range(count)]
    await _warm(layer, link)
    tally = Tally(count, 1)
    readers: list[asyncio.Future[None]] = []
    joining = leaving = 0.0
    for cycle in range(cycles):
        begun = time.perf_counter()
        await in_flight(partial(layer.group_add, group(place), channel) for place, channel in enumerate(channels))
        joining += time.perf_counter() - begun
        if cycle == cycles - 1:
            readers = [
                asyncio.ensure_future(read(layer, channel, tally, place)) for place, channel in enumerate(channels)
            ]
            await link.say("joined")
            await unless_failed(readers, tally.settle())
        begun = time.perf_counter()
        await in_flight(partial(layer.group_discard, group(place), channel) for place, channel in enumerate(channels))
        leaving += time.perf_counter() - begun
    await link.say("left")
    await link.hear()
    await unless_failed(readers, asyncio.sleep(AFTERMATH_S))  # who has left must hear nothing
    values = {"joins": cycles * count / joining, "leaves": cycles * count / leaving}
    return {"sent": count, "values": values, **tally.result()}


async def _prover(layer: Any, link: Link, load: Load, group: Place) -> Result:
    """Send one message to each group when all have joined, and again when all have left."""
    await repeat_until(link.hear(), lambda: layer.group_send(WARM_GROUP, message(WARM)))
    groups = list(dict.fromkeys(map(group, range(planned(load)[0]))))
    for told in (groups, groups[:LEFT_TOLD]):
        await link.hear()
        await in_flight(partial(layer.group_send, name, message(0)) for name in told)
    await link.say("told")
    return {}


async def _warm(layer: Any, link: Link) -> None:
    """Prove the way by a group and a channel that are not counted, which stay for good."""
    channel = await layer.new_channel()
    await layer.group_add(WARM_GROUP, channel)
    await layer.receive(channel)
    await link.say("warm")


def _one(_place: int) -> str:
    return GROUP


def distinct(place: int) -> str:
    return f"{GROUP}-{place}"


async def joiner_one_group(layer: Any, link: Link, load: Load) -> Result:
    return await _joiner(layer, link, load, _one)


async def prover_one_group(layer: Any, link: Link, load: Load) -> Result:
    return await _prover(layer, link, load, _one)


async def joiner_distinct(layer: Any, link: Link, load: Load) -> Result:
    return await _joiner(layer, link, load, distinct)


async def prover_distinct(layer: Any, link: Link, load: Load) -> Result:
    return await _prover(layer, link, load, distinct)
