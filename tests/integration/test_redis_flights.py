"""Pipelines under way on a real Redis: all are answered, whatever becomes of one, and nothing overtakes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from support.servers import RedisServer
from trunkline import ChannelFull, LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, eventually, within

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
