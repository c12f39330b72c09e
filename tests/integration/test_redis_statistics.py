"""Counted traffic on real servers, and what the statistics say of it: exactly that, whatever was cut on the way."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.processes import Child, Peers
from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import ChannelFull, LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import numbered, receive_many, within
from trunkline.redis import statistics
from trunkline.redis.scripts import script
from trunkline.stats import OTHER, LayerStatistics, Statistics
from trunkline.stats.counters import MOST_NAMES

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
Make = Callable[..., RedisChannelLayer]
REPORTED_WITHIN_S = 20.0  # reports come once a second; a busy machine takes longer


@pytest_asyncio.fixture
async def make(shared_redis: list[RedisServer]) -> AsyncIterator[Make]:
    """Layers of one prefix, closed after the test; ``make(servers=3)`` or ``make(hosts=[...])``."""
    made: list[RedisChannelLayer] = []
    prefix = uuid.uuid4().hex

    def make(servers: int = 1, **config: Any) -> RedisChannelLayer:
        hosts = config.pop("hosts", [server.url for server in shared_redis[:servers]])
        made.append(RedisChannelLayer(**{"hosts": hosts, "prefix": prefix, "capacity": 100, **config}))
        return made[-1]

    yield make
    for layer in made:
        await within(layer.close(), 20)


async def settled(
    layer: RedisChannelLayer, told: Callable[[LayerStatistics], object], expected: object
) -> LayerStatistics:
    """Wait until the statistics tell what is expected, and see that they go on doing so."""
    end = time.monotonic() + REPORTED_WITHIN_S
    while told(found := await layer.statistics()) != expected:
        assert time.monotonic() < end, f"expected {expected}, found {told(found)} in {found}"
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.3)  # another report
    found = await layer.statistics()
    assert told(found) == expected, "it was reported twice"
    return found


def counts(found: Statistics) -> dict[str, int]:
    """What was counted, without what is 0."""
    names = ("messages_count", "received_count", "channel_full_count", "group_messages_count", "group_dropped_count")
    values = {name: getattr(found, name) for name in (*names, "expired_count", "unreadable_count", "messages_pending")}
    return {name: value for name, value in values.items() if value}


@pytest.mark.asyncio
@pytest.mark.parametrize("servers", [1, 3])
async def test_the_figures_of_several_processes_are_exact(make: Make, peers: Peers, servers: int) -> None:
    layer = make(servers)
    config = {"hosts": [host.label for host in layer.options.hosts], "prefix": layer.prefix, "capacity": 100}
    senders = [await peers.start(LAYER, config) for _ in range(2)]
    own, member = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", member)
    for sender in senders:
        await sender.send_numbered("orders", 30)
        await sender.send_numbered(own, 25)
        for number in range(5):
            await sender.group_send("room", numbered(number))
    await receive_many(layer, "orders", 40)
    await receive_many(layer, own, 50)
    await receive_many(layer, member, 10)
    found = await settled(
        layer,
        lambda found: (counts(found.total), {name: counts(entry) for name, entry in found.channels.items()}),
        (
            {"messages_count": 120, "received_count": 100, "group_messages_count": 10, "messages_pending": 20},
            {
                "orders": {"messages_count": 60, "received_count": 40, "messages_pending": 20},
                "specific!": {"messages_count": 50, "received_count": 60},
            },
        ),
    )
    assert counts(await layer.global_statistics()) == counts(found.total)
    assert counts(await layer.channel_statistics("orders")) == counts(found.channels["orders"])
    assert counts(await layer.channel_statistics(own)) == counts(found.channels["specific!"])
    assert await layer.channel_statistics("nobody-knows") == Statistics()
    by_process = {row.process: row for row in found.processes}
    assert len(by_process) == 3
    mine = by_process[layer.process]
    assert (mine.pid, mine.messages_count, mine.received_count, mine.unread) == (os.getpid(), 0, 100, 0)
    assert sorted(row.messages_count for row in found.processes) == [0, 60, 60]
    assert [shard.problem for shard in found.shards] == [""] * servers
    assert sum(shard.messages_pending for shard in found.shards) == 20
    assert all(shard.version and shard.memory and shard.clients for shard in found.shards)
    assert 1.0 < found.total.messages_max_age < 60.0


@pytest.mark.asyncio
async def test_full_dropped_and_expired_messages_are_counted_where_they_were_meant_to_go(make: Make) -> None:
    layer = make(capacity=5, expiry=3)
    own, member = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", member)
    await layer.group_add("room", "everybody")
    for number in range(8):
        await layer.group_send("room", numbered(number))
    assert await within(layer.receive(member)) == numbered(0)
    for number in range(7):
        try:
            await layer.send(own, numbered(number))
        except ChannelFull:
            assert number >= 5
    for number in range(4):
        await layer.send("orders", numbered(number))
    await asyncio.sleep(1.7)
    await layer.send("orders", numbered(4))
    await asyncio.sleep(1.7)  # all but the last one have expired
    assert await within(layer.receive("orders")) == numbered(4)
    found = await settled(
        layer,
        lambda found: {name: counts(entry) for name, entry in found.channels.items()},
        {
            "orders": {"messages_count": 5, "received_count": 1, "expired_count": 4},
            "everybody": {"group_dropped_count": 3},  # nobody came for the five, so they went with their list
            "specific!": {
                "messages_count": 5,
                "channel_full_count": 2,
                "received_count": 1,
                "group_dropped_count": 3,
                "expired_count": 9,
            },
        },
    )
    assert counts(found.total) == {
        "messages_count": 18,
        "group_messages_count": 8,
        "channel_full_count": 2,
        "received_count": 2,
        "group_dropped_count": 6,
        "expired_count": 13,
    }


@pytest.mark.asyncio
async def test_a_reply_that_is_cut_and_a_report_that_comes_again_late_double_nothing(
    make: Make, redis_server: RedisServer, start_proxy: Callable[..., Proxy]
) -> None:
    proxy = start_proxy(redis_server)
    layer, looker = make(hosts=[proxy.url]), make(hosts=[redis_server.url])
    requests = []
    for _ in range(3):
        swallow = proxy.swallow_reply(script("report").sha)
        await layer.send("orders", numbered(1))
        requests.append(await asyncio.to_thread(swallow.wait, 20))
        await layer.send("orders", numbered(1))
    await settled(looker, lambda found: found.total.messages_count, 6)
    for request in requests:
        proxy.replay(request)
    await settled(looker, lambda found: found.total.messages_count, 6)


@pytest.mark.asyncio
async def test_while_the_servers_are_away_counting_goes_on_and_nothing_is_lost_or_doubled(
    make: Make, start_redis: Callable[..., RedisServer]
) -> None:
    server = start_redis(appendonly="yes", appendfsync="always")
    layer = make(hosts=[server.url])
    await layer.send("orders", numbered(1))
    await settled(layer, lambda found: found.total.messages_count, 1)
    await layer.send("orders", numbered(2))
    server.kill()
    sending = asyncio.create_task(layer.send("orders", numbered(3)))
    await asyncio.sleep(1.2)
    server.start()
    await within(sending, 20)
    await settled(layer, lambda found: found.total.messages_count, 3)


@pytest.mark.asyncio
async def test_the_counts_of_a_process_that_ended_stay_and_its_own_row_goes(
    make: Make, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make()
    config = {"hosts": [host.label for host in layer.options.hosts], "prefix": layer.prefix, "capacity": 100}
    polite, killed = [await peers.start(LAYER, config) for _ in range(2)]
    for peer in (polite, killed):
        await peer.send_numbered("orders", 20)
    await settled(layer, lambda found: (found.total.messages_count, len(found.processes)), (40, 2))
    await polite.send_numbered("orders", 5)
    await polite.close()  # what was not reported yet is now
    await settled(layer, lambda found: (found.total.messages_count, len(found.processes)), (45, 1))
    killed.child.kill()
    assert len((await layer.statistics()).processes) == 1
    monkeypatch.setattr(statistics, "ROW_SHOWN", 2.0)
    await settled(layer, lambda found: (found.total.messages_count, len(found.processes)), (45, 0))


@pytest.mark.asyncio
async def test_names_without_end_are_counted_together_and_the_totals_stay_exact(make: Make) -> None:
    layers = [make() for _ in range(3)]
    for position, layer in enumerate(layers):
        await layer.send("orders", numbered(1))  # its thread runs from now on
        for number in range(MOST_NAMES):
            layer.counters.of(f"job-{position}-{number}").sent += 1
    found = await settled(layers[0], lambda found: found.total.messages_count, 3 + 3 * MOST_NAMES)
    assert len(found.channels) <= 1001
    assert sum(entry.messages_count for entry in found.channels.values()) == 3 + 3 * MOST_NAMES
    assert found.channels[OTHER].messages_count >= MOST_NAMES - 3


@pytest.mark.asyncio
async def test_a_layer_that_was_closed_and_is_used_again_goes_on_counting(make: Make) -> None:
    layer, looker = make(), make()
    for _ in range(3):
        await layer.send("orders", numbered(1))
        await layer.close()
    await settled(looker, lambda found: (found.total.messages_count, found.processes), (3, ()))


@pytest.mark.asyncio
async def test_a_forked_child_counts_what_the_child_does(make: Make) -> None:
    layer = make()
    config = {"hosts": [host.label for host in layer.options.hosts], "prefix": layer.prefix, "capacity": 10_000}
    own = await layer.new_channel()
    child = await Child.start(
        "support.sync_workers:prefork", {"path": LAYER, "config": config, "channel": own, "forks": 2, "sends": 3}
    )
    try:
        assert await child.result(60) == [0, 0]
    finally:
        await child.close()
    await receive_many(layer, own, 12)
    # The children ended by os._exit: what they counted in less than a second nobody knows; nor is it the parent's.
    found = await settled(layer, lambda found: found.total.received_count, 12)
    assert 6 <= found.total.messages_count <= 12


@pytest.mark.asyncio
async def test_whoever_only_looks_writes_nothing(redis_server: RedisServer, make: Make) -> None:
    layer = make(hosts=[redis_server.url])
    found = await layer.statistics()
    assert (found.total, dict(found.channels), found.processes) == (Statistics(), {}, ())
    with redis_server.client() as client:
        assert client.dbsize() == 0


@pytest.mark.asyncio
async def test_a_flush_removes_the_statistics_too(make: Make) -> None:
    layer = make()
    await layer.send("orders", numbered(1))
    await settled(layer, lambda found: found.total.messages_count, 1)
    await layer.flush()
    assert (await layer.statistics()).total.messages_pending == 0
    await layer.send("orders", numbered(1))
    await settled(layer, lambda found: found.total.messages_count, 1)


@pytest.mark.asyncio
async def test_of_servers_that_are_away_the_statistics_say_why_and_of_the_others_what_they_hold(
    make: Make, start_redis: Callable[..., RedisServer]
) -> None:
    servers = [start_redis() for _ in range(2)]
    layer = make(hosts=[server.url for server in servers])
    for number in range(20):
        await layer.send("orders", numbered(number))
    found = await settled(layer, lambda found: found.total.messages_count, 20)
    pending = [shard.messages_pending for shard in found.shards]
    assert sum(pending) == 20
    servers[1].kill()
    found = await layer.statistics()
    assert (found.counted, found.total.messages_count, found.total.messages_pending) == (True, 20, pending[0])
    assert not found.shards[0].problem
    assert f"127.0.0.1:{servers[1].port}" in found.shards[1].problem
    with pytest.raises(LayerUnavailable, match=str(servers[1].port)):
        await layer.channel_statistics("orders")
    servers[0].kill()
    with pytest.raises(LayerUnavailable, match="No statistics"):
        await layer.statistics()
    servers[1].start()
    found = await layer.statistics()
    assert (found.counted, found.total) == (False, Statistics())
