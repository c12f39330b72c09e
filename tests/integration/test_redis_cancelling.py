"""Counted between real processes over real Redis servers: receives that are cancelled all the time."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from support.processes import Peers
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.cancelling import receive_under_cancellation
from trunkline.conformance.waiting import within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
MESSAGES = 2_000


@pytest.mark.asyncio
@pytest.mark.parametrize("servers", [1, 3])
async def test_two_thousand_messages_of_another_process_survive_random_cancellation(
    shared_redis: list[RedisServer], peers: Peers, servers: int
) -> None:
    config: dict[str, Any] = {
        "hosts": [server.url for server in shared_redis[:servers]],
        "prefix": uuid.uuid4().hex,
        "capacity": 10_000,
    }
    layer = RedisChannelLayer(**config)
    try:
        peer = await peers.start(LAYER, config)
        own = await layer.new_channel()
        for channel in (own, "orders"):
            sending = asyncio.create_task(peer.send_numbered(channel, MESSAGES))
            received, cancellations = await within(
                receive_under_cancellation(layer, channel, MESSAGES, 5, sending.done), 60, "the end of the exchange"
            )
            await sending
            again = asyncio.create_task(layer.receive(channel))  # a doubled message would be next
            await asyncio.wait({again}, timeout=0.3)
            again.cancel()
            await asyncio.wait({again})
            assert again.cancelled(), "a message was doubled"
            assert sorted(received) == list(range(MESSAGES)), f"{MESSAGES - len(set(received))} lost on {channel}"
            assert cancellations > 100, "hardly anything was cancelled, so this test showed nothing"
            assert channel != own or received == sorted(received), "the order changed"
            assert servers > 1 or received == sorted(received), "the order changed"
    finally:
        await layer.close()


@pytest.mark.asyncio
async def test_receivers_that_are_cancelled_in_several_processes_lose_nothing(
    shared_redis: list[RedisServer], peers: Peers
) -> None:
    config: dict[str, Any] = {"hosts": [shared_redis[0].url], "prefix": uuid.uuid4().hex, "capacity": 10_000}
    layer = RedisChannelLayer(**config)
    try:
        started = await asyncio.gather(*(peers.start(LAYER, config) for _ in range(2)))
        sending = [
            asyncio.create_task(layer.send("orders", {"type": "m", "number": number})) for number in range(MESSAGES)
        ]
        parts = await asyncio.gather(
            *(
                peer.call("receive_under_cancellation", "orders", MESSAGES, seed, deadline_s=60)
                for seed, peer in enumerate(started)
            )
        )
        await asyncio.gather(*sending)
        received = [number for part in parts for number in part]
        assert sorted(received) == list(range(MESSAGES)), (
            f"{MESSAGES - len(set(received))} lost, of {len(received)} received"
        )
        assert all(len(part) > 50 for part in parts), "one process did it all"
    finally:
        await layer.close()
