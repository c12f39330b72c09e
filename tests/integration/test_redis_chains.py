"""Several pipelines of one sender under way on a real Redis: what follows a refused call never overtakes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, within
from trunkline.redis.keys import Keys
from trunkline.redis.scripts import script

pytestmark = pytest.mark.redis

IN_FLIGHT = 64  # four pipelines' worth of sends at once
ROUNDS = 40


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(url: str) -> RedisChannelLayer:
        layer = RedisChannelLayer(hosts=[url], prefix="chains", capacity=10_000)
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), what="the end of close()")


def test_a_call_behind_one_that_was_not_done_is_refused_and_done_once_under_its_number(
    redis_server: RedisServer,
) -> None:
    keys = Keys("chains-script")
    queue, canary = keys.key(0, "q", "orders"), keys.canary(0)
    with redis_server.client() as client:
        client.set(keys.key(0, "epoch"), "e:1:start")
        sha = client.script_load(script("push").text)

        def push(number: int, chain: str, *records: str) -> Any:
            return client.evalsha(
                sha, 2, queue, canary, "e", "me", number, chain, "orders", 60_000, 100, "end", *records
            )

        assert push(1, "0", "first") == ["OK", "k"]
        assert push(3, "1:2", "third") == ["GAP"]
        assert push(2, "1:1", "second", "second") == ["OK", "kk"]
        assert push(3, "1:2", "third") == ["OK", "k"]
        assert [push(number, "1:0") for number in (1, 2, 3)] == [["OK", "k"], ["OK", "kk"], ["OK", "k"]]
        assert push(4, "3:3", "fourth") == ["OK", "k"]
        assert push(2, "1:0") == ["LATE"]  # below the lowest number that may be asked for again
        assert push(5, "0", "fifth") == ["OK", "k"]
        assert push(3, "0") == ["LATE"]
        kept = [record[13:] for record in client.lrange(queue, 0, -1)]
    assert kept == ["first", "second", "second", "third", "fourth", "fifth"]


async def _send_in_order(sender: RedisChannelLayer, receiver: RedisChannelLayer, channel: str) -> list[int]:
    received: list[int] = []

    async def drain() -> None:
        while len(received) < IN_FLIGHT * ROUNDS:
            received.append((await receiver.receive(channel))["number"])

    async with Tasks() as tasks:
        draining = tasks.start(drain())
        for first in range(0, IN_FLIGHT * ROUNDS, IN_FLIGHT):
            await asyncio.gather(*(sender.send(channel, numbered(first + each)) for each in range(IN_FLIGHT)))
        await within(draining, 20, "the last message")
    return received


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["process-specific", "normal"])
async def test_sends_keep_their_order_while_the_server_forgets_its_scripts(
    kind: str, redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(redis_server.url), make_layer(redis_server.url)
    channel = "orders" if kind == "normal" else await receiver.new_channel()
    forgotten = 0

    async def forget() -> None:
        nonlocal forgotten
        with redis_server.client() as client:
            while True:
                await asyncio.to_thread(client.script_flush)
                forgotten += 1
                await asyncio.sleep(0.002)

    async with Tasks() as tasks:
        tasks.start(forget())
        received = await _send_in_order(sender, receiver, channel)
    assert received == list(range(IN_FLIGHT * ROUNDS))
    assert forgotten > 10


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["process-specific", "normal"])
async def test_sends_keep_their_order_while_connections_are_cut_and_scripts_forgotten(
    kind: str,
    redis_server: RedisServer,
    start_proxy: Callable[..., Proxy],
    make_layer: Callable[..., RedisChannelLayer],
) -> None:
    proxy = start_proxy(redis_server, seed=5)
    sender, receiver = make_layer(proxy.url), make_layer(redis_server.url)
    channel = "orders" if kind == "normal" else await receiver.new_channel()

    async def forget() -> None:
        with redis_server.client() as client:
            while True:
                await asyncio.to_thread(client.script_flush)
                await asyncio.sleep(0.2)

    proxy.cut_at_random_bytes(25_000)
    async with Tasks() as tasks:
        tasks.start(forget())
        received = await _send_in_order(sender, receiver, channel)
    proxy.cut_at_random_bytes(None)
    assert received == list(range(IN_FLIGHT * ROUNDS))
    assert proxy.cuts > 5
