"""Counted: Redis goes away, hangs, or comes back empty, and what was promised of that holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.counting import Ledger
from support.processes import Peers
from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, receive, within
from trunkline.redis import inbox

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(url: str, **options: Any) -> RedisChannelLayer:
        layer = RedisChannelLayer(hosts=[url], **{"prefix": "outage", "capacity": 10_000, **options})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


@pytest.fixture
def durable_redis(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A server that has its data again after a stop."""
    return start_redis(appendonly="yes", appendfsync="always")


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["restart_empty", "flushall"])
async def test_a_joined_channel_hears_a_group_send_soon_after_redis_came_back_empty(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer], peers: Peers, how: str
) -> None:
    layer = make_layer(redis_server.url)
    peer = await peers.start(LAYER, {"hosts": [redis_server.url], "prefix": "outage"})
    ours, theirs = await layer.new_channel(), await peer.new_channel()
    await layer.group_add("room", ours)
    await peer.group_add("room", theirs)
    await layer.group_send("room", numbered(0))
    assert await receive(layer, ours) == await peer.receive(theirs) == numbered(0)
    async with Tasks() as tasks:
        waiting = tasks.start(layer.receive(ours))
        theirs_waiting = tasks.start(peer.receive(theirs, 20))
        await asyncio.sleep(0.1)
        if how == "restart_empty":
            await asyncio.to_thread(redis_server.restart_empty)
        else:
            with redis_server.client() as client:
                client.flushall()
        returned = time.monotonic()
        await within(layer.group_send("room", numbered(1)), 5, "the end of the group send")
        assert await within(waiting, 5) == numbered(1)
        assert await within(theirs_waiting, 5) == numbered(1)
        assert time.monotonic() - returned < 2.0


@pytest.mark.asyncio
async def test_after_redis_came_back_empty_everything_else_works_too(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer], peers: Peers
) -> None:
    layer = make_layer(redis_server.url)
    peer = await peers.start(LAYER, {"hosts": [redis_server.url], "prefix": "outage"})
    own, silent = await layer.new_channel(), await layer.new_channel()
    for number in range(20):
        await layer.send(own, numbered(number))
    assert await receive(layer, own) == numbered(0)
    async with Tasks() as tasks:
        specific, normal = await tasks.start_waiting(layer.receive(silent), layer.receive("orders"))
        await asyncio.to_thread(redis_server.restart_empty)
        await within(peer.send(silent, numbered(1)), 5, "a direct send")
        await within(peer.send("orders", numbered(2)), 5, "a send to a normal channel")
        assert await within(specific) == numbered(1)
        assert await within(normal) == numbered(2)
        await within(layer.group_add("new-room", own), 5, "the end of a group_add")
        await within(peer.group_send("new-room", numbered(100)), 5, "the end of a group send")
        while (await receive(layer, own)) != numbered(100):
            pass  # what the process had before may still come first


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["hung", "stopped"])
async def test_sends_and_receives_pause_while_redis_is_away_for_three_seconds(
    durable_redis: RedisServer, make_layer: Callable[..., RedisChannelLayer], how: str
) -> None:
    sender, receiver, ledger = make_layer(durable_redis.url), make_layer(durable_redis.url), Ledger()
    own = await receiver.new_channel()
    stop = asyncio.Event()

    async def write(channel: str) -> None:
        while not stop.is_set():
            message = ledger.next(channel, "sender")
            await sender.send(channel, message)
            ledger.count(channel, "sender")
            await asyncio.sleep(0.002)

    async def drain(channel: str) -> None:
        while True:
            ledger.take(channel, await receiver.receive(channel))

    async with Tasks() as tasks:
        reading = [tasks.start(drain(channel)) for channel in (own, "orders", "orders")]
        writing = [tasks.start(write(channel)) for channel in (own, "orders")]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(durable_redis.pause if how == "hung" else durable_redis.stop)
        await asyncio.sleep(3)
        ended = [task for task in reading + writing if task.done()]
        assert not ended, f"an outage is a pause, but these ended: {ended}"
        await asyncio.to_thread(durable_redis.resume if how == "hung" else durable_redis.start)
        before = ledger.sent.total()
        await asyncio.sleep(2)
        assert ledger.sent.total() > before + 100, "sends did not go on"
        stop.set()
        await within(asyncio.gather(*writing), 10, "the end of the writers")
        end = time.monotonic() + 8
        while ledger.missing and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)  # a doubled message would come now
    ledger.check(in_order=[own, "orders"], at_least=100)


