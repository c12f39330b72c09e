"""Counted: processes that die, hang, or only look dead."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis

from support.counting import Ledger
from support.processes import Child, Peer, Peers
from support.servers import RedisServer
from trunkline import ChannelFull, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, receive, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
DEAD_WITHIN_S = 6.0
CAPACITY = 50


@pytest.fixture
def config(redis_server: RedisServer) -> dict[str, Any]:
    return {
        "hosts": [redis_server.url],
        "prefix": uuid.uuid4().hex,
        "capacity": 10_000,
        "channel_capacity": {"small.*": CAPACITY},
    }


@pytest_asyncio.fixture
async def layer(config: dict[str, Any]) -> AsyncIterator[RedisChannelLayer]:
    layer = RedisChannelLayer(**config)
    yield layer
    await within(layer.close(), what="the end of close()")


def mentions(server: RedisServer, process: str) -> list[str]:
    """The keys that still hold something of a process, by their names and, for groups, by their members."""
    found = []
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        for key in client.scan_iter(count=1000):
            if process in key or (":g:" in key and any(process in member for member in client.zrange(key, 0, -1))):
                found.append(key)
    return found


def unread(server: RedisServer, process: str) -> int:
    """How many messages the inboxes of a process hold."""
    with server.client() as client:
        return sum(client.xlen(key) for key in client.scan_iter(match=f"*:in:{process}", count=1000))


async def process_of(peer: Peer) -> tuple[str, str]:
    name = await peer.new_channel()
    return name, name.partition("!")[0].rpartition(".")[2]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_killed_process_leaves_its_groups_within_six_seconds(
    redis_server: RedisServer, config: dict[str, Any], layer: RedisChannelLayer, peers: Peers
) -> None:
    peer = await peers.start(LAYER, config)
    theirs, process = await process_of(peer)
    ours = await layer.new_channel()
    for number in range(20):
        await peer.group_add(f"room-{number}", theirs)
        await layer.group_add(f"room-{number}", ours)
    await layer.group_send("room-0", numbered(0))
    assert await receive(layer, ours) == await peer.receive(theirs) == numbered(0)
    assert [key for key in mentions(redis_server, process) if ":g:" in key]

    peer.child.kill()
    await peer.child.ended()
    killed = time.monotonic()
    while time.monotonic() - killed < DEAD_WITHIN_S:
        await asyncio.sleep(0.2)
        await layer.group_send("room-0", numbered(1))
        assert await receive(layer, ours) == numbered(1)
    before = unread(redis_server, process)
    for number in range(20):
        await layer.group_send(f"room-{number}", numbered(number))
        assert await receive(layer, ours) == numbered(number)
    assert unread(redis_server, process) == before, f"{DEAD_WITHIN_S:g} s after its end it still gets messages"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_a_killed_process_leaves_is_cleaned_up_without_a_group_send(
    redis_server: RedisServer, config: dict[str, Any], layer: RedisChannelLayer, peers: Peers
) -> None:
    peer = await peers.start(LAYER, config)
    theirs, process = await process_of(peer)
    for number in range(50):
        await peer.group_add(f"room-{number}", theirs)
    await layer.new_channel()  # now this process beats, and so notices who does not
    assert len([key for key in mentions(redis_server, process) if ":g:" in key]) == 50
    peer.child.kill()
    await peer.child.ended()
    killed = time.monotonic()
    while [key for key in mentions(redis_server, process) if ":g:" in key]:
        assert time.monotonic() - killed < DEAD_WITHIN_S + 2, "it is still in groups"
        await asyncio.sleep(0.2)
    # Its inbox may hold messages, and it may only have been away for long: the inbox ends by itself.
    left = mentions(redis_server, process)
    assert [key for key in left if ":in:" not in key and ":cnt:" not in key] == []
    with redis_server.client() as client:
        assert all(0 < client.pttl(key) <= 120_000 for key in left)


@pytest.mark.asyncio
async def test_a_process_that_ends_properly_leaves_at_once(
    redis_server: RedisServer, config: dict[str, Any], layer: RedisChannelLayer, peers: Peers
) -> None:
    peer = await peers.start(LAYER, config)
    theirs, process = await process_of(peer)
    await peer.group_add("room", theirs)
    await layer.group_add("room", await layer.new_channel())
    assert await peer.end() == 0
    assert mentions(redis_server, process) == []


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_process_that_was_stopped_for_long_hears_its_groups_again(
    config: dict[str, Any], layer: RedisChannelLayer, peers: Peers
) -> None:
    peer = await peers.start(LAYER, config)
    theirs = await peer.new_channel()
    await peer.group_add("room", theirs)
    await layer.group_send("room", numbered(0))
    assert await peer.receive(theirs) == numbered(0)
    peer.child.signal(signal.SIGSTOP)
    end = time.monotonic() + 8  # longer than it takes to be declared dead
    while time.monotonic() < end:
        await within(layer.group_send("room", numbered(1)))
        await asyncio.sleep(0.5)
    peer.child.signal(signal.SIGCONT)
    resumed = time.monotonic()
    async with Tasks() as tasks:
        hearing = tasks.start(peer.receive(theirs, 10))
        while not hearing.done() and time.monotonic() - resumed < 4:
            await layer.group_send("room", numbered(2))
            await asyncio.wait({hearing}, timeout=0.2)
        assert hearing.done(), "4 s after it went on it does not hear its group"
        assert hearing.result() in (numbered(1), numbered(2))  # those sent before it was declared dead come first


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_process_whose_loop_is_blocked_is_not_dead(config: dict[str, Any], layer: RedisChannelLayer) -> None:
    child = await Child.start("support.workers:join_and_hold", {"path": LAYER, "config": config, "group": "room"})
    try:
        name = await child.hear(30)
        await layer.group_send("room", numbered(0))
        assert await child.hear() == numbered(0)
        await child.tell(8)
        await asyncio.sleep(0.2)
        blocked = time.monotonic()
        number = 1
        while time.monotonic() - blocked < 7:
            await within(layer.group_send("room", numbered(number)))
            await within(layer.send(name, numbered(number + 1)))
            number += 2
            await asyncio.sleep(0.5)
        heard = [(await child.hear())["number"] for _ in range(1, number)]
        assert sorted(heard) == list(range(1, number))
        for path in (0, 1):  # order holds for each path: the group's messages are odd, the direct ones even
            assert [seen for seen in heard if seen % 2 == path] == list(range(2 - path, number, 2))
    finally:
        await child.close()


@pytest.mark.asyncio
async def test_a_killed_reader_of_a_normal_channel_takes_no_more_than_it_waited_for(
    config: dict[str, Any], layer: RedisChannelLayer, peers: Peers
) -> None:
    peer = await peers.start(LAYER, config)
    async with Tasks() as tasks:
        waiting = [tasks.start(peer.receive("orders", 30)) for _ in range(3)]
        await asyncio.sleep(0.3)
        peer.child.signal(signal.SIGSTOP)  # it can't take what is sent now, but its blocked reads are at the server
        for number in range(50):
            await within(layer.send("orders", numbered(number)))
        peer.child.kill()
        await peer.child.ended()
        received = [(await receive(layer, "orders", 8))["number"] for _ in range(47)]
        await asyncio.wait(waiting, timeout=1)
        assert len(set(received)) == 47


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_killed_and_a_stopped_process_slow_nobody_and_cost_nobody_a_message(
    redis_server: RedisServer, config: dict[str, Any], layer: RedisChannelLayer, peers: Peers
) -> None:
    """Both are members of the group and addressed directly, from before their end until long after it."""
    killed, stopped, neighbour = await asyncio.gather(*(peers.start(LAYER, config) for _ in range(3)))
    theirs = {peer: await peer.call("new_channel", "small") for peer in (killed, stopped, neighbour)}
    for peer, name in theirs.items():
        await peer.group_add("room", name)
    ours, ledger = await layer.new_channel(), Ledger()
    await layer.group_add("room", ours)
    refused = {killed: 0, stopped: 0}
    async with Tasks() as tasks:

        async def drain_ours() -> None:
            while True:
                ledger.take("ours", await layer.receive(ours))

        async def drain_the_neighbour() -> None:
            while True:
                ledger.take("neighbour", await neighbour.receive(theirs[neighbour], 60))

        draining = [tasks.start(drain_ours()), tasks.start(drain_the_neighbour())]
        begun, slowest = time.monotonic(), 0.0
        number = 0
        while time.monotonic() - begun < DEAD_WITHIN_S + 2:
            if number == 20:
                killed.child.kill()
                stopped.child.signal(signal.SIGSTOP)
            started = time.monotonic()
            await within(layer.group_send("room", {"client": "group", "number": number}))
            await within(layer.send(theirs[neighbour], {"client": "direct", "number": number}))
            for peer in refused:
                try:
                    await within(layer.send(theirs[peer], numbered(number)))
                except ChannelFull:
                    refused[peer] += 1
            slowest = max(slowest, time.monotonic() - started)
            for channel in ("ours", "neighbour"):
                ledger.count(channel, "group")
            ledger.count("neighbour", "direct")
            number += 1
            await asyncio.sleep(0.01)
        end = time.monotonic() + 10
        while ledger.missing and time.monotonic() < end:
            await asyncio.sleep(0.02)
        assert not any(task.done() for task in draining)
        stopped.child.signal(signal.SIGCONT)
    ledger.check(in_order=["ours", "neighbour"], at_least=150)
    assert all(refused.values()), "who reads nothing is not full, so this test showed nothing"
    assert slowest < 3.0, f"four sends took {slowest:.1f} s"


@pytest.mark.asyncio
async def test_a_slow_consumer_starves_no_neighbour_in_its_own_process(
    config: dict[str, Any], layer: RedisChannelLayer, peers: Peers
) -> None:
    """It never receives, by direct or group messages: its neighbours get all of theirs."""
    peer = await peers.start(LAYER, config)
    slow, neighbour = await peer.call("new_channel", "small"), await peer.call("new_channel", "small")
    for name in (slow, neighbour):
        await peer.group_add("room", name)
    ledger, count, refused = Ledger(), 10 * CAPACITY, 0
    for number in range(count):
        await within(layer.group_send("room", {"client": "group", "number": number}))
        await within(layer.send(neighbour, {"client": "direct", "number": number}))
        try:
            await within(layer.send(slow, numbered(number)))
        except ChannelFull:
            refused += 1
        for _ in range(2):
            ledger.take("neighbour", await peer.receive(neighbour))
    for client in ("group", "direct"):
        ledger.count("neighbour", client, count)
    ledger.check(in_order=["neighbour"])
    assert count - CAPACITY <= refused < count
