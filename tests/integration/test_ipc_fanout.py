"""A group message and the many members of one IPC process: woken in slices, and none misses or doubles anything."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from support.ipc import unread
from trunkline import IPCChannelLayer
from trunkline.mailbox.waiting import SLICE

MEMBERS = 20 * SLICE


@pytest.fixture
def config() -> Iterator[dict[str, Any]]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        yield {"directory": directory, "prefix": "test"}


@pytest.fixture
def layer(config: dict[str, Any]) -> Iterator[IPCChannelLayer]:
    layer = IPCChannelLayer(**config)
    yield layer
    asyncio.run(layer.close())


async def members_of(layer: IPCChannelLayer, group: str) -> list[str]:
    channels = [await layer.new_channel() for _ in range(MEMBERS)]
    for channel in channels:
        await layer.group_add(group, channel)
    return channels


async def receiving(layer: IPCChannelLayer, channels: list[str]) -> list[asyncio.Task[dict[str, Any]]]:
    """Receivers that wait."""
    tasks = [asyncio.create_task(layer.receive(channel)) for channel in channels]
    await until(lambda: everybody_waits(layer, channels))
    return tasks


def everybody_waits(layer: IPCChannelLayer, channels: list[str]) -> bool:
    return all(map(layer._participant()._boxes.awaits, channels))


async def until(condition: Callable[[], bool]) -> None:
    async def look() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(look(), 20)


@pytest.mark.asyncio
async def test_a_group_message_for_many_lets_others_run_between_its_members(layer: IPCChannelLayer) -> None:
    tasks = await receiving(layer, await members_of(layer, "room"))
    layer._participant()._boxes.clock = lambda: 0.0  # a round that takes long has more members woken in the next
    order: list[int] = []
    before: list[int] = []  # how many had theirs in each round of the event loop

    def look() -> None:
        before.append(len(order))
        if len(order) < MEMBERS:
            asyncio.get_running_loop().call_soon(look)

    for task in tasks:
        task.add_done_callback(lambda task: order.append(tasks.index(task)))
    await layer.group_send("room", {"type": "all"})
    look()
    assert await asyncio.wait_for(asyncio.gather(*tasks), 20) == [{"type": "all"}] * MEMBERS
    await until(lambda: before[-1] == MEMBERS)
    assert max(after - so_far for so_far, after in pairwise(before)) <= SLICE


@pytest.mark.asyncio
@pytest.mark.parametrize("message", [{"type": "flat"}, {"type": "nested", "list": [{"a": 1}]}], ids=["flat", "nested"])
async def test_each_member_gets_an_object_of_its_own(layer: IPCChannelLayer, message: dict[str, Any]) -> None:
    tasks = await receiving(layer, await members_of(layer, "room"))
    await layer.group_send("room", message)
    got = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert got == [message] * MEMBERS
    assert len(set(map(id, got))) == MEMBERS
    if "list" in message:
        assert len({id(each["list"][0]) for each in got}) == MEMBERS


@pytest.mark.asyncio
async def test_members_that_further_messages_reach_before_their_turn_miss_and_double_nothing(
    config: dict[str, Any],
) -> None:
    layer, other = IPCChannelLayer(**config), IPCChannelLayer(**config)
    channels, messages = await members_of(layer, "room"), 5
    got: dict[str, list[int]] = {channel: [] for channel in channels}

    async def read(channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            got[channel].append(message["number"])

    readers = [asyncio.create_task(read(channel)) for channel in channels]
    await until(lambda: everybody_waits(layer, channels))
    for number in range(messages):
        await other.group_send("room", {"number": number})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await until(lambda: all(len(numbers) >= messages for numbers in got.values()))
    for channel in channels:  # what came twice would have come before this
        await other.send(channel, {"number": messages})
    await until(lambda: all(messages in numbers for numbers in got.values()))
    assert set(map(tuple, got.values())) == {tuple(range(messages + 1))}
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await layer.close()
    await other.close()


@pytest.mark.asyncio
async def test_a_member_that_is_cancelled_before_its_turn_leaves_the_message_to_the_next(
    layer: IPCChannelLayer,
) -> None:
    channels = await members_of(layer, "room")
    tasks = await receiving(layer, channels)
    heirs = [asyncio.create_task(layer.receive(channel)) for channel in channels]
    await asyncio.sleep(0)
    await layer.group_send("room", {"type": "all"})
    boxes = layer._participant()._boxes
    await until(lambda: unread(boxes) > 0)  # they are given theirs, and few are woken
    for task in tasks:
        task.cancel()
    left = await asyncio.gather(*tasks, return_exceptions=True)
    had = [number for number, each in enumerate(left) if isinstance(each, dict)]
    assert len(had) < MEMBERS // 2
    rest = [heir for number, heir in enumerate(heirs) if number not in had]
    for _ in range(2 * MEMBERS):  # rounds of the event loop: handed on, not found again a second later
        await asyncio.sleep(0)
    assert [heir.done() and heir.result() for heir in rest] == [{"type": "all"}] * len(rest)
    for heir in heirs:
        heir.cancel()
    await asyncio.gather(*heirs, return_exceptions=True)


def test_what_a_loop_that_ended_had_not_come_to_goes_to_receivers_in_the_next_loop(layer: IPCChannelLayer) -> None:
    channels = asyncio.run(members_of(layer, "room"))
    heard: dict[str, list[int]] = {channel: [] for channel in channels}

    async def read(channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            heard[channel].append(message["number"])

    async def use_the_loop(number: int, until_then: Callable[[], bool]) -> None:
        readers = [asyncio.create_task(read(channel)) for channel in channels]
        await until(lambda: everybody_waits(layer, channels))
        await layer.group_send("room", {"number": number})
        await until(until_then)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    asyncio.run(use_the_loop(1, lambda: any(heard.values())))
    assert not all(heard.values())
    asyncio.run(use_the_loop(2, lambda: all(2 in numbers for numbers in heard.values())))
    assert set(map(tuple, heard.values())) == {(1, 2)}


def test_what_a_closed_loop_had_not_come_to_goes_to_receivers_that_wait_in_another(layer: IPCChannelLayer) -> None:
    channels = asyncio.run(members_of(layer, "room"))
    participant = layer._participant()
    ended, all_wait, tasks = threading.Event(), threading.Event(), []

    async def be_woken() -> None:
        tasks.extend(await receiving(layer, channels))
        assert await asyncio.to_thread(all_wait.wait, 20)
        await layer.group_send("room", {"type": "all"})
        await until(lambda: unread(participant._boxes) > 0)
        assert unread(participant._boxes) > MEMBERS // 2

    async def wait_longer() -> list[dict[str, Any]]:
        await until(lambda: everybody_waits(layer, channels))
        heirs = [asyncio.create_task(layer.receive(channel)) for channel in channels]
        await asyncio.sleep(0)
        all_wait.set()
        ended.wait(60)  # and this loop stands still: the other one, whose members wait first, takes the message in
        had = [task.done() for task in tasks]
        rest = [heir for heir, done in zip(heirs, had, strict=True) if not done]
        got = await asyncio.wait_for(asyncio.gather(*rest), 20)
        for heir in heirs:
            heir.cancel()
        await asyncio.gather(*heirs, return_exceptions=True)
        return [task.result() for task in tasks if task.done()] + got

    gone = asyncio.new_event_loop()
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(asyncio.run, wait_longer())
        try:
            gone.run_until_complete(be_woken())
        finally:
            gone.close()
            ended.set()
        assert others.result(60) == [{"type": "all"}] * MEMBERS
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
