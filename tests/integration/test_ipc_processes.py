"""The IPC layer between real processes: every message counted, and nothing of the dead left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.processes import Child
from trunkline import ChannelFull, IPCChannelLayer
from trunkline.ipc import presence

CHILDREN = "integration.ipc_children:"


@pytest.fixture
def config() -> Iterator[dict[str, Any]]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        yield {"directory": directory, "prefix": "test"}


@asynccontextmanager
async def children(*starting: Any) -> AsyncIterator[list[Child]]:
    started = await asyncio.gather(*starting)
    try:
        yield started
    finally:
        await asyncio.gather(*(child.close() for child in started))


def start(function: str, **arguments: Any) -> Any:
    return Child.start(CHILDREN + function, arguments)


def files(config: dict[str, Any]) -> set[str]:
    return {path.name for path in Path(config["directory"]).rglob("*") if path.is_file() or path.is_fifo()}


async def eventually(condition: Any, deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.02)


@pytest.mark.asyncio
@pytest.mark.parametrize("cancelling", [False, True], ids=["steady", "cancelling"])
async def test_two_writers_and_three_readers_lose_and_double_nothing(config: dict[str, Any], cancelling: bool) -> None:
    count = 5000
    readers = [start("read_until_told", config=config, channel="work", cancelling=cancelling) for _ in range(3)]
    async with children(*readers) as reading:
        for reader in reading:
            await reader.hear(30)
        writers = [
            start("send_numbered", config=config, channel="work", first=first, count=count) for first in (0, count)
        ]
        async with children(*writers) as writing:
            for writer in writing:
                await writer.result(60)
        end = time.monotonic() + 30
        while True:
            for reader in reading:
                await reader.tell("how many")
            if sum([await reader.hear(30) for reader in reading]) >= 2 * count:
                break
            assert time.monotonic() < end, "the readers did not get everything"
            await asyncio.sleep(0.05)
        for reader in reading:
            await reader.tell("stop")
        received = [await reader.result(30) for reader in reading]
    counted = Counter(number for numbers in received for number in numbers)
    assert counted == Counter(range(2 * count))
    assert min(len(numbers) for numbers in received) > count * 2 // 20, "one reader starved"
    for numbers in received:  # one reader sees each writer's messages in their order
        for half in (0, 1):
            own = [number for number in numbers if number // count == half]
            assert own == sorted(own)


@pytest.mark.asyncio
async def test_a_process_specific_channel_keeps_the_order_of_another_process(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**config)
    channel = await layer.new_channel()
    async with children(start("send_numbered", config=config, channel=channel, first=0, count=3000)) as (writer,):
        numbers = [(await asyncio.wait_for(layer.receive(channel), 20))["number"] for _ in range(3000)]
        await writer.result()
    assert numbers == list(range(3000))
    await layer.close()


@pytest.mark.asyncio
async def test_a_message_of_a_process_that_ended_is_there_for_the_first_reader(config: dict[str, Any]) -> None:
    async with children(start("send_numbered", config=config, channel="early", first=7, count=1)) as (writer,):
        await writer.result()
        await writer.ended()
    layer = IPCChannelLayer(**config)
    assert await asyncio.wait_for(layer.receive("early"), 5) == {"number": 7}
    await layer.close()


@pytest.mark.asyncio
async def test_a_killed_process_leaves_its_groups_and_no_files(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**config)
    own = await layer.new_channel()
    await layer.group_add("room", own)
    async with children(start("join_and_wait", config=config, group="room")) as (member,):
        await member.hear(30)
        at_work = files(config)
        receiving = asyncio.ensure_future(layer.receive(own))  # a loop that ticks
        member.kill()
        await member.ended()
        await layer.group_send("room", {"number": 1})
        assert await asyncio.wait_for(receiving, 5) == {"number": 1}
        participant = layer._participant()
        receiving = asyncio.ensure_future(layer.receive(own))
        await eventually(lambda: len(participant.environment.write(presence.processes)) == 1, 6)
        old = time.time() - 60
        for path in Path(config["directory"]).rglob("*.bell"):
            os.utime(path, (old, old))
        await eventually(lambda: len(files(config)) < len(at_work), 6)
        keys = participant.environment.write(lambda txn: [key for key, _ in txn.cursor()])
        receiving.cancel()
        assert [key for key in keys if key[:1] in b"ij"] == [b"j" + participant.owner + b"room"]
    await layer.close()
    assert files(config) == {"data.mdb", "lock.mdb"}


@pytest.mark.asyncio
async def test_a_reader_that_is_killed_after_its_bell_was_rung_strands_nothing(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**config)
    async with children(start("wait_for_one", config=config, channel="work")) as (first,):
        await first.hear(30)
        first.signal(signal.SIGSTOP)
        receiving = asyncio.ensure_future(layer.receive("work"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await layer.send("work", {"number": 1})  # rings the stopped one, which waited first
        first.kill()
        assert await asyncio.wait_for(receiving, 5) == {"number": 1}
    await layer.close()


@pytest.mark.asyncio
async def test_only_as_many_readers_wake_as_there_are_messages(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**config)
    waiting = [start("wait_for_one", config=config, channel="work") for _ in range(3)]
    async with children(*waiting) as readers:
        for reader in readers:
            await reader.hear(30)
        await layer.send("work", {"number": 1})
        answers = [asyncio.ensure_future(reader.result(20)) for reader in readers]
        done, _ = await asyncio.wait(answers, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert [answer.result() for answer in done] == [{"number": 1}]
        await layer.send("work", {"number": 2})
        await layer.send("work", {"number": 3})
        assert sorted(answer["number"] for answer in await asyncio.gather(*answers)) == [1, 2, 3]
    await layer.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_after_each_of_200_kills_of_a_writer_two_others_exchange_a_message_within_a_second(
    config: dict[str, Any],
) -> None:
    rounds = 200
    config = {**config, "size": 32 * 1024 * 1024, "expiry": 2}  # so that there is always room to write to
    layer = IPCChannelLayer(**config)
    longest = 0.0
    echoing = start("echo", config=config, channel="echo")
    async with children(echoing, start("kill_writers", config=config, rounds=rounds)) as (echo, killer):
        await echo.hear(30)
        mine = await layer.new_channel()
        for number in range(rounds):
            assert await killer.hear(30) == "killed"
            begin = time.monotonic()
            await layer.send("echo", {"number": number, "reply": mine})
            answer = await asyncio.wait_for(layer.receive(mine), 5)
            while answer["number"] < number:
                answer = await asyncio.wait_for(layer.receive(mine), 5)
            longest = max(longest, time.monotonic() - begin)
            assert longest < 1, f"kill {number}: the exchange took {longest:.2f} s"
            await killer.tell("go on")
        await killer.result()
        assert answer["number"] == rounds - 1
    await layer.close()


@pytest.mark.asyncio
async def test_a_forked_child_shares_nothing_with_its_parent(config: dict[str, Any]) -> None:
    async with children(start("use_after_fork", config=config)) as (process,):
        assert await process.result() == {"child": "fine", "parent": [True, {"ok": True}]}


USED_AT_ITS_END = """
import asyncio, atexit, sys

