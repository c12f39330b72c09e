"""Counted: channels_redis' layers on the same server and prefix: neither harms the other, nor does the flush of one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis

from support.counting import Ledger
from support.processes import Peers
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.api import build_layer
from trunkline.conformance.waiting import Tasks, receive, within
from trunkline.redis.keys import Keys

pytestmark = pytest.mark.redis

THEIRS = ("channels_redis.core.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer")
OURS = "trunkline.RedisChannelLayer"
MESSAGES = 100


class House:
    """One layer with a channel of its own, a member of ``room``, and a process that sends to it."""

    def __init__(self, path: str, layer: Any, peers: Peers, config: dict[str, Any]) -> None:
        self.path = path
        self.layer = layer
        self._peers = peers
        self._config = config
        self.own = ""
        self.ledger = Ledger()
        self._ending = False

    async def settle(self) -> None:
        """Everybody uses the same names for the group and the normal channel."""
        self.peer = await self._peers.start(self.path, self._config)
        self.own = await self.layer.new_channel()
        await self.layer.group_add("room", self.own)

    async def drain(self, channel: str) -> None:
        while not self._ending:
            self.ledger.take(channel, await self.layer.receive(channel))

    async def end(self, draining: list[asyncio.Task[None]]) -> None:
        """End its receives while nothing is under way; theirs may need to be told more than once."""
        self._ending = True
        for task in draining:
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=0.2)
            assert task.cancelled() or not task.exception(), "a receive had failed before it was cancelled"
        self._ending = False

    async def subscribed(self, client: redis.Redis) -> None:
        """Until the server knows of its subscriptions: pub/sub only writes them, and loses what is sent before."""
        names = [self.own, f"{self._config['prefix']}__group__room"]
        while any(count < 1 for _, count in await asyncio.to_thread(client.pubsub_numsub, *names)):
            await asyncio.sleep(0.02)

    async def send_all(self, round_: str) -> None:
        for number in range(MESSAGES):
            for client, send, to in (("direct", self.peer.send, self.own), ("group", self.peer.group_send, "room")):
                await send(to, {"type": "test.numbered", "client": f"{client} {round_}", "number": number})
                self.ledger.count(self.own, f"{client} {round_}")
            if self.normal:
                await self.peer.send("orders", {"type": "test.numbered", "client": round_, "number": number})
                self.ledger.count("orders", round_)

    @property
    def normal(self) -> bool:
        """Pub/sub has no channels that are kept for whoever reads."""
        return "pubsub" not in self.path

    async def complete(self) -> None:
        while self.ledger.missing:
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def houses(shared_redis: list[RedisServer], peers: Peers) -> AsyncIterator[list[House]]:
    url, prefix = shared_redis[0].url, f"asgi{uuid.uuid4().hex[:8]}"
    # redis-py's own timeout is as long as core's blocking read, and a receive that waits that long fails
    patient = {"address": url, "socket_timeout": None}
    made = []
    for path in (OURS, *THEIRS):
        config: dict[str, Any] = {"hosts": [url if path == OURS else patient], "prefix": prefix}
        options = config if "pubsub" in path else {**config, "capacity": 1000}
        made.append(House(path, build_layer(path, options), peers, options))
    yield made
    for house in made:
        if isinstance(house.layer, RedisChannelLayer):
            await within(house.layer.close(), what="the end of close()")
        elif hasattr(type(house.layer), "close_pools"):
            await house.layer.close_pools()
        else:
            await house.layer.flush()


async def exchange(houses: list[House], round_: str) -> None:
    await within(asyncio.gather(*(house.send_all(round_) for house in houses)), 60, "the sends")
    try:
        await asyncio.wait_for(asyncio.gather(*(house.complete() for house in houses)), 15)
    except asyncio.TimeoutError:
        pass  # the ledgers say what is missing
    for house in houses:
        house.ledger.check(at_least=MESSAGES)


@pytest.mark.asyncio
async def test_all_exchange_their_messages_and_no_flush_takes_those_of_another(
    houses: list[House], shared_redis: list[RedisServer]
) -> None:
    ours, core, pubsub = houses
    await asyncio.gather(*(house.settle() for house in houses))
    async with Tasks() as tasks:

        def receive(house: House) -> list[asyncio.Task[None]]:
            return [tasks.start(house.drain(channel)) for channel in (house.own, "orders")[: 1 + house.normal]]

        draining = {house.path: receive(house) for house in houses}
        with shared_redis[0].client() as client:
            await within(pubsub.subscribed(client), what="pub/sub's subscriptions")
        await exchange(houses, "before")
        for flushed, round_ in ((core, "after their flush"), (ours, "after our flush")):
            if flushed is core:  # its receives don't survive its own flush
                await within(core.end(draining[core.path]), 15, "the end of their receives")
            await within(flushed.layer.flush(), 15, "the flush")
            await flushed.layer.group_add("room", flushed.own)
            if flushed is core:
                receive(core)
            await exchange(houses, round_)


@pytest.mark.asyncio
async def test_what_waits_unread_survives_the_others_flush(houses: list[House]) -> None:
    ours, core, _ = houses
    for first, second in ((ours, core), (core, ours)):
        own = await first.layer.new_channel()
        for number in range(10):
            await first.layer.send(own, {"type": "m", "number": number})
            await first.layer.send("mail", {"type": "m", "number": number})
        await within(second.layer.flush(), 15, "the flush")
        for channel in (own, "mail"):
            got = [(await within(first.layer.receive(channel)))["number"] for _ in range(10)]
            assert got == list(range(10))


@pytest.mark.asyncio
async def test_keys_of_another_schema_are_left_alone(shared_redis: list[RedisServer]) -> None:
    """A release with keys of another schema shares the prefix: the two don't meet, and no flush takes the other's."""
    prefix = uuid.uuid4().hex
    layer, keys = RedisChannelLayer(hosts=[shared_redis[0].url], prefix=prefix), Keys(prefix)
    with shared_redis[0].client() as client:
        theirs = []
        for schema in ("tl0", "tl2", "tl10", "tl"):
            for kind in ("q:orders", "in:0123456789abcdef01234567", "g:room", "epoch"):
                theirs.append(keys.key(0, kind).replace("tl1:", f"{schema}:", 1))
                client.set(theirs[-1], "theirs")
        try:
            own = await layer.new_channel()
            await layer.group_add("room", own)
            await layer.group_send("room", {"number": 1})
            await layer.send("orders", {"number": 2})
            for channel, number in ((own, 1), ("orders", 2)):
                assert await receive(layer, channel) == {"number": number}
            await within(layer.flush(), 15, "the flush")
            assert client.mget(theirs) == ["theirs"] * len(theirs)
        finally:
            client.delete(*theirs)
            await within(layer.close(), what="the end of close()")
