"""Replicas that have to confirm (``wait_replicas``), and servers that come back knowing less than the processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.servers import RedisServer
from trunkline import LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import eventually, numbered, receive, within

pytestmark = pytest.mark.redis

Make = Callable[..., RedisChannelLayer]


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Make]:
    made: list[RedisChannelLayer] = []

    def make(server: RedisServer, **options: Any) -> RedisChannelLayer:
        made.append(RedisChannelLayer(hosts=[server.url], prefix="replicas", **options))
        return made[-1]

    yield make
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


@pytest.mark.asyncio
async def test_a_send_that_no_replica_confirms_raises_and_its_message_is_stored(
    start_redis: Callable[..., RedisServer], make_layer: Make
) -> None:
    primary, replica = start_redis(repl_diskless_sync_delay=0), start_redis()
    layer, reader = make_layer(primary, wait_replicas=1, retry_time=2), make_layer(primary)
    channel = await reader.new_channel()
    await layer.group_add("room", channel)  # memberships are told again after a failover: nobody waits for them
    began = time.monotonic()
    with pytest.raises(LayerUnavailable, match=r"stored the message, but 0 of the 1 replicas .* confirmed it within"):
        await within(layer.send(channel, numbered(0)), 15)
    assert time.monotonic() - began >= 2
    assert await receive(reader, channel) == numbered(0)
    for send in (layer.send("normal", numbered(1)), layer.group_send("room", numbered(2))):
        with pytest.raises(LayerUnavailable, match="stored the message"):
            await within(send, 15)
    assert await receive(reader, "normal") == numbered(1)
    assert await receive(reader, channel) == numbered(2)

    with replica.client() as client:
        client.replicaof("127.0.0.1", primary.port)

    async def confirmed() -> None:
        try:
            await layer.send("again", numbered(3))
        except LayerUnavailable as error:
            raise AssertionError(str(error)) from error

    await eventually(confirmed, 20)
    for number in range(100):
        await layer.send(channel, numbered(number))
        await layer.group_send("room", numbered(number))
    with replica.client() as client:
        # Each of them was there when its send returned: nothing has to be waited for.
        assert sum(client.xlen(key) for key in client.scan_iter("tl1:replicas:*:in:*")) >= 100


@pytest.mark.asyncio
async def test_a_full_channel_is_full_whatever_replicas_confirm(redis_server: RedisServer, make_layer: Make) -> None:
    layer = make_layer(redis_server, wait_replicas=1, retry_time=2, capacity=1)
    with pytest.raises(LayerUnavailable):
        await within(layer.send("normal", numbered(0)), 15)
    with pytest.raises(layer.ChannelFull):
        await within(layer.send("normal", numbered(1)), 15)


@pytest.mark.asyncio
async def test_a_server_that_restarts_with_older_data_learns_the_memberships_that_it_lost(
    redis_server: RedisServer, make_layer: Make
) -> None:
    layer = make_layer(redis_server, retry_time=30)
    early, late = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("early", early)
    with redis_server.client() as client:
        client.save()
    await layer.group_add("late", late)
    redis_server.kill()
    redis_server.start()
    for group, channel in (("early", early), ("late", late)):
        await within(layer.group_send(group, numbered(1)), 30)
        assert await receive(layer, channel, 10) == numbered(1), group


@pytest.mark.asyncio
async def test_what_was_received_before_a_restart_with_older_data_does_not_come_again(
    redis_server: RedisServer, make_layer: Make
) -> None:
    layer = make_layer(redis_server, retry_time=30)
    channel = await layer.new_channel()
    for number in range(50):
        await layer.send(channel, numbered(number))
    with redis_server.client() as client:
        client.save()
    assert [await receive(layer, channel) for _ in range(50)] == [numbered(number) for number in range(50)]
    await asyncio.sleep(0.2)  # the server removes them, its file does not
    redis_server.kill()
    redis_server.start()
    await within(layer.send(channel, numbered(50)), 30)
    assert await receive(layer, channel, 10) == numbered(50)
    with redis_server.client() as client:
        counts = next(client.scan_iter("tl1:replicas:*:cnt:*"))

        async def counted_down() -> None:
            assert client.hget(counts, channel) is None, "received messages must not take room for ever"

        await eventually(counted_down, 10)
