"""Against real servers: one part in trouble does not take the others along."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from support.processes import Child, Peers
from support.servers import RedisServer
from trunkline import ChannelFull, LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, numbers, receive, receive_many, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(*servers: RedisServer, **options: Any) -> RedisChannelLayer:
        hosts = [server.url for server in servers]
        layer = RedisChannelLayer(hosts=hosts, **{"prefix": "resilience", "capacity": 10_000, **options})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


async def until_accepted(send: Callable[[], Any], deadline_s: float = 8.0) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            await within(send(), deadline_s)
            return
        except LayerUnavailable:
            assert time.monotonic() < end, "it is not accepted again"
            await asyncio.sleep(0.1)


async def until_known_away(layer: RedisChannelLayer, position: int) -> None:
    end = time.monotonic() + 8
    while layer._run().process.servers[position].away_since is None:
        assert time.monotonic() < end, "nobody notices that it is away"
        await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_one_reply_holds_no_more_than_a_slow_way_carries_in_time(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server)
    for number in range(6):
        await layer.send("orders", {**numbered(number), "picture": b"x" * 900_000})
    async with Tasks() as tasks:
        waiting = [tasks.start(layer.receive("orders")) for _ in range(6)]
        received = [(await within(task))["number"] for task in waiting]
    assert sorted(received) == list(range(6))
    with redis_server.client() as client:
        sizes = [client.strlen(key) for key in client.scan_iter(match="*:taken:*")]
    assert sizes
    assert max(sizes) < 2_500_000


@pytest.mark.asyncio
async def test_a_server_that_goes_away_in_the_middle_of_a_take_stops_its_own_messages_only(
    start_redis: Callable[..., RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    servers = [start_redis(), start_redis()]
    sender, receiver = make_layer(*servers), make_layer(*servers)
    received: list[int] = []

    async def drain() -> None:
        while True:
            received.append((await receiver.receive("orders"))["number"])

    async def all_of(count: int) -> None:
        while len(set(received)) < count:
            await asyncio.sleep(0.02)

    async with Tasks() as tasks:
        tasks.start(drain())
        for number in range(20):
            await sender.send("orders", numbered(number))
        await within(all_of(20), what="the messages of both servers")
        servers[1].pause()  # hung: a take of it may be under way and gets no answer
        await asyncio.sleep(0.2)
        for number in range(20, 60):
            tasks.start(sender.send("orders", numbered(number)))
        await until_known_away(sender, 1)
        for number in range(60, 80):
            await within(sender.send("orders", numbered(number)), 6, "a send to the server that is there")
        end = time.monotonic() + 6
        while not set(range(60, 80)) <= set(received):
            assert time.monotonic() < end, f"received of the server that is there: {sorted(received)[20:]}"
            await asyncio.sleep(0.05)
        servers[1].resume()
        await within(all_of(80), 10, what="the messages of the server that came back")
        await asyncio.sleep(0.3)
    assert sorted(received) == list(range(80))


@pytest.mark.asyncio
async def test_a_busy_channel_does_not_keep_a_reader_from_its_others(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server, capacity=50_000)
    handled = 0

    async def work() -> None:
        nonlocal handled
        while True:
            await layer.receive("busy")
            handled += 1
            await asyncio.sleep(0.001)

    await asyncio.gather(*(layer.send("busy", numbered(number)) for number in range(10_000)))
    async with Tasks() as tasks:
        tasks.start(work())
        quiet = tasks.start(layer.receive("quiet"))
        await asyncio.sleep(0.5)
        await layer.send("quiet", numbered(1))
        assert await within(quiet, 2, "the message of the quiet channel") == numbered(1)
        assert 0 < handled < 10_000, "the busy channel was not busy"


@pytest.mark.asyncio
async def test_what_is_held_through_an_outage_does_not_hold_up_ordinary_sends(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server, retry_time=2)
    async with Tasks() as tasks:
        await tasks.start_waiting(layer.receive("one"))
        await layer.send("x", numbered(0))
        redis_server.stop()
        await asyncio.sleep(0.3)
        tasks.start(layer.receive("two"))  # wakes the reader of the bells: an operation that is kept for ever
        await asyncio.sleep(0.2)
        for operation in (layer.send("x", numbered(1)), layer.group_send("room", numbered(1))):
            with pytest.raises(LayerUnavailable):
                await within(operation, 4, "the failure of a send")
        redis_server.start()
        await until_accepted(lambda: layer.send("two", numbered(2)))


@pytest.mark.asyncio
async def test_a_server_that_became_a_replica_is_left_so_that_its_name_may_lead_elsewhere(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server, retry_time=1)
    name = await layer.new_channel()
    async with Tasks() as tasks:
        [waiting] = await tasks.start_waiting(layer.receive(name))
        await layer.send(name, numbered(0))
        assert await within(waiting) == numbered(0)
        [waiting] = await tasks.start_waiting(layer.receive(name))
        before = {entry["id"] for entry in redis_server.connections()}
        with redis_server.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(LayerUnavailable):
                await within(layer.send("orders", numbered(1)), 6)
            end = time.monotonic() + 5
            while before & {entry["id"] for entry in redis_server.connections()}:
                assert time.monotonic() < end, "it stays connected to a server that takes nothing"
                await asyncio.sleep(0.1)
            client.execute_command("REPLICAOF", "NO", "ONE")
        await until_accepted(lambda: layer.send(name, numbered(2)))
        assert await within(waiting) == numbered(2)


@pytest.mark.asyncio
async def test_a_refused_acknowledgement_is_not_repeated_without_pause(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server)
    name = await layer.new_channel()
    for number in range(2):
        await layer.send(name, numbered(number))
    assert await receive(layer, name) == numbered(0)
    with redis_server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert await receive(layer, name) == numbered(1)
        await asyncio.sleep(0.5)
        client.config_resetstat()
        await asyncio.sleep(2)
        calls = client.info("commandstats").get("cmdstat_evalsha", {})
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert calls.get("calls", 0) + calls.get("rejected_calls", 0) < 2 * 500


@pytest.mark.asyncio
async def test_a_send_that_waits_when_the_layer_is_closed_fails_then(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server)
    async with Tasks() as tasks:
        await tasks.start_waiting(layer.receive("one"))
        await layer.send("x", numbered(0))
        redis_server.stop()
        sending = tasks.start(layer.send("x", numbered(1)))
        await asyncio.sleep(0.3)
        await within(layer.close(), 8, "the end of close()")
        with pytest.raises(LayerUnavailable):
            await within(sending, 3, "the failure of the send")


@pytest.mark.asyncio
async def test_a_newcomer_s_group_send_after_an_empty_restart_waits_for_the_members(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    member = make_layer(redis_server)
    name = await member.new_channel()
    await member.group_add("room", name)
    await member.group_send("room", numbered(0))
    assert await receive(member, name) == numbered(0)
    for number in range(1, 4):
        redis_server.restart_empty()
        newcomer = make_layer(redis_server)  # one that never knew what the server held before
        await within(newcomer.group_send("room", numbered(number)), 5, "the end of the group send")
        assert await receive(member, name) == numbered(number)


@pytest.mark.asyncio
async def test_messages_that_several_cancelled_receivers_give_back_keep_their_order(
    shared_redis: list[RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    for _ in range(10):
        prefix = uuid.uuid4().hex
        sender, receiver = (make_layer(shared_redis[0], prefix=prefix) for _ in range(2))
        async with Tasks() as tasks:
            waiting = await tasks.start_waiting(*(receiver.receive("orders") for _ in range(4)))
            queue = next(iter(receiver._run()._engines.values()))[0]._queues["orders"]
            put = queue.put

            def put_and_cancel(taken: Any, put: Any = put, waiting: Any = waiting) -> None:
                put(taken)
                for task in waiting:
                    task.cancel()  # in the very turn in which the messages came

            queue.put = put_and_cancel  # type: ignore[method-assign]
            await asyncio.gather(*(sender.send("orders", numbered(number)) for number in range(4)))
            await asyncio.wait(waiting, timeout=5)
            queue.put = put  # type: ignore[method-assign]
        with shared_redis[0].client() as client:
            end = time.monotonic() + 5
            while sum(client.llen(key) for key in client.scan_iter(match=f"*{prefix}*:q:orders", count=1000)) < 4:
                assert time.monotonic() < end, "not everything is back"
                await asyncio.sleep(0.02)
        assert numbers(await receive_many(sender, "orders", 4, 10)) == [0, 1, 2, 3]


@pytest.mark.asyncio
async def test_a_flush_that_fails_leaves_the_servers_that_are_there_open(
    start_redis: Callable[..., RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    servers = [start_redis(), start_redis()]
    layer = make_layer(*servers)
    for number in range(10):
        await layer.send("orders", numbered(number))
    servers[1].stop()
    with pytest.raises(LayerUnavailable):
        await within(layer.flush(), 10, "the failure of the flush")
    await until_known_away(layer, 1)
    for number in range(5):
        await until_accepted(partial(layer.send, "orders", numbered(number)), 3)


@pytest.mark.asyncio
async def test_an_empty_channel_is_not_called_full_because_a_server_is_away(
    start_redis: Callable[..., RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    servers = [start_redis(), start_redis()]
    layer = make_layer(*servers, capacity=1, retry_time=1)
    await layer.send("orders", numbered(0))
    with pytest.raises(ChannelFull):
        await layer.send("orders", numbered(1))
    assert await receive(layer, "orders") == numbered(0)
    servers[0].stop()
    for _ in range(20):
        with pytest.raises(LayerUnavailable):
            await within(layer.send("orders", numbered(2)), 5)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_killed_process_is_left_out_even_where_nobody_else_beats(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer], peers: Peers
) -> None:
    peer = await peers.start(LAYER, {"hosts": [redis_server.url], "prefix": "resilience"})
    theirs = await peer.new_channel()
    await peer.group_add("room", theirs)
    sender = make_layer(redis_server)  # has no channel of its own, and so no heartbeat
    peer.child.kill()
    await peer.child.ended()
    killed, counts = time.monotonic(), []
    while time.monotonic() - killed < 16:
        await within(sender.group_send("room", numbered(0)))
        with redis_server.client() as client:
            counts.append(sum(client.xlen(key) for key in client.scan_iter(match="*:in:*")))
        await asyncio.sleep(0.25)
    assert counts[-1] == counts[-8], f"a dead process still gets messages: {counts}"


@pytest.mark.asyncio
async def test_a_fork_after_a_lost_connection_leaves_open_files_alone(redis_server: RedisServer) -> None:
    child = await Child.start(
        "support.workers:lose_a_connection_and_fork",
        {"path": LAYER, "config": {"hosts": [redis_server.url], "prefix": "fork"}},
    )
    try:
        assert await child.hear(30) == "connected"
        with redis_server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        await child.tell("fork")
        assert await child.result() == []
    finally:
        await child.close()
