"""The local layer's two halves together: what stays on the machine, what doesn't, and what it warns of."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.processes import Peers
from support.sentinels import Sentinels
from support.servers import RedisServer
from trunkline import RedisLocalChannelLayer
from trunkline.conformance.waiting import Tasks, assert_silent, eventually, numbered, receive, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisLocalChannelLayer"
Make = Callable[..., RedisLocalChannelLayer]


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels("one", "two", sentinels=1, replicas=0) as started:
        yield started


@pytest.fixture
def config(shared_redis: list[RedisServer], tmp_path: Path) -> dict[str, Any]:
    return {
        "hosts": [shared_redis[0].url],
        "directory": str(tmp_path / "here"),
        "prefix": f"t{uuid.uuid4().hex[:8]}",
    }


@pytest_asyncio.fixture
async def make(config: dict[str, Any]) -> AsyncIterator[Make]:
    made: list[RedisLocalChannelLayer] = []

    def build(**options: Any) -> RedisLocalChannelLayer:
        made.append(RedisLocalChannelLayer(**{**config, **options}))
        return made[-1]

    yield build
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


@pytest.mark.asyncio
async def test_a_normal_channel_stays_on_its_machine_and_everything_else_reaches_another(
    make: Make, tmp_path: Path
) -> None:
    here, there = make(), make(directory=str(tmp_path / "there"))  # another directory is another machine
    channel = await there.new_channel()
    await here.group_add("room", channel)
    async with Tasks() as tasks:
        (elsewhere,) = await tasks.start_waiting(there.receive("work"))
        await here.send("work", numbered(1))
        assert await receive(here, "work") == numbered(1)
        await here.send(channel, numbered(2))
        await here.group_send("room", numbered(3))
        assert [await receive(there, channel) for _ in range(2)] == [numbered(2), numbered(3)]
        assert not elsewhere.done()


@pytest.mark.asyncio
async def test_a_normal_channel_in_a_group_gets_its_messages_on_the_machine_that_sends(
    make: Make, tmp_path: Path
) -> None:
    here, there = make(), make(directory=str(tmp_path / "there"))
    await there.group_add("room", "work")
    await here.group_send("room", numbered(1))
    assert await receive(here, "work") == numbered(1)
    await assert_silent(there, "work")
    here.counters.clear()
    small = make(capacity=1)
    await small.group_send("room", numbered(2))
    await small.group_send("room", numbered(3))  # dropped, and no error
    assert small.counters.group_dropped == 1
    await here.group_discard("room", "work")
    await here.group_send("room", numbered(4))
    assert await receive(here, "work") == numbered(2)
    await assert_silent(here, "work")


@pytest.mark.asyncio
async def test_both_halves_have_one_identity_and_one_set_of_counters(make: Make) -> None:
    layer = make()
    channel = await layer.new_channel()
    assert f".{layer.process}!" in channel
    assert layer._machine.process == layer.process
    for name in (channel, "work"):
        await layer.send(name, numbered(1))
        await receive(layer, name)
    assert (layer.counters.sent, layer.counters.received) == (2, 2)
    await layer.send("work", numbered(1))
    found = await layer.channel_statistics("work")
    assert found.messages_pending == 1
    assert (await layer.global_statistics()).messages_pending >= 1  # what was read leaves the server a moment later


@pytest.mark.asyncio
async def test_a_normal_channel_that_nobody_reads_is_warned_of_and_one_that_is_read_is_not(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    layer = make(expiry=2)  # the warning comes after half of it, so that the messages still exist
    with caplog.at_level(logging.WARNING, logger="trunkline"):
        async with Tasks() as tasks:

            async def read() -> None:
                while True:
                    await layer.receive("read")

            tasks.start(read())
            for number in range(3):
                await layer.send("read", numbered(number))
                await layer.send("unread", numbered(number))

            async def warned() -> None:
                assert "no process of this machine takes them" in caplog.text

            await eventually(warned, 20)
            await asyncio.sleep(0.5)
    lines = [record.getMessage() for record in caplog.records if "takes them" in record.getMessage()]
    assert len(lines) == 1
    assert "'unread' holds 3 message(s)" in lines[0]


@pytest.mark.asyncio
async def test_another_process_of_the_machine_shares_the_normal_channels(
    make: Make, config: dict[str, Any], peers: Peers
) -> None:
    layer = make()
    peer = await peers.start(LAYER, config)
    await layer.send("work", numbered(1))
    assert await peer.receive("work") == numbered(1)
    theirs = await peer.new_channel()
    await layer.send(theirs, numbered(2))
    assert await peer.receive(theirs) == numbered(2)
    await peer.call("send", "work", numbered(3))
    await layer.flush()
    await assert_silent(layer, "work")


@pytest.mark.asyncio
@pytest.mark.parametrize("services", [[], ["two"]], ids=["all", "named"])
async def test_the_redis_half_may_be_found_through_sentinels(
    sentinels: Sentinels, make: Make, services: list[str]
) -> None:
    layer = make(hosts=sentinels.hosts, services=services)
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.group_send("room", numbered(1))
    assert await receive(layer, channel) == numbered(1)
    await layer.send("work", numbered(2))
    assert await receive(layer, "work") == numbered(2)
    assert len(layer.options.hosts) == (1 if services else 2)


@pytest.mark.asyncio
async def test_normal_channels_work_while_no_server_can_be_reached(make: Make) -> None:
    variants: list[dict[str, Any]] = [{}, {"services": []}]
    for options in variants:
        layer = make(hosts=[("127.0.0.1", 9)], retry_time=0.2, **options)
        await within(layer.send("work", numbered(1)), 5)
        assert await receive(layer, "work") == numbered(1)


@pytest.mark.asyncio
async def test_at_least_once_is_refused_as_normal_channels_do_not_go_over_redis(make: Make) -> None:
    with pytest.raises(RuntimeError, match="delivers at most once"):
        await make().receive_reliably("work")
