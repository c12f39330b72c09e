"""Counted between processes: a minute of connections that break at any byte, lost replies, and requests of the past."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from support.counting import Ledger
from support.processes import Child
from support.proxy import Proxy
from support.servers import RedisServer

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
SECONDS = 60
LAST_WAIT_S = 20.0
# Bytes after which a connection is cut, on average: the scripts get through first, and then hardly a few pipelines.
MEANS = (60_000, 12_000, 30_000)
PHASE_S = 5.0
MARKERS = (b"EVALSHA", b"EVALSHA", b"XREAD", b"BLPOP", b":orders", b":g:all", b":in:")


class Storm:
    """What happens to the connections: always cuts, and now and then a lost reply or a request of the past.

    :ivar lost: requests that were executed and whose replies were lost.
    :ivar replayed: how many of them came a second time, later.
    """

    def __init__(self, server_proxies: list[Proxy]) -> None:
        self._proxies = server_proxies
        self._chance = random.Random(3)
        self.lost: list[bytes] = []
        self.replayed = 0

    async def rage(self) -> None:
        begun = time.monotonic()
        while True:
            mean = MEANS[int((time.monotonic() - begun) / PHASE_S) % len(MEANS)]
            for proxy in self._proxies:
                await asyncio.to_thread(proxy.cut_at_random_bytes, mean)
            for _ in range(5):
                proxy = self._chance.choice(self._proxies)
                swallow = await asyncio.to_thread(proxy.swallow_reply, self._chance.choice(MARKERS))
                await asyncio.sleep(0.2)
                if swallow.done:  # and not cut before its end, or never met
                    self.lost.append(swallow.request)
                if self.lost:
                    await asyncio.to_thread(proxy.replay_quietly, self._chance.choice(self.lost[-20:]))
                    self.replayed += 1

    async def calm(self) -> None:
        for proxy in self._proxies:
            await asyncio.to_thread(proxy.cut_at_random_bytes, None)
            await asyncio.to_thread(proxy.swallow_reply, uuid.uuid4().bytes)  # instead of one that still waits


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_minute_of_broken_connections_between_processes_loses_and_doubles_nothing(
    redis_server: RedisServer, start_proxy: Callable[..., Proxy]
) -> None:
    for_writers, for_readers = start_proxy(redis_server, seed=1), start_proxy(redis_server, seed=2)

    def arguments(proxy: Proxy, **more: Any) -> dict[str, Any]:
        config = {"hosts": [proxy.url], "prefix": "cuts", "capacity": 100_000}
        return {"path": LAYER, "config": config, "group": "all", **more}

    ledger, storm = Ledger(), Storm([for_writers, for_readers])
    children: list[Child] = []
    raging: asyncio.Task[None] | None = None
    try:
        of_reader = arguments(for_readers, channels=["orders"], readers=3)
        readers = [await Child.start("support.workers:read", of_reader) for _ in range(2)]
        children += readers
        own = [await reader.hear(30) for reader in readers]
        raging = asyncio.create_task(storm.rage())
        of_writer = arguments(for_writers, channels=[*own, "orders"], seconds=SECONDS)
        for number in range(2):
            children.append(await Child.start("support.workers:write", {**of_writer, "client": f"writer-{number}"}))
        for number, writer in enumerate(children[2:]):
            sent = await writer.result(SECONDS + 40)
            to_group = sent.pop("all")
            for channel, count in sent.items():
                ledger.count(channel, f"writer-{number}", count)
            for channel in own:
                ledger.count(channel, f"writer-{number} to all", to_group)
        assert not raging.done(), raging.exception()
        raging.cancel()
        await asyncio.wait({raging})
        await storm.calm()
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
            for channel, clients in (await reader.result()).items():
                for client, numbers in clients.items():
                    ledger.received[channel, client] += numbers
    finally:
        if raging is not None:
            raging.cancel()
        await asyncio.gather(*(child.close() for child in children))
    print(f"{ledger.sent.total()} messages, {for_writers.cuts} and {for_readers.cuts} cuts,", end=" ")
    print(f"{len(storm.lost)} lost replies, {storm.replayed} requests of the past")
    enough = min(for_writers.cuts, for_readers.cuts) > 100 and len(storm.lost) > 20 and storm.replayed > 50
    assert enough, "hardly anything went wrong, so this test showed nothing"
    ledger.check(in_order=own, at_least=500)