@pytest.mark.asyncio
async def test_a_send_fails_clearly_after_the_retry_time_then_at_once_and_works_again_later(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server.url, retry_time=2)
    name = await layer.new_channel()
    await layer.send(name, numbered(0))
    assert await receive(layer, name) == numbered(0)
    async with Tasks() as tasks:
        [waiting] = await tasks.start_waiting(layer.receive(name))
        redis_server.stop()
        started = time.monotonic()
        with pytest.raises(LayerUnavailable) as caught:
            await within(layer.send(name, numbered(1)), 6, "the failure of the send")
        assert 1.0 < time.monotonic() - started < 4.0
        assert isinstance(caught.value, ConnectionError)
        assert str(redis_server.port) in str(caught.value), "the error names the server"
        started = time.monotonic()
        for operation in (layer.send(name, numbered(2)), layer.group_send("room", numbered(2))):
            with pytest.raises(LayerUnavailable):
                await within(operation, 6, "the failure of the send")
        assert time.monotonic() - started < 1.0, "the retry time counts from the outage's start"
        assert not waiting.done(), "a receive waits through an outage"
        redis_server.start()

        async def send_until_accepted() -> None:
            while True:
                try:
                    return await layer.send(name, numbered(3))
                except LayerUnavailable:
                    await asyncio.sleep(0.1)

        await within(send_until_accepted(), 5, "a send after the outage")
        assert await within(waiting) == numbered(3)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_half_open_connections_are_noticed_by_sends_and_receives(
    redis_server: RedisServer,
    start_proxy: Callable[..., Proxy],
    make_layer: Callable[..., RedisChannelLayer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "BLOCK_MS", 3000)  # test_redis_idle waits for as long as it really is
    monkeypatch.setattr(inbox, "PATIENCE", 6.0)
    proxy = start_proxy(redis_server)
    layer, other = make_layer(proxy.url), make_layer(redis_server.url)
    own = await layer.new_channel()
    await other.send(own, numbered(0))
    assert await receive(layer, own) == numbered(0)
    async with Tasks() as tasks:
        specific, normal = await tasks.start_waiting(layer.receive(own), layer.receive("orders"))
        proxy.freeze()
        await within(other.send(own, numbered(1)))
        await within(other.send("orders", numbered(2)))
        target = await other.new_channel()
        await within(layer.send(target, numbered(3)), 12, "a send over a half-open connection")
        assert await receive(other, target) == numbered(3)
        # Blocking reads are bounded, with a client deadline a little above.
        assert await within(specific, 30) == numbered(1)
        assert await within(normal, 30) == numbered(2)


@pytest.mark.asyncio
async def test_a_layer_that_starts_before_redis_waits_for_it(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    redis_server.stop()
    layer = make_layer(redis_server.url)
    name = await within(layer.new_channel(), 2, "a name, which needs no server")
    async with Tasks() as tasks:
        receiving = tasks.start(layer.receive(name))
        sending = tasks.start(layer.send(name, numbered(1)))
        joining = tasks.start(layer.group_add("room", name))
        await asyncio.sleep(1)
        assert not any(task.done() for task in (receiving, sending, joining))
        redis_server.start()
        await within(asyncio.gather(sending, joining), 5, "what waited for the server")
        assert await within(receiving) == numbered(1)
        await layer.group_send("room", numbered(2))
        assert await receive(layer, name) == numbered(2)
