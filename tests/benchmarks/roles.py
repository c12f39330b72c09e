"""What each of the two processes of a row does, through the public channel layer API alone.

Every role is a coroutine function of the layer, the link to the other process and the number of messages, and
returns what it counted. Times are CLOCK_MONOTONIC, which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.link import Link
from benchmarks.plan import MEMBERS, QUEUE_RECEIVERS, SENDS_IN_FLIGHT, message
from benchmarks.tally import AFTERMATH_S, Tally

Result = dict[str, Any]
Role = Callable[[Any, Link, int], Awaitable[Result]]

QUEUE = "bench-queue"
GROUP = "bench-group"
WARM = -1  # the number of a message that only proves that the way is open
WARM_EVERY_S = 0.25  # a subscription that isn't in place yet loses a message; then the next one proves it


async def repeat_until(done: Awaitable[Any], send: Callable[[], Awaitable[Any]]) -> Any:
    """Send now and again until ``done``, whose result this returns."""
    waiting = asyncio.ensure_future(done)
    while not waiting.done():
        await send()
        await asyncio.wait({waiting}, timeout=WARM_EVERY_S)
    return waiting.result()


async def queue_sender(layer: Any, link: Link, messages: int) -> Result:
    await repeat_until(link.hear(), lambda: layer.send(QUEUE, message(WARM)))
    numbers = iter(range(messages))
    sent = 0

    async def send_some() -> None:
        nonlocal sent
        for number in numbers:
            await layer.send(QUEUE, message(number))
            sent += 1

    first = time.monotonic()
    await asyncio.gather(*(send_some() for _ in range(SENDS_IN_FLIGHT)))
    await link.hear()  # a process's messages may go with it, so it stays until they have been read
    return {"sent": sent, "first": first}


async def queue_receiver(layer: Any, link: Link, messages: int) -> Result:
    tally = Tally(1, messages)
    readers = [asyncio.ensure_future(_read(layer, QUEUE, tally, 0)) for _ in range(QUEUE_RECEIVERS)]
    await _unless_failed(readers, tally.warm())
    await link.say("warm")
    await _unless_failed(readers, tally.settle())
    await link.say("done")
    return tally.result()


async def group_sender(layer: Any, link: Link, messages: int) -> Result:
    tally, readers = await _join(layer, messages)
    await link.hear()
    both_warm = asyncio.gather(tally.warm(), link.hear())
    await _unless_failed(readers, repeat_until(both_warm, lambda: layer.group_send(GROUP, message(WARM))))
    await link.say("go")
    first = time.monotonic()
    for number in range(messages):
        await layer.group_send(GROUP, message(number))
    await _unless_failed(readers, tally.settle())
    await link.hear()
    return {"sent": messages * MEMBERS * 2, "first": first, **tally.result()}


async def group_member(layer: Any, link: Link, messages: int) -> Result:
    tally, readers = await _join(layer, messages)
    await link.say("joined")
    await _unless_failed(readers, tally.warm())
    await link.say("warm")
    await link.hear()
    await _unless_failed(readers, tally.settle())
    await link.say("done")
    return tally.result()


async def _join(layer: Any, messages: int) -> tuple[Tally, Sequence[asyncio.Future[None]]]:
    tally = Tally(MEMBERS, messages)
    readers = []
    for place in range(MEMBERS):
        channel = await layer.new_channel()
        await layer.group_add(GROUP, channel)
        readers.append(asyncio.ensure_future(_read(layer, channel, tally, place)))
    return tally, readers


async def asker(layer: Any, link: Link, messages: int, pairs: int = SENDS_IN_FLIGHT) -> Result:
    """Ask on each pair's channel, one question under way on each, and time every answer."""
    theirs = await link.hear()
    mine = [await layer.new_channel() for _ in range(pairs)]
    numbers = iter(range(messages))
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
    await _unless_failed(readers, asyncio.sleep(AFTERMATH_S))
    await link.say("done")
    return {
        "sent": sent,
        "received": len(delays) + unexpected,
        "lost": sent - len(delays),
        "doubled": unexpected,
        "first": first,
        "last": last,
        "median_s": statistics.median(delays),
    }


async def answerer(layer: Any, link: Link, messages: int, pairs: int = SENDS_IN_FLIGHT) -> Result:
    channels = [await layer.new_channel() for _ in range(pairs)]

    async def answer(channel: str) -> None:
        while True:
            asked = await layer.receive(channel)
            await layer.send(asked["reply"], message(asked["n"]))

    readers = [asyncio.ensure_future(answer(channel)) for channel in channels]
    await link.say(channels)
    await _unless_failed(readers, link.hear())
    return {}


async def asker_one(layer: Any, link: Link, messages: int) -> Result:
    return await asker(layer, link, messages, pairs=1)


async def answerer_one(layer: Any, link: Link, messages: int) -> Result:
    return await answerer(layer, link, messages, pairs=1)


async def _read(layer: Any, channel: str, tally: Tally, place: int) -> None:
    while True:
        tally.note(place, (await layer.receive(channel))["n"])


async def _unless_failed(readers: Sequence[asyncio.Future[None]], work: Awaitable[Any]) -> None:
    """Await ``work``, or raise what ended one of the readers, which never end otherwise."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task, *readers}, return_when=asyncio.FIRST_COMPLETED)
    for one in itertools.chain(done - {task}, [task]):
        one.result()


ROLES: dict[str, Role] = {
    role.__name__: role
    for role in (
        queue_sender,
        queue_receiver,
        asker,
        answerer,
        asker_one,
        answerer_one,
        group_sender,
        group_member,
    )
}
