"""Counted: memberships through outages, restarts and races: what a process holds and what the server knows agree."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import ormsgpack
import pytest
import pytest_asyncio

from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.codec import CONTROL, pack_record
from trunkline.conformance.waiting import Tasks, eventually, numbered, receive, within
from trunkline.errors import LayerUnavailable
from trunkline.redis.ring import Ring

pytestmark = pytest.mark.redis


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def proxy(redis_server: RedisServer, start_proxy: Callable[..., Proxy]) -> Proxy:
    return start_proxy(redis_server)


@pytest_asyncio.fixture
async def make(redis_server: RedisServer, prefix: str) -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made = []

    def make(url: str = redis_server.url, **options: Any) -> RedisChannelLayer:
        made.append(RedisChannelLayer(hosts=[url], prefix=prefix, **options))
        return made[-1]

    yield make
    await within(asyncio.gather(*(layer.close() for layer in made)), 20, "the end of close()")


def groups_at(server: RedisServer) -> int:
    with server.client() as client:
        return sum(1 for _ in client.scan_iter("*:g:*", count=5000))


async def hears(sender: RedisChannelLayer, group: str, receiver: RedisChannelLayer, channel: str) -> None:
    """Eventually what is sent to the group arrives."""

    async def attempt() -> None:
        try:
            await within(sender.group_send(group, numbered(1)), 8)
        except LayerUnavailable as error:  # it has not been noticed yet that the server is back
            raise AssertionError(str(error)) from error
        assert await receive(receiver, channel, 0.5) == numbered(1)

    await eventually(attempt, 8)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
@pytest.mark.asyncio
async def test_a_membership_survives_a_renewal_that(
    how: str, redis_server: RedisServer, make: Callable[..., RedisChannelLayer]
) -> None:
    layer = make(retry_time=1, group_expiry=20)  # from the third second on, joining again goes to the server
    name = await layer.new_channel()
    await layer.group_add("room", name)
    redis_server.pause()
    end = time.monotonic() + 15
    try:
        while True:
            assert time.monotonic() < end, "the membership was not renewed"
            adding = asyncio.ensure_future(layer.group_add("room", name))
            await asyncio.wait({adding}, timeout=0.2 if how == "is cancelled" else 10)
            if not adding.done():
                adding.cancel()
                await asyncio.wait({adding}, timeout=5)
                assert adding.cancelled()
                break
            if adding.exception() is not None:
                assert isinstance(adding.exception(), LayerUnavailable)
                break
            await asyncio.sleep(0.05)
    finally:
        redis_server.resume()
    await hears(layer, "room", layer, name)


@pytest.mark.asyncio
async def test_a_group_add_that_failed_makes_no_member(
    redis_server: RedisServer, make: Callable[..., RedisChannelLayer]
) -> None:
    layer, other = make(retry_time=1), make()
    name = await layer.new_channel()
    await layer.group_add("first", name)
    redis_server.pause()
    try:
        with pytest.raises(LayerUnavailable):
            await within(layer.group_add("room", name), 10)
    finally:
        redis_server.resume()

    async def gone() -> None:
        assert groups_at(redis_server) == 1

    await eventually(gone, 8)
    await other.group_send("room", numbered(1))
    await other.group_send("first", numbered(2))
    assert await receive(layer, name) == numbered(2)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_an_outage_while_memberships_are_restored_loses_none(
    redis_server: RedisServer, proxy: Proxy, make: Callable[..., RedisChannelLayer]
) -> None:
    groups = 8000
    layer = make(proxy.url, retry_time=1)
    name = await layer.new_channel()
    for start in range(0, groups, 500):
        await asyncio.gather(*(layer.group_add(f"room-{number}", name) for number in range(start, start + 500)))
    assert groups_at(redis_server) == groups
    redis_server.restart_empty()
    end = time.monotonic() + 10
    with redis_server.client() as client:
        while client.dbsize() < 200:
            assert time.monotonic() < end, "no membership was restored"
            await asyncio.sleep(0)
    proxy.refuse()
    assert groups_at(redis_server) < groups, "the restart was over too soon to show anything"
    end = time.monotonic() + 15
    while True:  # until everything that was under way has failed
        assert time.monotonic() < end, "the outage is not noticed"
        try:
            await within(layer.group_add("one-more", name), 10)
        except LayerUnavailable:
            break
    await asyncio.sleep(1.5)  # more than the retry time: nothing that was tried before is still being tried
    proxy.refuse(False)

    async def restored() -> None:
        assert groups_at(redis_server) >= groups

    await eventually(restored, 15)


@pytest.mark.asyncio
async def test_a_join_by_another_process_stands_against_our_leave_of_the_last_member(
    make: Callable[..., RedisChannelLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, other = make(), make()
    first, second = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", first)
    runtime = layer._runtime
    assert runtime is not None
    unread: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(runtime.groups, "apply", unread.append)  # the reader of the inbox is slow
        await other.group_add("room", second)
        await layer.group_discard("room", first)  # at the server this comes second, and knows nothing of the other
        await layer.send(first, numbered(0))
        assert await receive(layer, first) == numbered(0)

        async def come() -> None:
            assert unread

        await eventually(come)
    for record in unread:
        runtime._control(record)
    await hears(other, "room", layer, second)


@pytest.mark.parametrize("control", [{"op": "join", "channel": 5, "life": 1}, {"op": "join"}, "join", {"op": []}])
@pytest.mark.asyncio
async def test_a_control_record_of_nonsense_does_not_end_the_reading(
    control: object, redis_server: RedisServer, make: Callable[..., RedisChannelLayer]
) -> None:
    layer, other = make(), make()
    name = await layer.new_channel()
    await layer.group_add("room", name)
    await other.group_send("room", numbered(0))
    assert await receive(layer, name) == numbered(0)
    record = pack_record(CONTROL, "room", ormsgpack.packb(control))
    with redis_server.client() as client:
        (key,) = (key for key in client.scan_iter("*:g:room"))
        inbox = key.replace(":g:room", f":in:{layer.process}")
        client.xadd(inbox, {"r": b"%013d" % ((time.time() + 60) * 1000) + record})
    await other.group_send("room", numbered(1))
    assert await receive(layer, name) == numbered(1)
    assert layer.counters.garbage == 1


@pytest.mark.asyncio
async def test_a_group_message_reaches_the_names_of_living_servers_when_another_is_away(
    start_redis: Callable[..., RedisServer], prefix: str
) -> None:
    servers, ring = [start_redis() for _ in range(2)], Ring(2)

    def lies_at(name: str) -> int:
        return int(ring.owners[ring.shard(name)])

    group = next(name for name in map("room-{}".format, range(100)) if lies_at(name) == 0)
    names = [f"custom!{number}" for number in range(40)]
    names.sort(key=lies_at, reverse=True)  # those of the server that goes come first
    layer = RedisChannelLayer(hosts=[server.url for server in servers], prefix=prefix, retry_time=1)
    try:
        for name in names:
            await layer.group_add(group, name)
        servers[1].kill()
        with pytest.raises(LayerUnavailable):
            await within(layer.group_send(group, numbered(1)), 10)
        for name in names:
            if lies_at(name) == 0:
                assert await receive(layer, name) == numbered(1)
    finally:
        await within(layer.close(), 15)


@pytest.mark.asyncio
async def test_joins_and_leaves_on_living_servers_go_on_while_those_on_another_wait(
    start_redis: Callable[..., RedisServer], prefix: str
) -> None:
    servers, ring = [start_redis() for _ in range(2)], Ring(2)
    layer = RedisChannelLayer(hosts=[server.url for server in servers], prefix=prefix)
    name = await layer.new_channel()
    there, here = [
        [group for group in map("room-{}".format, range(100)) if ring.owners[ring.group_shard(group)] == position]
        for position in (0, 1)
    ]
    try:
        await layer.send(name, numbered(0))
        await receive(layer, name)  # from now on the event loop has connections of its own
        await layer.group_add(here[0], name)
        servers[0].pause()
        async with Tasks() as tasks:
            waiting = [tasks.start(layer.group_add(group, name)) for group in there]
            for _ in range(3):
                await within(asyncio.gather(*(layer.group_add(group, name) for group in here)), 2)
                await within(asyncio.gather(*(layer.group_discard(group, name) for group in here)), 2)
            assert not any(task.done() for task in waiting)
            servers[0].resume()
            await within(asyncio.gather(*waiting), 15)
        await layer.group_send(there[0], numbered(1))
        assert await receive(layer, name) == numbered(1)
    finally:
        servers[0].resume()
        await within(layer.close(), 15)


@pytest.mark.asyncio
async def test_joins_and_leaves_in_any_order_leave_what_the_last_of_each_group_said(
    redis_server: RedisServer, make: Callable[..., RedisChannelLayer]
) -> None:
    layer, numbers, groups = make(), random.Random(5), [f"room-{number}" for number in range(60)]
    names = [await layer.new_channel() for _ in range(3)]
    members: dict[str, set[str]] = {group: set() for group in groups}

    async def change(group: str) -> None:
        """Joins and leaves of one group, one after the other; some are cancelled on the way, and then done again."""
        for _ in range(12):
            name = numbers.choice(names)
            what, change = numbers.choice(
                [(layer.group_add, members[group].add), (layer.group_discard, members[group].discard)]
            )
            if numbers.random() < 0.3:
                task = asyncio.ensure_future(what(group, name))
                await asyncio.sleep(numbers.choice([0, 0.001]))
                task.cancel()
                await asyncio.wait({task}, timeout=10)
            await what(group, name)
            change(name)

    def change_in_another_loop(part: list[str]) -> None:
        async def changes() -> None:
            await asyncio.gather(*map(change, part))

        asyncio.run(changes())

    await within(
        asyncio.gather(*map(change, groups[:40]), asyncio.to_thread(change_in_another_loop, groups[40:])), 60, "the end"
    )

    async def agree() -> None:
        with redis_server.client() as client:
            held = {key.rpartition(":")[2] for key in client.scan_iter("*:g:*", count=5000)}
            listed = {group for key in client.scan_iter("*:of:*", count=5000) for group in client.smembers(key)}
        assert held == listed == {group for group, some in members.items() if some}

    await eventually(agree, 8)
    for number, group in enumerate(groups):
        await layer.group_send(group, numbered(number))
    for name in names:
        expected = [number for number, group in enumerate(groups) if name in members[group]]
        assert sorted([(await receive(layer, name))["number"] for _ in expected]) == expected


@pytest.mark.asyncio
async def test_a_thousand_joins_of_one_turn_are_a_call_for_each_virtual_shard(
    redis_server: RedisServer, make: Callable[..., RedisChannelLayer]
) -> None:
    layer = make()
    name = await layer.new_channel()
    first = asyncio.ensure_future(layer.receive(name))  # this loop has connections of its own from now on
    await layer.group_add("first", name)
    with redis_server.client() as client:
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        await within(asyncio.gather(*(layer.group_add(f"room-{number}", name) for number in range(1000))), 20)
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
        assert groups_at(redis_server) == 1001
        await within(asyncio.gather(*(layer.group_discard(f"room-{number}", name) for number in range(1000))), 20)
        assert groups_at(redis_server) == 1
    assert calls < 600, "a thousand joins, and the beats of some seconds"
    await layer.group_send("first", numbered(1))
    assert await within(first, 5) == numbered(1)


@pytest.mark.asyncio
async def test_close_ends_joins_that_wait_behind_others_and_opens_no_connection_for_them(
    redis_server: RedisServer, proxy: Proxy, make: Callable[..., RedisChannelLayer]
) -> None:
    layer = make(proxy.url)
    name = await layer.new_channel()
    first = asyncio.ensure_future(layer.receive(name))
    await layer.group_add("first", name)
    proxy.stall()
    joins: list[asyncio.Future[None]] = []
    for turn in range(5):  # the first turn's joins are under way, those of the others wait behind them
        joins += [asyncio.ensure_future(layer.group_add(f"room-{turn}-{number}", name)) for number in range(100)]
        await asyncio.sleep(0.05)
    await within(layer.close(), 15, "the end of close()")
    proxy.flow()
    results = await within(asyncio.gather(*joins, return_exceptions=True), 5, "the end of all joins")
    assert {type(result) for result in results} <= {type(None), LayerUnavailable}
    first.cancel()

    async def nobody_is_connected() -> None:
        with redis_server.client() as client:
            own = client.client_id()
            assert [entry for entry in client.client_list() if int(entry["id"]) != own] == []

    await eventually(nobody_is_connected, 5)


@pytest.mark.asyncio
async def test_a_join_waits_behind_others_for_no_longer_than_the_retry_time(
    redis_server: RedisServer, prefix: str, make: Callable[..., RedisChannelLayer]
) -> None:
    layer = make(retry_time=3)
    name = await layer.new_channel()
    first = asyncio.ensure_future(layer.receive(name))
    await layer.group_add("first", name)
    with redis_server.client() as client:  # as while somebody flushes; the server is there all the time
        for key in client.scan_iter(f"tl1:{prefix}:*:epoch"):
            client.set(key, f"x:{int(time.time() * 1000)}:flushing")
    ring = Ring(1)
    together = [group for number in range(200) if ring.shard(group := f"room-{number}") == ring.shard("room-0")]

    async def join(group: str, after: float) -> float:
        await asyncio.sleep(after)
        begun = time.monotonic()
        with pytest.raises(LayerUnavailable):
            await layer.group_add(group, name)
        return time.monotonic() - begun

    waited = await asyncio.gather(*(join(group, 0.2 * place) for place, group in enumerate(together[:6])))
    assert max(waited) < 4.5, waited
    first.cancel()


@pytest.mark.asyncio
async def test_joins_that_wait_for_a_server_are_bounded(
    redis_server: RedisServer, proxy: Proxy, make: Callable[..., RedisChannelLayer]
) -> None:
    layer = make(proxy.url, retry_time=6)
    name = await layer.new_channel()
    first = asyncio.ensure_future(layer.receive(name))
    await layer.group_add("first", name)
    proxy.refuse()

    async def is_noticed() -> None:
        assert layer._run().process.servers[0].away_since is not None

    await eventually(is_noticed, 5)
    joins = [asyncio.ensure_future(layer.group_add(f"room-{number}", name)) for number in range(12_000)]
    await asyncio.sleep(0.5)
    refused = [join for join in joins if join.done() and "joins and leaves wait already" in str(join.exception())]
    assert 1_500 <= len(refused) <= 2_500
    proxy.refuse(False)
    results = await within(asyncio.gather(*joins, return_exceptions=True), 20, "the end of all joins")
    assert sum(1 for result in results if result is None) == groups_at(redis_server) - 1
    first.cancel()


@pytest.mark.asyncio
async def test_a_join_in_another_thread_is_not_lost_to_a_leave_that_was_just_told(
    make: Callable[..., RedisChannelLayer],
) -> None:
    layer, other = make(), make()
    name = await layer.new_channel()
    first = asyncio.ensure_future(layer.receive(name))
    await layer.group_add("room", name)
    process, tellings = layer._run().process, layer._run().groups._tellings
    told = tellings._told
    threads: list[threading.Thread] = []

    def told_while_another_joins(batch: Any, error: Exception | None) -> None:
        """The other thread comes to the lock while this one holds it, to note that the server knows of the leave."""
        tellings._told = told  # type: ignore[method-assign]
        with process.lock:
            threads.append(threading.Thread(target=lambda: asyncio.run(layer.group_add("room", name))))
            threads[0].start()
            time.sleep(0.3)
            told(batch, error)

    tellings._told = told_while_another_joins  # type: ignore[method-assign]
    await layer.group_discard("room", name)
    await asyncio.to_thread(threads[0].join, 10)
    await other.group_send("room", numbered(1))
    assert await within(first, 5) == numbered(1)
