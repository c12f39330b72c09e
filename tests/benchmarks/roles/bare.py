"""The rows' workloads as plain loops over the Redis layer's own commands, with as many messages in one step as the
layer has in flight."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from benchmarks.bare import Member
from benchmarks.bare.lines import Command
from benchmarks.bare.member import Got
from benchmarks.link import Link
from benchmarks.load import MEMBERS, QUEUE_RECEIVERS, SENDS_IN_FLIGHT, Load, message
from benchmarks.roles.common import GROUP, WARM, Result
from benchmarks.roles.joins import LEFT_TOLD, WARM_GROUP, distinct, planned
from benchmarks.roles.queue import QUEUE
from benchmarks.roles.threads import sends_a_second
from benchmarks.tally import AFTERMATH_S, Tally
from trunkline.redis.inbox import BLOCK_MS

T = TypeVar("T")

ACK_S = 0.02  # how long the layer gathers acknowledgements of group messages
AFTERMATH_MS = int(AFTERMATH_S * 1000)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, SENDS_IN_FLIGHT)):
        yield batch


async def bare_queue_sender(member: Member, link: Link, load: Load) -> Result:
    await member.start()
    await member.out.call(member.push(QUEUE, [message(WARM)]))
    await link.hear()
    first = time.monotonic()
    for batch in _batches(range(load.messages)):
        ((_, letters),) = await member.out.call(member.push(QUEUE, map(message, batch)))
        assert letters == b"k" * len(batch), letters
    await link.hear()
    return {"sent": load.messages, "first": first}


async def bare_queue_receiver(member: Member, link: Link, load: Load) -> Result:
    await member.start()
    tally = Tally(1, load.messages)
    warm = left = False
    while tally.distinct < tally.expected:
        if not left:
            await member.listen(QUEUE)
        got, left = await member.take(QUEUE, QUEUE_RECEIVERS)
        for one in got:
            tally.note(0, one["n"])
        if not warm and got:
            warm = True
            await link.say("warm")
    await link.say("done")
    return tally.result()


async def bare_asker(member: Member, link: Link, load: Load, pairs: int = SENDS_IN_FLIGHT) -> Result:
    """Ask on all pairs at once, and again when all have answered; the first time is the warm-up."""
    await member.start()
    theirs = await link.hear()
    mine = [member.new_channel(number) for number in range(pairs)]
    delays: list[float] = []
    received = 0
    acks: list[Command] = []
    numbers = iter(range(load.messages))
    first = last = 0.0
    batch: Sequence[int] = [WARM] * pairs
    while batch:
        begun = time.perf_counter()
        asked = [
            (question, message(number, reply=answer))
            for question, answer, number in zip(theirs, mine, batch, strict=False)
        ]
        await member.out.call(*acks, *member.direct(asked))
        got: list[Got] = []
        while len(got) < len(batch):
            got += await member.read()
        acks = member.acks(got)
        if first:
            last = time.monotonic()
            delays.append(time.perf_counter() - begun)
            received += len({(one.name, one.message()["n"]) for one in got})
        else:
            first = time.monotonic()
        batch = list(islice(numbers, pairs))
    await link.say("done")
    return {
        "sent": load.messages,
        "received": received,
        "lost": load.messages - received,
        "first": first,
        "last": last,
        "values": {"median": statistics.median(delays) * 1e6},
    }


async def bare_answerer(member: Member, link: Link, load: Load, pairs: int = SENDS_IN_FLIGHT) -> Result:
    await member.start()
    await link.say([member.new_channel(number) for number in range(pairs)])
    left = load.messages + pairs
    acks: list[Command] = []
    while left:
        got = await member.read()
        questions = [one.message() for one in got]
        answers = [(asked["reply"], message(asked["n"])) for asked in questions]
        await member.out.call(*acks, *member.direct(answers))
        acks = member.acks(got)
        left -= len(got)
    await link.hear()
    return {}


async def bare_asker_one(member: Member, link: Link, load: Load) -> Result:
    return await bare_asker(member, link, load, pairs=1)


async def bare_answerer_one(member: Member, link: Link, load: Load) -> Result:
    return await bare_answerer(member, link, load, pairs=1)


async def bare_group_sender(member: Member, link: Link, load: Load) -> Result:
    await member.start()
    await member.out.call(*member.enter([GROUP]))
    await link.hear()
    members = load.of(MEMBERS)
    tally = Tally(members, load.messages)
    await member.group_send(GROUP, message(WARM))
    acks = _hand_out(member, await member.read(), tally, members)
    await link.hear()
    await link.say("go")
    first = time.monotonic()
    for number in range(load.messages):
        await member.beat()
        await member.group_send(GROUP, message(number), *acks)
        acks = _hand_out(member, await member.read(), tally, members)
    await link.hear()
    return {"sent": load.messages * members * 2, "first": first, **tally.result()}


async def bare_group_member(member: Member, link: Link, load: Load) -> Result:
    await member.start()
    await member.out.call(*member.enter([GROUP]))
    await link.say("joined")
    members = load.of(MEMBERS)
    tally = Tally(members, load.messages)
    acks = _hand_out(member, await member.read(), tally, members)
    await link.say("warm")
    await link.hear()
    while tally.distinct < tally.expected:
        await member.beat()
        acks = _hand_out(member, await member.read(*acks), tally, members)
    await link.say("done")
    return tally.result()


def _hand_out(member: Member, got: Sequence[Got], tally: Tally, members: int) -> list[Command]:
    """Give each member a message object of its own; returns the acknowledgements."""
    for one in got:
        for place in range(members):
            tally.note(place, one.message()["n"])
    return member.acks(got)


async def bare_joiner_distinct(member: Member, link: Link, load: Load) -> Result:
    """Join and leave with 64 groups in one step; after the last join each hears one message."""
    await member.start()
    await member.out.call(*member.enter([WARM_GROUP]))
    await link.say("joined")
    acks = member.acks(await member.read())
    await link.say("warm")
    count, cycles = planned(load)
    places = {distinct(place): place for place in range(count)}
    tally = Tally(count, 1)

    def note(got: Sequence[Got]) -> list[Command]:
        for one in got:
            tally.note(places[one.name], one.message()["n"])
        return member.acks(got)

    joining = leaving = 0.0
    for cycle in range(cycles):
        joining += await _tell(member, member.enter, places)
        if cycle == cycles - 1:
            await link.say("joined")
            while tally.distinct < tally.expected:
                await member.beat()
                acks = note(await member.read(*acks))
        leaving += await _tell(member, member.exit, places)
    await link.say("left")
    await link.hear()
    note(await member.read(*acks, block_ms=AFTERMATH_MS))  # who has left must hear nothing
    values = {"joins": cycles * count / joining, "leaves": cycles * count / leaving}
    return {"sent": count, "values": values, **tally.result()}


async def _tell(member: Member, calls: Callable[[list[str]], list[Command]], groups: Collection[str]) -> float:
    """Join or leave all groups; returns the seconds that it took."""
    begun = time.perf_counter()
    for batch in _batches(groups):
        await member.beat()
        _expect_ok(await member.out.call(*calls(batch)))
    return time.perf_counter() - begun


def _expect_ok(replies: Sequence[Sequence[bytes]]) -> None:
    assert all(reply[0] == b"OK" for reply in replies), replies


async def bare_prover_distinct(member: Member, link: Link, load: Load) -> Result:
    """Send one message to each group when all have joined, and again when all have left."""
    await member.start()
    await link.hear()
    await member.group_send(WARM_GROUP, message(WARM))
    await link.hear()
    groups = [distinct(place) for place in range(planned(load)[0])]
    for told in (groups, groups[:LEFT_TOLD]):
        await link.hear()
        for batch in _batches(told):
            _expect_ok(await member.out.call(*(member.group(name, message(0)) for name in batch)))
    await link.say("told")
    return {}


async def bare_thread_sender(member: Member, link: Link, load: Load) -> Result:
    await member.start()
    return {"sent": load.messages, "values": {"own": await sends_a_second(member.group_send_sync, link, load)}}


async def bare_thread_member(member: Member, link: Link, load: Load) -> Result:
    """One member, which acknowledges as rarely as the layer does."""
    await member.start()
    await member.out.call(*member.enter([GROUP]))
    tally = Tally(1, load.messages)
    acks = _hand_out(member, await member.read(), tally, 1)
    await link.say("warm")
    unacknowledged: list[Got] = []
    ack_at = 0.0
    while tally.distinct < tally.expected:
        await member.beat()
        unacknowledged += await _hear(member, acks, tally)
        acks = []
        if (now := time.monotonic()) >= ack_at:
            acks, unacknowledged, ack_at = member.acks(unacknowledged), [], now + ACK_S
    await _hear(member, acks, tally, AFTERMATH_MS)
    await link.say("done")
    return tally.result()


async def _hear(member: Member, acks: Sequence[Command], tally: Tally, block_ms: int = BLOCK_MS) -> list[Got]:
    """Count what a single member gets."""
    got = await member.read(*acks, block_ms=block_ms)
    for one in got:
        tally.note(0, one.message()["n"])
    return got
