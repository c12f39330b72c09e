"""Counted between real processes over real Redis servers: breaking connections, cancelled receives."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from support.counting import Ledger
from support.processes import Child, Peers
from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.cancelling import receive_under_cancellation
from trunkline.conformance.waiting import within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
SECONDS = 20
LAST_WAIT_S = 15.0


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("mean_bytes", [12_000, 60_000])
async def test_connections_cut_at_random_bytes_between_processes_lose_and_double_nothing(
    redis_server: RedisServer, start_proxy: Callable[..., Proxy], mean_bytes: int
) -> None:
    for_writers, for_readers = start_proxy(redis_server, seed=1), start_proxy(redis_server, seed=2)

    def config(proxy: Proxy) -> dict[str, Any]:
        return {"hosts": [proxy.url], "prefix": "cuts", "capacity": 100_000}

    ledger = Ledger()
    children: list[Child] = []
    try:
        readers = [
            await Child.start(
                "support.workers:read",
                {"path": LAYER, "config": config(for_readers), "channels": ["orders"], "readers": 3},
            )
            for _ in range(2)
        ]
        children += readers
        own = [await reader.hear(30) for reader in readers]
        for_writers.cut_at_random_bytes(mean_bytes)
        for_readers.cut_at_random_bytes(mean_bytes)
        writers = [
            await Child.start(
                "support.workers:write",
                {
                    "path": LAYER,
                    "config": config(for_writers),
                    "client": f"writer-{number}",
                    "channels": [*own, "orders"],
                    "seconds": SECONDS,
                },
            )
            for number in range(2)
        ]
        children += writers
        for number, writer in enumerate(writers):
            for channel, count in (await writer.result(SECONDS + 40)).items():
                ledger.count(channel, f"writer-{number}", count)
        for_writers.cut_at_random_bytes(None)
        for_readers.cut_at_random_bytes(None)
        end = time.monotonic() + LAST_WAIT_S
        while time.monotonic() < end:
            states = []
            for reader in readers:
                await reader.tell("how many?")
                states.append(await reader.hear())
            assert all(not state["failed"] for state in states), states
            if sum(state["count"] for state in states) >= ledger.sent.total():
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)  # a doubled message would come now
        for reader in readers:
            reader.say_goodbye()
            for channel, messages in (await reader.result()).items():
                ledger.take_all(channel, messages)
    finally:
        await asyncio.gather(*(child.close() for child in children))
    assert min(for_writers.cuts, for_readers.cuts) > 20, "hardly a connection was cut, so this test showed nothing"
    ledger.check(in_order=own, at_least=300)


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
            sending = asyncio.create_task(peer.send_numbered(channel, 2000))
            received, cancellations = await within(
                receive_under_cancellation(layer, channel, 2000, 5, sending.done), 60, "the end of the exchange"
            )
            await sending
            again = asyncio.create_task(layer.receive(channel))  # a doubled message would be next
            await asyncio.wait({again}, timeout=0.3)
            again.cancel()
            await asyncio.wait({again})
            assert again.cancelled(), "a message was doubled"
            assert sorted(received) == list(range(2000)), f"{2000 - len(set(received))} lost on {channel}"
            assert cancellations > 200, "hardly anything was cancelled, so this test showed nothing"
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
        sending = [asyncio.create_task(layer.send("orders", {"type": "m", "number": number})) for number in range(1000)]
        parts = await asyncio.gather(
            *(
                peer.call("receive_under_cancellation", "orders", 1000, seed, deadline_s=60)
                for seed, peer in enumerate(started)
            )
        )
        await asyncio.gather(*sending)
        received = [number for part in parts for number in part]
        assert sorted(received) == list(range(1000))
        assert all(len(part) > 50 for part in parts), "one process did it all"
    finally:
        await layer.close()
