"""Counted, at least once: cut connections, restarting servers, hanging processes, and every version of the server."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from support.flavours import FLAVOURS, Flavour
from support.processes import Child
from support.proxy import Proxy, Swallow
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, within
from trunkline.redis import reliable

pytestmark = [pytest.mark.redis, pytest.mark.asyncio]

LAYER = "trunkline.RedisChannelLayer"
LAST_WAIT_S = 30.0  # what was lost track of is given again within about 8 s of an idle machine
SECONDS_OF_CUTS = 15
MARKERS = (b"EVALSHA", b"EVALSHA", b":held:", b":q:jobs", b"BLPOP")


class Jobs:
    """Numbered messages on their way, and how often each was given."""

    def __init__(self, seed: int, failing: float) -> None:
        self.sent = 0
        self.given: dict[int, list[int]] = defaultdict(list)
        self.handled: set[int] = set()
        self.failed: set[int] = set()
        self._chance = Random(seed)
        self._failing = failing

    async def send(self, layer: RedisChannelLayer, until: float) -> None:
        while time.monotonic() < until:
            await layer.send("jobs", {**numbered(self.sent), "padding": "x" * 100})
            self.sent += 1
            await asyncio.sleep(0.002)

    async def handle(self, layer: RedisChannelLayer) -> None:
        while True:
            delivery = await layer.receive_reliably("jobs")
            number = delivery.message["number"]
            self.given[number].append(delivery.deliveries)
            if number not in self.failed and self._chance.random() < self._failing:
                self.failed.add(number)
                await delivery.failed("as chance has it")
            else:
                await delivery.done()
                self.handled.add(number)

    async def all_handled(self) -> None:
        end = time.monotonic() + LAST_WAIT_S
        while len(self.handled) < self.sent and time.monotonic() < end:
            await asyncio.sleep(0.05)

    def check(self) -> str:
        lost = set(range(self.sent)) - self.handled
        assert not lost, f"{len(lost)} of {self.sent} messages were lost: {sorted(lost)[:10]}"
        wrong = {number: counts for number, counts in self.given.items() if len(set(counts)) < len(counts)}
        assert not wrong, f"deliveries with the same count: {wrong}"
        unrepeated = self.failed - {number for number, counts in self.given.items() if max(counts) > 1}
        assert not unrepeated, f"failed and not given again: {unrepeated}"
        repeated = sum(len(counts) > 1 for number, counts in self.given.items() if number not in self.failed)
        return f"{self.sent} messages, 0 lost, {len(self.failed)} failed and repeated, {repeated} others repeated"


async def nothing_is_left(server: RedisServer, layer: RedisChannelLayer) -> None:
    with server.client() as client:
        left = {key: client.xlen(key) for key in client.scan_iter(match="*:held:*", count=1000)}
    assert not any(left.values()), left
    assert await layer.dead_letters() == []


@pytest.mark.slow
async def test_cut_connections_lost_replies_and_late_requests_lose_nothing(
    redis_server: RedisServer, start_proxy: Callable[..., Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliable, "FIRST_PAUSE_S", 0.05)
    proxies = [start_proxy(redis_server, seed=seed) for seed in (1, 2, 3)]
    config = {"prefix": uuid.uuid4().hex, "capacity": 100_000, "expiry": 600}
    sender, *readers = (RedisChannelLayer(hosts=[proxy.url], **config) for proxy in proxies)
    jobs, chance, lost, replayed = Jobs(4, failing=0.05), Random(5), list[bytes](), 0
    until = time.monotonic() + SECONDS_OF_CUTS
    try:
        async with Tasks() as tasks:
            handling = [tasks.start(jobs.handle(reader)) for reader in readers for _ in range(3)]
            sending = tasks.start(jobs.send(sender, until))
            while time.monotonic() < until:
                for proxy in proxies:
                    await asyncio.to_thread(proxy.cut_at_random_bytes, chance.choice((8_000, 20_000, 60_000)))
                proxy = chance.choice(proxies[1:])
                swallow: Swallow = await asyncio.to_thread(proxy.swallow_reply, chance.choice(MARKERS))
                await asyncio.sleep(0.2)
                if swallow.done:
                    lost.append(swallow.request)
                if lost:
                    await asyncio.to_thread(proxy.replay_quietly, chance.choice(lost[-20:]))
                    replayed += 1
            for proxy in proxies:
                await asyncio.to_thread(proxy.cut_at_random_bytes, None)
                await asyncio.to_thread(proxy.swallow_reply, uuid.uuid4().bytes)  # instead of one that still waits
            await within(sending, 20)
            await jobs.all_handled()
            await asyncio.sleep(1.5)  # a repeat that should not be would come now
            assert [task for task in handling if task.done()] == []
        summary = jobs.check()
        await nothing_is_left(redis_server, sender)
        print(f"{summary}; {[proxy.cuts for proxy in proxies]} cuts, {len(lost)} lost replies, {replayed} replays")
        assert min(proxy.cuts for proxy in proxies) > 20, "hardly anything was cut, so this test showed nothing"
        assert jobs.sent > 200
        assert jobs.failed
        assert lost
    finally:
        for layer in (sender, *readers):
            await layer.close()


@pytest.mark.slow
async def test_a_server_that_is_killed_and_started_again_with_its_data_loses_nothing(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliable, "FIRST_PAUSE_S", 0.05)
    server = start_redis(appendonly="yes", appendfsync="always")
    config = {"hosts": [server.url], "prefix": "t", "capacity": 100_000, "expiry": 600, "retry_time": 30}
    sender, *readers = (RedisChannelLayer(**config) for _ in range(3))
    jobs = Jobs(6, failing=0.1)
    try:
        async with Tasks() as tasks:
            for reader in readers:
                tasks.start(jobs.handle(reader))
            sending = tasks.start(jobs.send(sender, time.monotonic() + 9))
            for away_s in (0.0, 1.5):
                await asyncio.sleep(2)
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(away_s)
                await asyncio.to_thread(server.start)
            await within(sending, 60)
            await jobs.all_handled()
            await asyncio.sleep(1.5)
        print(jobs.check())
        await nothing_is_left(server, sender)
        assert jobs.sent > 200
        assert jobs.failed
    finally:
        for layer in (sender, *readers):
            await layer.close()


@pytest.mark.slow
async def test_what_a_process_has_that_hangs_is_given_to_another_but_not_what_one_has_whose_loop_is_blocked(
    redis_server: RedisServer,
) -> None:
    config = {"hosts": [redis_server.url], "prefix": "t", "capacity": 100}
    layer = RedisChannelLayer(**config)
    arguments = {"path": LAYER, "config": config, "channel": "jobs"}
    children = [await Child.start("support.workers:hold_one", arguments) for _ in range(2)]
    hanging, blocked = children
    try:
        for child in children:
            await child.hear(30)  # it is ready
        for number, child in enumerate(children):
            await child.tell("receive")
            await layer.send("jobs", numbered(number))
            assert await child.hear() == [number, 1]
        hanging.signal(signal.SIGSTOP)
        await blocked.tell(10)
        delivery = await within(layer.receive_reliably("jobs"), LAST_WAIT_S, "the message of the process that hangs")
        assert (delivery.message, delivery.deliveries) == (numbered(0), 2)
        waiting = asyncio.ensure_future(layer.receive_reliably("jobs"))
        hanging.signal(signal.SIGCONT)
        await hanging.tell("failed")  # nobody listens to it: the message is another's
        assert await hanging.hear() == "told"
        assert await blocked.hear(30) == "slept"
        await blocked.tell("done")
        assert await blocked.hear() == "told"
        await asyncio.wait({waiting}, timeout=2)
        assert not waiting.done(), waiting
        waiting.cancel()
        await delivery.done()
        await nothing_is_left(redis_server, layer)
    finally:
        await layer.close()
        await asyncio.gather(*(child.close() for child in children))


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
async def test_every_version_of_the_server_does_it(
    flavour: Flavour, start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliable, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(reliable, "MOST_DELIVERIES", 2)
    config: dict[str, Any] = {"hosts": [start_redis(flavour=flavour).url], "prefix": "t"}
    first, second = RedisChannelLayer(**config), RedisChannelLayer(**config)
    try:
        for number in range(5):
            await first.send("jobs", numbered(number))
        several = await asyncio.gather(*(within(first.receive_reliably("jobs")) for _ in range(5)))
        assert sorted(delivery.message["number"] for delivery in several) == list(range(5))
        for delivery in several[1:]:
            await delivery.done()
        await first.close()
        again = await within(second.receive_reliably("jobs"), 15)
        assert (again.message, again.deliveries) == (several[0].message, 2)
        await again.failed("for good")
        [letter] = await second.dead_letters()
        assert (letter.reason, letter.message, letter.deliveries) == ("for good", again.message, 2)
        assert await second.requeue_dead_letters([letter.id]) == []
        last = await within(second.receive_reliably("jobs"))
        assert (last.message, last.deliveries) == (again.message, 1)
        await last.failed("no", again=False)
        assert await second.drop_dead_letters([letter.id for letter in await second.dead_letters()]) == []
        assert await second.dead_letters() == []
    finally:
        await first.close()
        await second.close()
