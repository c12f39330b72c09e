"""Servers that can't carry the layer are refused with one sentence; one that throws away is warned of."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.servers import RedisServer
from trunkline import ConfigurationError, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, receive, within

pytestmark = pytest.mark.redis


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(*servers: RedisServer, **options: Any) -> RedisChannelLayer:
        layer = RedisChannelLayer(hosts=[server.url for server in servers], prefix="unfit", **options)
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


def lines_about(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if word in record.getMessage()]


@pytest.mark.asyncio
async def test_a_server_in_cluster_mode_is_refused_in_every_operation_by_one_sentence(
    start_redis: Callable[..., RedisServer],
    make_layer: Callable[..., RedisChannelLayer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = start_redis(cluster_enabled="yes")
    layer = make_layer(server)
    name = await layer.new_channel()
    operations: dict[str, Callable[[], Any]] = {
        "send": lambda: layer.send("orders", numbered(1)),
        "direct send": lambda: layer.send(name, numbered(1)),
        "receive": lambda: layer.receive("orders"),
        "receive of an own channel": lambda: layer.receive(name),
        "receive of the prefix": lambda: layer.receive(name[: name.index("!") + 1]),
        "group_add": lambda: layer.group_add("room", name),
        "group_send": lambda: layer.group_send("room", numbered(1)),
        "flush": layer.flush,
    }
    for what, operation in operations.items():
        with pytest.raises(ConfigurationError) as caught:
            await within(operation(), 5, f"the refusal of {what}")
        sentence = str(caught.value)
        assert f"redis://127.0.0.1:{server.port}/0 runs in cluster mode" in sentence
        assert "name a server that doesn't" in sentence
    assert len(lines_about(caplog, "cluster mode")) == 1


@pytest.mark.asyncio
async def test_a_server_in_cluster_mode_is_not_asked_again_without_pause(
    start_redis: Callable[..., RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    server = start_redis(cluster_enabled="yes")
    layer = make_layer(server)
    async with Tasks() as tasks:
        waiting = [tasks.start(layer.receive("orders")), tasks.start(layer.receive(await layer.new_channel()))]
        await within(asyncio.wait(waiting), 5, "the refusal")
        with server.client() as client:
            before = client.info("stats")["total_connections_received"]
            for _ in range(20):
                with pytest.raises(ConfigurationError):
                    await layer.send("orders", numbered(1))
                await asyncio.sleep(0.1)
            assert client.info("stats")["total_connections_received"] - before <= 5
    assert all(isinstance(task.exception(), ConfigurationError) for task in waiting)


@pytest.mark.asyncio
async def test_one_shard_in_cluster_mode_is_not_quietly_passed_over(
    start_redis: Callable[..., RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(start_redis(), start_redis(cluster_enabled="yes"))

    async def until_refused(operation: Callable[[], Any]) -> None:
        end = time.monotonic() + 10
        while True:  # what goes to the other server may pass until this one was looked at
            try:
                await within(operation(), 5, "an end")
            except ConfigurationError:
                return
            assert time.monotonic() < end, "it is not refused"

    await until_refused(lambda: layer.send("orders", numbered(1)))
    await until_refused(lambda: layer.receive("orders"))
    for _ in range(10):
        with pytest.raises(ConfigurationError):
            await layer.send("orders", numbered(1))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_server_that_was_put_right_is_used_without_a_new_start_of_the_process(
    start_redis: Callable[..., RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    server = start_redis(cluster_enabled="yes")
    layer = make_layer(server)
    with pytest.raises(ConfigurationError):
        await within(layer.send("orders", numbered(1)), 5)
    server.stop()
    ordinary = start_redis(port=server.port)
    assert ordinary.port == server.port

    async def until_accepted() -> None:
        while True:
            try:
                return await layer.send("orders", numbered(2))
            except ConfigurationError:
                await asyncio.sleep(0.2)

    await within(until_accepted(), 15, "the use of the server")
    assert await receive(layer, "orders") == numbered(2)


@pytest.mark.asyncio
async def test_a_policy_that_evicts_is_warned_of_once(
    start_redis: Callable[..., RedisServer],
    make_layer: Callable[..., RedisChannelLayer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    server = start_redis(maxmemory_policy="allkeys-lru")
    layer = make_layer(server)
    await layer.send("orders", numbered(1))
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    await layer.send("orders", numbered(2))
    assert [(await receive(layer, "orders"))["number"] for _ in range(2)] == [1, 2]
    lines = lines_about(caplog, "maxmemory-policy allkeys-lru")
    assert len(lines) == 1
    assert f"redis://127.0.0.1:{server.port}/0" in lines[0]