async def say(layer, number):
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.group_send("room", {"number": number})
    print((await asyncio.wait_for(layer.receive(channel), 5))["number"])

atexit.register(lambda: asyncio.run(say(layer, 2)))  # runs after what is registered later, so after the layer's own

from trunkline import IPCChannelLayer

layer = IPCChannelLayer(directory=sys.argv[1], prefix="test")
asyncio.run(say(layer, 1))
"""


def test_what_runs_at_the_end_of_a_process_can_use_the_layer(config: dict[str, Any]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", USED_AT_ITS_END, config["directory"]], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout.split(), ended.stderr, ended.returncode) == (["1", "2"], "", 0)


@pytest.mark.asyncio
async def test_prefixes_are_two_sites(config: dict[str, Any]) -> None:
    one, other = IPCChannelLayer(**config), IPCChannelLayer(**{**config, "prefix": "other"})
    await one.send("work", {"number": 1})
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(other.receive("work"), 0.1)
    assert await asyncio.wait_for(one.receive("work"), 5) == {"number": 1}
    await one.close()
    await other.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1_000_000, 5_000_000, 16_000_000])
async def test_large_bodies_travel(config: dict[str, Any], size: int) -> None:
    layer = IPCChannelLayer(**config)
    for number in range(3):
        await layer.send("large", {"number": number, "body": os.urandom(16) * (size // 16)})
    for number in range(3):
        message = await asyncio.wait_for(layer.receive("large"), 20)
        assert (message["number"], len(message["body"])) == (number, size)
    await layer.close()


@pytest.mark.asyncio
async def test_a_full_channel_refuses_and_takes_again_after_a_receive(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**config, capacity=3)
    for number in range(3):
        await layer.send("small", {"number": number})
    with pytest.raises(ChannelFull, match="capacity of 3"):
        await layer.send("small", {"number": 3})
    assert await asyncio.wait_for(layer.receive("small"), 5) == {"number": 0}
    await layer.send("small", {"number": 3})
    await layer.close()


@pytest.mark.asyncio
async def test_a_directory_that_is_removed_in_use_is_made_anew_and_receivers_move_over(config: dict[str, Any]) -> None:
    config = {**config, "directory": config["directory"] + "/inner"}
    layer = IPCChannelLayer(**config)
    name = await layer.new_channel()
    waiting = asyncio.gather(layer.receive("work"), layer.receive(name))
    await asyncio.sleep(0)
    await layer.send("other", {})
    shutil.rmtree(config["directory"])
    await eventually(lambda: "data.mdb" in files(config) and len(files(config)) == 3, 6)
    async with children(start("send_numbered", config=config, channel="work", first=1, count=1)) as (writer,):
        await writer.result()
        await layer.send(name, {"number": 2})
        at_work, at_name = await asyncio.wait_for(waiting, 6)
        assert (at_work, at_name) == ({"number": 1}, {"number": 2})
    await layer.close()


@pytest.mark.asyncio
async def test_a_flush_empties_the_memory_of_every_process(config: dict[str, Any]) -> None:
    layer, other = IPCChannelLayer(**config), IPCChannelLayer(**config)
    name = await layer.new_channel()
    await layer.group_add("room", name)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(layer.receive(name), 0.01)
    await other.group_send("room", {"number": 1})
    await asyncio.sleep(0.05)  # so that it has been fanned out; nothing tells
    await other.flush()
    receiving = asyncio.ensure_future(layer.receive(name))
    done, _ = await asyncio.wait({receiving}, timeout=0.2)
    assert not done
    await other.send(name, {"number": 2})
    assert await asyncio.wait_for(receiving, 5) == {"number": 2}
    await layer.close()
    await other.close()
