"""The contract on the Redis layer with one, two and three servers, and what only several servers can show."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis

from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance import Capabilities, ChannelLayerContract
from trunkline.conformance.waiting import numbered, receive, within

pytestmark = pytest.mark.redis


@pytest.fixture
def server_count() -> int:
    return 1


@pytest.fixture
def channel_layer_config(shared_redis: list[RedisServer], server_count: int) -> tuple[str, dict[str, Any]]:
    hosts = [server.url for server in shared_redis[:server_count]]
    return "trunkline.RedisChannelLayer", {"hosts": hosts, "prefix": f"t{uuid.uuid4().hex[:8]}"}


class TestRedisChannelLayerOnOneServer(ChannelLayerContract):
    pass


class _SeveralServers(ChannelLayerContract):
    @pytest.fixture
    def channel_layer_capabilities(self) -> Capabilities:
        return Capabilities(
            ordered_normal_channels=False,
            idle=0,
            reasons={
                "ordered_normal_channels": "a normal channel is divided evenly over all servers",
                "idle": "shown with one server",
            },
        )


class TestRedisChannelLayerOnTwoServers(_SeveralServers):
    @pytest.fixture
    def server_count(self) -> int:
        return 2


class TestRedisChannelLayerOnThreeServers(_SeveralServers):
    @pytest.fixture
    def server_count(self) -> int:
        return 3


@pytest.fixture
def three_servers(start_redis: Callable[..., RedisServer]) -> list[RedisServer]:
    return [start_redis() for _ in range(3)]


async def local_names(layer: Any, count: int) -> list[str]:
    """Process-specific names of one length, so that none is the beginning of another."""
    head = (await layer.new_channel()).partition("!")[0]
    return [f"{head}!name-{number:04d}" for number in range(count)]


def names_at(server: RedisServer, names: list[str]) -> set[str]:
    """Which of the channel names the server holds a message for, by looking at every key's name and content."""
    held = b""
    with redis.Redis.from_url(server.url) as client:
        for key in client.scan_iter(count=1000):
            held += key + b"\n"
            if client.type(key) == b"stream":
                held += b"\n".join(part for _, fields in client.xrange(key) for pair in fields.items() for part in pair)
    return {name for name in names if name.encode() in held}


@pytest.mark.asyncio
async def test_three_servers_share_a_thousand_process_specific_names_fairly(three_servers: list[RedisServer]) -> None:
    layer = RedisChannelLayer(hosts=[server.url for server in three_servers], prefix="t", capacity=10)
    other = RedisChannelLayer(hosts=[server.url for server in three_servers], prefix="t", capacity=10)
    try:
        names = await local_names(other, 1000)  # `other` never receives, so the messages stay
        for start in range(0, 1000, 100):
            await asyncio.gather(*(layer.send(name, numbered(1)) for name in names[start : start + 100]))
        shares = [names_at(server, names) for server in three_servers]
        assert set.union(*shares) == set(names)
        assert sum(map(len, shares)) == 1000, "a name lives on one server only"
        assert all(200 <= len(share) <= 500 for share in shares), [len(share) for share in shares]
    finally:
        await layer.close()
        await other.close()


@pytest.mark.asyncio
async def test_three_servers_share_a_thousand_groups_fairly(three_servers: list[RedisServer]) -> None:
    layer = RedisChannelLayer(hosts=[server.url for server in three_servers], prefix="t")
    try:
        name = await layer.new_channel()
        groups = [f"group-{number}." for number in range(1000)]
        for start in range(0, 1000, 100):
            await asyncio.gather(*(layer.group_add(group, name) for group in groups[start : start + 100]))
        shares = [names_at(server, groups) for server in three_servers]
        assert set.union(*shares) == set(groups)
        assert sum(map(len, shares)) == 1000, "a group lives on one server only"
        assert all(200 <= len(share) <= 500 for share in shares), [len(share) for share in shares]
    finally:
        await layer.close()


@pytest.mark.asyncio
async def test_the_messages_of_a_normal_channel_are_divided_over_three_servers(
    three_servers: list[RedisServer],
) -> None:
    layer = RedisChannelLayer(hosts=[server.url for server in three_servers], prefix="t", capacity=900)
    try:
        for number in range(300):
            await layer.send("thumbnail", numbered(number))
        lengths = []
        for server in three_servers:
            with server.client() as client:
                lengths.append(sum(client.llen(key) for key in client.scan_iter(_type="list") if "thumbnail" in key))
        assert sum(lengths) >= 300
        assert all(60 <= length <= 150 for length in lengths), lengths
        received = [(await receive(layer, "thumbnail"))["number"] for _ in range(300)]
        assert sorted(received) == list(range(300))
    finally:
        await layer.close()


@pytest.mark.asyncio
async def test_a_server_that_stops_pauses_its_own_names_only(start_redis: Callable[..., RedisServer]) -> None:
    servers = [start_redis(appendonly="yes", appendfsync="always") for _ in range(3)]
    layer = RedisChannelLayer(hosts=[server.url for server in servers], prefix="t")
    other = RedisChannelLayer(hosts=[server.url for server in servers], prefix="t")
    try:
        names = await local_names(layer, 60)
        foreign = await local_names(other, 60)
        await asyncio.gather(*(layer.send(name, numbered(0)) for name in foreign))
        await asyncio.gather(*(layer.send(name, numbered(0)) for name in names))
        await asyncio.gather(*(receive(layer, name) for name in names))
        lost = names_at(servers[1], foreign)
        kept = [name for name in foreign if name not in lost]
        assert lost
        assert kept
        servers[1].stop()

        # Names of the other two servers go on at once, in both directions, and so does a normal channel.
        await within(asyncio.gather(*(layer.send(name, numbered(1)) for name in kept)), 3, "sends to living servers")
        received = await within(
            asyncio.gather(*(asyncio.gather(*(receive(other, name, 3) for _ in range(2))) for name in kept)), 6
        )
        assert [[message["number"] for message in pair] for pair in received] == [[0, 1]] * len(kept)
        for number in range(20):
            await within(layer.send("thumbnail", numbered(number)), 3, "a send to a normal channel")
        thumbnails = [(await receive(other, "thumbnail", 3))["number"] for _ in range(20)]
        assert sorted(thumbnails) == list(range(20))

        # Names of the stopped server wait, and their messages arrive when it is back.
        sending = [asyncio.ensure_future(layer.send(name, numbered(1))) for name in sorted(lost)]
        done, _ = await asyncio.wait(sending, timeout=1)
        assert not done, "a send to a stopped server waits"
        servers[1].start()
        await within(asyncio.gather(*sending), 8, "the sends that waited")
        received = await within(
            asyncio.gather(*(asyncio.gather(*(receive(other, name, 5) for _ in range(2))) for name in sorted(lost))), 10
        )
        assert [[message["number"] for message in pair] for pair in received] == [[0, 1]] * len(lost)
    finally:
        await layer.close()
        await other.close()
