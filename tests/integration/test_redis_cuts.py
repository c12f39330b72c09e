"""Counted: connections that break at any byte, and requests that a proxy delivers late, lose and double nothing."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import ChannelFull, RedisChannelLayer

pytestmark = pytest.mark.redis

SECONDS_OF_CUTS = 20
LAST_WAIT_S = 8.0


@pytest.fixture
def proxy(start_redis: Callable[..., RedisServer]) -> Iterator[Proxy]:
    with Proxy(start_redis().port, seed=7) as proxy:
        yield proxy


def new_layer(url: str, prefix: str, **options: object) -> RedisChannelLayer:
    return RedisChannelLayer(hosts=[url], prefix=prefix, capacity=10_000, **options)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["process-specific", "normal"])
async def test_a_swallowed_reply_that_is_replayed_later_doubles_nothing(kind: str, proxy: Proxy) -> None:
    prefix = uuid.uuid4().hex
    sender, receiver = new_layer(proxy.url, prefix), new_layer(proxy.url, prefix)
    try:
        channel = await receiver.new_channel() if kind == "process-specific" else "orders"
        await asyncio.sleep(0)
        marker = uuid.uuid4().hex
        swallow = proxy.swallow_reply(marker.encode())
        await asyncio.wait_for(sender.send(channel, {"type": "order", "id": marker}), 10)
        request = await asyncio.to_thread(swallow.wait)
        assert marker.encode() in request
        swallow.finish()
        assert (await asyncio.wait_for(receiver.receive(channel), 10))["id"] == marker
        await asyncio.to_thread(proxy.replay, request)
        late = asyncio.create_task(receiver.receive(channel))
        await asyncio.wait({late}, timeout=1.0)
        assert not late.done(), "the replayed request was executed"
        late.cancel()
        await asyncio.wait({late})
    finally:
        await sender.close()
        await receiver.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_connections_cut_at_random_bytes_lose_and_double_nothing(proxy: Proxy) -> None:
    prefix = uuid.uuid4().hex
    sender, receiver = new_layer(proxy.url, prefix), new_layer(proxy.url, prefix)
    own = await receiver.new_channel()
    sent: Counter[str] = Counter()
    received: dict[str, list[int]] = {own: [], "orders": []}
    over = time.monotonic() + SECONDS_OF_CUTS
    proxy.cut_at_random_bytes(20_000)

    async def write(channel: str) -> None:
        while time.monotonic() < over:
            try:
                await sender.send(channel, {"type": "m", "number": sent[channel], "padding": "x" * 100})
            except ChannelFull:
                await asyncio.sleep(0.05)
                continue
            sent[channel] += 1
            await asyncio.sleep(0.001)

    async def read(channel: str) -> None:
        while True:
            received[channel].append((await receiver.receive(channel))["number"])

    reading = [asyncio.create_task(read(channel)) for channel in (own, "orders", "orders", "orders")]
    try:
        await asyncio.wait_for(asyncio.gather(write(own), write("orders")), SECONDS_OF_CUTS + 20)
        proxy.cut_at_random_bytes(None)
        deadline = time.monotonic() + LAST_WAIT_S
        while sum(map(len, received.values())) < sent.total() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # a doubled message would come now
        for channel, numbers in received.items():
            assert sent[channel] > 500, "hardly anything was sent, so this test showed nothing"
            lost, doubled = set(range(sent[channel])) - set(numbers), len(numbers) - len(set(numbers))
            assert (len(lost), doubled) == (0, 0), f"{channel}: {len(lost)} lost, {doubled} doubled of {sent[channel]}"
        assert received[own] == sorted(received[own]), "the order changed"
    finally:
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        await sender.close()
        await receiver.close()
