"""The rows' workloads as plain loops over the Redis layer's own commands, with as many messages in one step as the
layer has in flight."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import islice

from benchmarks.bare import Member
from benchmarks.bare.lines import Command
from benchmarks.bare.member import Got
from benchmarks.link import Link
from benchmarks.load import MEMBERS, QUEUE_RECEIVERS, SENDS_IN_FLIGHT, Load, message
from benchmarks.roles.common import GROUP, WARM, Result
from benchmarks.roles.queue import QUEUE
from benchmarks.tally import Tally


async def bare_queue_sender(member: Member, link: Link, load: Load) -> Result:
    await member.start()
    await member.out.call(member.push(QUEUE, [message(WARM)]))
    await link.hear()
    numbers = iter(range(load.messages))
    first = time.monotonic()
    while batch := list(islice(numbers, SENDS_IN_FLIGHT)):
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
    await member.out.call(member.join(GROUP))
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
    await member.out.call(member.join(GROUP))
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
