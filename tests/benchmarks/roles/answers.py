"""Questions and answers between process-specific channels."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from benchmarks.link import Link
from benchmarks.load import SENDS_IN_FLIGHT, Load, message
from benchmarks.roles.common import WARM, Result, repeat_until, unless_failed
from benchmarks.tally import AFTERMATH_S


async def asker(layer: Any, link: Link, load: Load, pairs: int = SENDS_IN_FLIGHT) -> Result:
    """Ask on each pair's channel, one question under way on each, and time every answer."""
    theirs = await link.hear()
    mine = [await layer.new_channel() for _ in range(pairs)]
    numbers = iter(range(load.messages))
    delays: list[float] = []
    sent = unexpected = 0

    async def warm(question: str, answer: str) -> None:
        await repeat_until(layer.receive(answer), lambda: layer.send(question, message(WARM, reply=answer)))

    async def ask(question: str, answer: str) -> None:
        nonlocal sent, unexpected
        for number in numbers:
            begun = time.perf_counter()
            await layer.send(question, message(number, reply=answer))
            sent += 1
            while (got := (await layer.receive(answer))["n"]) != number:
                unexpected += got != WARM
            delays.append(time.perf_counter() - begun)

    async def late(answer: str) -> None:
        nonlocal unexpected
        while True:
            unexpected += (await layer.receive(answer))["n"] != WARM

    await asyncio.gather(*map(warm, theirs, mine))
    first = time.monotonic()
    await asyncio.gather(*map(ask, theirs, mine))
    last = time.monotonic()
    readers = [asyncio.ensure_future(late(answer)) for answer in mine]
    await unless_failed(readers, asyncio.sleep(AFTERMATH_S))
    await link.say("done")
    return {
        "sent": sent,
        "received": len(delays) + unexpected,
        "lost": sent - len(delays),
        "doubled": unexpected,
        "first": first,
        "last": last,
        "values": {"median": statistics.median(delays) * 1e6},
    }


async def answerer(layer: Any, link: Link, load: Load, pairs: int = SENDS_IN_FLIGHT) -> Result:
    channels = [await layer.new_channel() for _ in range(pairs)]

    async def answer(channel: str) -> None:
        while True:
            asked = await layer.receive(channel)
            await layer.send(asked["reply"], message(asked["n"]))

    readers = [asyncio.ensure_future(answer(channel)) for channel in channels]
    await link.say(channels)
    await unless_failed(readers, link.hear())
    return {}


async def asker_one(layer: Any, link: Link, load: Load) -> Result:
    return await asker(layer, link, load, pairs=1)


async def answerer_one(layer: Any, link: Link, load: Load) -> Result:
    return await answerer(layer, link, load, pairs=1)
