"""Counted: direct, group and queued messages over one to five servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from support.counting import Ledger
from support.processes import Peers
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import Tasks, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
CHANNELS, GROUPS, MESSAGES = 200, 100, 5


@pytest.mark.asyncio
@pytest.mark.parametrize("count", range(1, 6))
async def test_nothing_is_lost_over_servers(
    count: int, shared_redis: list[RedisServer], start_redis: Callable[..., RedisServer], peers: Peers
) -> None:
    servers = [*shared_redis, *(start_redis() for _ in range(count - 3))][:count]
    config: dict[str, Any] = {
        "hosts": [server.url for server in servers],
        "prefix": uuid.uuid4().hex,
        "capacity": 20_000,
    }
    layer, ledger = RedisChannelLayer(**config), Ledger()
    try:
        peer = await peers.start(LAYER, config)
        own = [await layer.new_channel() for _ in range(CHANNELS)]
        for number in range(GROUPS):
            await layer.group_add(f"room-{number}", own[number])
            await layer.group_add(f"room-{number}", own[-number - 1])
        async with Tasks() as tasks:

            async def drain(channel: str) -> None:
                while True:
                    ledger.take(channel, await layer.receive(channel))

            for channel in [*own, *["orders"] * 4]:
                tasks.start(drain(channel))
            sends = []
            for number in range(MESSAGES):
                for channel in [*own, *["orders"] * 20]:
                    sends.append(await peer.begin("send", channel, ledger.next(channel, "direct")))
                    ledger.count(channel, "direct")
                for place in range(GROUPS):
                    message = {"client": f"room-{place}", "number": number}
                    sends.append(await peer.begin("group_send", f"room-{place}", message))
                    for channel in (own[place], own[-place - 1]):
                        ledger.count(channel, f"room-{place}")
            await within(asyncio.gather(*sends), 60, "the end of the sends")
            end = asyncio.get_running_loop().time() + 15
            while ledger.missing and asyncio.get_running_loop().time() < end:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)  # a doubled message would come now
    finally:
        await within(layer.close(), 15, "the end of close()")
    ledger.check(in_order=own, at_least=MESSAGES)
    for server in servers:
        with server.client() as client:
            assert any(True for _ in client.scan_iter(f"tl1:{config['prefix']}:*", count=1000)), "a server was spared"
