"""Pipelines under way on a real Redis: all are answered, whatever becomes of one, and nothing overtakes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import ChannelFull, LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, eventually, numbered, within
from trunkline.redis.keys import Keys
from trunkline.redis.ring import VIRTUAL_SHARDS
from trunkline.redis.scripts import script

pytestmark = pytest.mark.redis

PREFIX = "flights"


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(url: str, **config: object) -> RedisChannelLayer:
        layer = RedisChannelLayer(hosts=[url], prefix=PREFIX, **{"capacity": 10_000, **config})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), what="the end of close()")


@pytest.mark.asyncio
async def test_sends_behind_many_cancelled_ones_go_out(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender = make_layer(redis_server.url)
    await asyncio.gather(*(sender.send("warm", numbered(each)) for each in range(64)))
    redis_server.pause()
    try:
        async with Tasks() as tasks:
            first = [tasks.start(sender.send("warm", numbered(each))) for each in range(49)]  # four pipelines
            await asyncio.sleep(0.05)
            given_up = [tasks.start(sender.send("orders", numbered(each))) for each in range(9_000)]
            last = tasks.start(sender.send("orders", numbered(9_000)))
            await asyncio.sleep(0.05)
            for task in given_up:
                task.cancel()
            await asyncio.wait(given_up)
            redis_server.resume()
            await within(asyncio.gather(*first), 20, "the end of the first sends")
            await within(last, 20, "the end of the last send")
    finally:
        redis_server.resume()


@pytest.mark.asyncio
async def test_what_waited_through_an_outage_for_thousands_of_channels_is_sent(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(redis_server.url), make_layer(redis_server.url)
    channels = [await receiver.new_channel() for _ in range(9_000)]
    await asyncio.gather(*(sender.send("warm", numbered(each)) for each in range(64)))
    redis_server.kill()
    async with Tasks() as tasks:
        sends = [tasks.start(sender.send(channel, numbered(0))) for channel in channels]
        await asyncio.sleep(2.5)  # several attempts, each of which makes calls of a part of them
        redis_server.start()
        results = await within(asyncio.gather(*sends, return_exceptions=True), 30, "the end of the sends")
    assert [result for result in results if result is not None][:3] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("attempt", range(3))
async def test_pipelines_behind_one_that_met_a_replica_end_with_it(
    attempt: int, redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender = make_layer(redis_server.url, expiry=1, capacity=200)
    answered = 0

    async def send() -> None:
        nonlocal answered
        while True:
            with contextlib.suppress(LayerUnavailable, ChannelFull):
                await sender.send("orders", {"data": b"x" * 20_000})
            answered += 1

    async with Tasks() as tasks:
        for _ in range(100):
            tasks.start(send())
        await asyncio.sleep(1.5)
        with redis_server.client() as client:
            for _ in range(5):
                client.execute_command("REPLICAOF", "127.0.0.1", "1")
                await asyncio.sleep(0.1)
                client.execute_command("REPLICAOF", "NO", "ONE")
                enough = answered + 100

                async def more(enough: int = enough) -> None:
                    assert answered >= enough

                await eventually(more, 15)


@pytest.mark.asyncio
async def test_group_sends_keep_their_order_through_the_second_after_a_restart(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(redis_server.url), make_layer(redis_server.url)
    channel = await receiver.new_channel()
    await receiver.group_add("everybody", channel)
    many, received = 64, []

    async def drain() -> None:
        while True:
            received.append((await receiver.receive(channel))["number"])

    async with Tasks() as tasks:
        tasks.start(drain())
        await asyncio.gather(*(sender.group_send("everybody", numbered(each)) for each in range(many)))
        keys = Keys(PREFIX)
        for attempt in range(1, 6):
            with redis_server.client() as client:
                seconds, micros = client.time()
                made = seconds * 1000 + micros // 1000
                for shard in range(VIRTUAL_SHARDS):  # the same life of the shard, as if it had just begun
                    ident = client.get(keys.key(shard, "epoch")).split(":")[0]
                    client.set(keys.key(shard, "epoch"), f"{ident}:{made - 800}:restart")
            await within(
                asyncio.gather(
                    *(sender.group_send("everybody", numbered(many * attempt + each)) for each in range(many))
                ),
                20,
                "the end of the group sends",
            )

        async def all_there() -> None:
            assert len(received) == many * 6

        await eventually(all_there, 10)
    assert received == list(range(many * 6))


@pytest.mark.asyncio
async def test_a_call_is_not_done_before_one_that_was_refused_ahead_of_it(
    redis_server: RedisServer,
    start_proxy: Callable[..., Proxy],
    make_layer: Callable[..., RedisChannelLayer],
) -> None:
    """Else the first could not be repeated under its number, when both replies get lost."""
    proxy = start_proxy(redis_server)
    engine = make_layer(proxy.url)._run().own_engine()
    with redis_server.client() as client:
        client.script_load(script("ring").text)  # and not the other
    swallow = proxy.swallow_reply(script("push").sha)
    pushed = engine.call("push", 0, "q", "orders", ("orders", 60_000, 100, "end"), ("record",))
    rung = engine.call("ring", 0, "q", "others", ("others",))
    assert await within(pushed, 20, "the push") == "k"
    assert await within(rung, 20, "the ring") == ""
    assert swallow.done
    with redis_server.client() as client:
        assert client.llen(Keys(PREFIX).key(0, "q", "orders")) == 1


def test_an_event_loop_that_ends_just_after_its_first_send_ends_at_once(redis_server: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis_server.url], prefix=PREFIX)
    ending = 0.0

    async def main() -> None:
        nonlocal ending
        waiting = asyncio.ensure_future(layer.receive(await layer.new_channel()))
        await asyncio.sleep(0.5)  # this loop has connections of its own, but none for sending yet
        sending = asyncio.ensure_future(layer.send("orders", numbered(0)))
        del waiting, sending
        ending = time.monotonic()

    asyncio.run(main())
    took = time.monotonic() - ending
    asyncio.run(layer.close())
    assert took < 1.9  # as long as a pipe waits for what is under way


def test_a_connection_that_cannot_be_lent_is_closed(redis_server: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis_server.url], prefix=PREFIX)
    layer.send_sync("orders", numbered(0))
    time.sleep(1.5)  # all that this layer needs is open after its first beats
    before = len(redis_server.connections())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # one more connection, and nothing beyond
    try:
        layer.send_sync("orders", numbered(1))
        time.sleep(0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(redis_server.connections()) == before
    asyncio.run(layer.close())
