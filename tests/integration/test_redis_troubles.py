"""What a server may answer instead of doing what it is asked: each trouble is a pause, counted on a real server.

docs/explanation/outages.md has the table that these tests show.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from support.numbered_traffic import Traffic
from support.proxy import Proxy
from support.servers import RedisServer
from support.troubles import TROUBLES, Trouble
from trunkline import LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, within
from trunkline.redis.scripts import script

pytestmark = pytest.mark.redis

SECONDS = 2.0  # of each trouble; well below the retry time


@pytest.fixture(params=TROUBLES, ids=lambda kind: kind.__name__)
def trouble(request: pytest.FixtureRequest) -> Iterator[Trouble]:
    with ExitStack() as stack:
        yield request.param(stack)


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(url: str, **options: Any) -> RedisChannelLayer:
        layer = RedisChannelLayer(hosts=[url], **{"prefix": "trouble", "capacity": 10_000, **options})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


async def problem_of(layer: RedisChannelLayer, word: str, deadline_s: float = 10.0) -> None:
    """Wait until the layer was told what is wrong."""
    end = time.monotonic() + deadline_s
    seen: set[str] = set()
    while not any(word in problem for problem in seen):
        assert time.monotonic() < end, f"nobody heard {word!r} of the server, only {seen}"
        seen.add(layer._run().process.servers[0].problem)
        await asyncio.sleep(0.005)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_trouble_of_two_seconds_is_a_pause(
    trouble: Trouble, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    async with Traffic(make_layer(trouble.url), make_layer(trouble.url)) as traffic:
        await traffic.more(40)
        await asyncio.to_thread(trouble.begin)
        await problem_of(traffic.sender, trouble.word)
        await asyncio.sleep(SECONDS)
        await asyncio.to_thread(trouble.end)
        await traffic.more(40)
        await traffic.end()
    assert not traffic.refusals, f"a pause below the retry time raises nothing: {traffic.refusals[:3]}"
    traffic.check()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_trouble_that_lasts_fails_sends_in_the_server_s_words_and_receives_wait(
    trouble: Trouble, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(trouble.url, retry_time=2)
    name = await layer.new_channel()
    async with Tasks() as tasks:
        waiting = await tasks.start_waiting(layer.receive(name), layer.receive("orders"))
        await until_accepted(lambda: layer.send("other", numbered(0)))  # it may take longer than the retry time
        await asyncio.to_thread(trouble.begin)
        for target in ("orders", name):
            with pytest.raises(LayerUnavailable) as caught:
                await within(layer.send(target, numbered(1)), 8, "the failure of a send")
            assert trouble.word in str(caught.value)
            assert f"127.0.0.1:{trouble.server.port}" in str(caught.value)
            assert "right" not in str(caught.value)
        assert not any(task.done() for task in waiting)
        await asyncio.to_thread(trouble.end)
        for target, task in zip((name, "orders"), waiting, strict=True):
            await until_accepted(partial(layer.send, target, numbered(2)))
            assert (await within(task))["number"] in (1, 2)  # the one that was not confirmed may have come


async def until_accepted(send: Callable[[], Any]) -> None:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            return await within(send(), 10)
        except LayerUnavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("it is not accepted again")


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["one connection", "all connections"])
async def test_clients_killed_at_random_lose_and_double_nothing(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer], how: str
) -> None:
    choice, kills = random.Random(1), 0
    async with Traffic(make_layer(redis_server.url), make_layer(redis_server.url)) as traffic:
        await traffic.more(40)
        with redis_server.client() as client:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                own = client.client_id()
                others = [entry["id"] for entry in client.client_list() if int(entry["id"]) != own]
                for victim in [choice.choice(others)] if how == "one connection" and others else others:
                    kills += client.client_kill_filter(_id=victim)
                await asyncio.sleep(choice.uniform(0.01, 0.1 if how == "one connection" else 0.4))
        await traffic.more(40)
        await traffic.end()
    assert kills > 20
    assert not traffic.refusals
    traffic.check()


@pytest.mark.asyncio
async def test_paused_clients_wait(redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]) -> None:
    async with Traffic(make_layer(redis_server.url), make_layer(redis_server.url)) as traffic:
        await traffic.more(40)
        before = traffic.sent()
        with redis_server.client() as client:
            client.client_pause(2_000)
        await asyncio.sleep(1)
        assert traffic.sent()["direct"] - before["direct"] < 20, "nothing was paused"
        await traffic.more(40)
        await traffic.end()
    assert not traffic.refusals
    traffic.check()


@pytest.mark.asyncio
async def test_scripts_flushed_under_traffic_are_loaded_again(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    async with Traffic(make_layer(redis_server.url), make_layer(redis_server.url)) as traffic:
        await traffic.more(40)
        with redis_server.client() as client:
            for _ in range(60):
                client.script_flush()
                await asyncio.sleep(0.03)
            told = client.info("commandstats")
        scripts = sum(each["calls"] for name, each in told.items() if name.startswith("cmdstat_script"))
        assert scripts > 60 + 50, "no script was loaded again"
        await traffic.more(40)
        await traffic.end()
    assert not traffic.refusals
    traffic.check()


@pytest.mark.asyncio
async def test_a_server_that_is_really_full_can_be_emptied_by_its_readers(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender = make_layer(redis_server.url, retry_time=1)
    receiver = make_layer(redis_server.url)
    own, taken = await receiver.new_channel(), {"own": 0, "orders": 0}
    with redis_server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 3_000_000)
    with pytest.raises(LayerUnavailable, match="OOM"):
        await fill(sender, own, taken)
    for what, channel in (("own", own), ("orders", "orders")):
        numbers = [(await within(receiver.receive(channel), 10))["number"] for _ in range(taken[what])]
        assert numbers == list(range(taken[what]))
    assert min(taken.values()) > 10
    await until_accepted(lambda: sender.send(own, numbered(-1)))
    while (await within(receiver.receive(own), 10)) != numbered(-1):
        pass  # the one that was not confirmed may come first


async def fill(layer: RedisChannelLayer, own: str, taken: dict[str, int]) -> None:
    for number in range(10_000):
        for what, channel in (("own", own), ("orders", "orders")):
            await within(layer.send(channel, {**numbered(number), "body": b"x" * 20_000}), 10)
            taken[what] = number + 1


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["direct", "push", "group"])
async def test_a_send_whose_reply_got_lost_is_not_doubled_where_the_server_forgot_its_scripts(
    redis_server: RedisServer,
    start_proxy: Callable[..., Proxy],
    make_layer: Callable[..., RedisChannelLayer],
    kind: str,
) -> None:
    proxy = start_proxy(redis_server)
    sender, receiver = make_layer(proxy.url), make_layer(redis_server.url)
    own = await receiver.new_channel()
    await receiver.group_add("room", own)
    target = {"direct": own, "push": "orders", "group": "room"}[kind]
    heard = "orders" if kind == "push" else own
    send = sender.group_send if kind == "group" else sender.send
    async with Tasks() as tasks:
        await tasks.start_waiting(sender.receive("elsewhere"))  # from now on this event loop has its own connection
        await send(target, numbered(0))
        assert await within(receiver.receive(heard), 5) == numbered(0)
        swallow = proxy.swallow_reply(script(kind).sha)
        proxy.refuse(cut=False)  # no new connection before the scripts are gone
        sending = tasks.start(send(target, numbered(1)))
        await asyncio.to_thread(swallow.wait)
        with redis_server.client() as client:
            client.script_flush()
        proxy.refuse(False)
        await within(sending, 8, "the end of the send")
        await send(target, numbered(2))
        assert [(await within(receiver.receive(heard), 5))["number"] for _ in range(2)] == [1, 2]
        with pytest.raises(AssertionError):
            await within(receiver.receive(heard), 0.3)
