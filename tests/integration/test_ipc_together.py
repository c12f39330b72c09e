"""Counted: sends that several tasks make at once travel in one transaction, and each has its own end."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from trunkline import ChannelFull, IPCChannelLayer

TASKS, EACH = 60, 40


@pytest.fixture
def config(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "capacity": TASKS * EACH}


def transactions(layer: IPCChannelLayer) -> int:
    """How many write transactions the store has seen."""
    number: int = layer._participant().environment._env.info()["last_txnid"]
    return number


async def read(layer: IPCChannelLayer, channel: str, count: int) -> list[tuple[int, int]]:
    messages = [await asyncio.wait_for(layer.receive(channel), 10) for _ in range(count)]
    return [(message["task"], message["number"]) for message in messages]


async def nothing_more(layer: IPCChannelLayer, channel: str) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.2)


@pytest.mark.asyncio
async def test_every_message_arrives_once_and_those_of_one_task_in_order(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    channel = await theirs.new_channel()

    async def send(task: int) -> None:
        for number in range(EACH):
            await ours.send(channel, {"task": task, "number": number})
            if number % 7 == task % 7:
                await asyncio.sleep(0)

    await ours.send("other", {"task": 0, "number": 0})
    before = transactions(ours)
    await asyncio.gather(*map(send, range(TASKS)))
    assert transactions(ours) - before < TASKS * EACH / 4
    found = await read(theirs, channel, TASKS * EACH)
    for task in range(TASKS):
        assert [number for sender, number in found if sender == task] == list(range(EACH))
    await nothing_more(theirs, channel)


@pytest.mark.asyncio
async def test_a_task_that_sends_one_after_the_other_waits_for_no_company(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    channel, turns = await theirs.new_channel(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    await ours.send("other", {})
    task = asyncio.ensure_future(others())
    await asyncio.sleep(0)
    before, turns = transactions(ours), 0
    for number in range(50):
        await ours.send(channel, {"task": 0, "number": number})
    assert turns < 25, "a turn of the loop now and then, as ever, and not one for each message"
    assert transactions(ours) - before >= 50
    task.cancel()
    assert await read(theirs, channel, 50) == [(0, number) for number in range(50)]


@pytest.mark.asyncio
async def test_a_full_channel_refuses_those_that_find_no_room_and_no_others(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**{**config, "channel_capacity": {"small": 10}})
    results = await asyncio.gather(
        *(layer.send(channel, {"task": task, "number": 0}) for task in range(30) for channel in ("small", "large")),
        return_exceptions=True,
    )
    refused = [result for result in results if result is not None]
    assert len(refused) == 20
    assert all(isinstance(error, ChannelFull) and error.channel == "small" for error in refused)
    assert len(set(await read(layer, "small", 10))) == 10
    assert sorted(await read(layer, "large", 30)) == [(task, 0) for task in range(30)]
    assert (await layer.channel_statistics("small")).channel_full_count == 20
    assert (await layer.channel_statistics("large")).messages_count == 30
    await layer.close()


@pytest.mark.asyncio
async def test_a_message_too_large_for_the_store_fails_alone(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**{**config, "size": 8 << 20})
    results = await asyncio.gather(
        *(
            layer.send("work", {"task": task, "number": 0, "body": b"x" * (20 << 20 if task == 7 else 10)})
            for task in range(20)
        ),
        return_exceptions=True,
    )
    assert [task for task, result in enumerate(results) if result is not None] == [7]
    assert isinstance(results[7], Exception)
    assert sorted(await read(layer, "work", 19)) == [(task, 0) for task in range(20) if task != 7]
    await layer.close()


@pytest.mark.asyncio
async def test_a_send_that_was_cancelled_arrives_once_or_not_at_all(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    channel = await theirs.new_channel()
    sent: list[tuple[int, int]] = []
    cancelled: set[tuple[int, int]] = set()

    async def send(task: int, number: int) -> None:
        try:
            await ours.send(channel, {"task": task, "number": number})
        except asyncio.CancelledError:
            cancelled.add((task, number))
            raise
        sent.append((task, number))

    for number in range(20):
        tasks = [asyncio.ensure_future(send(task, number)) for task in range(TASKS)]
        await asyncio.sleep(0)
        for task in tasks[number % 3 :: 3]:
            task.cancel()
        await asyncio.wait(tasks)
    await ours.send(channel, {"task": -1, "number": 0})
    found: list[tuple[int, int]] = []
    while not found or found[-1][0] != -1:
        found += await read(theirs, channel, 1)
    assert len(set(found)) == len(found)
    assert set(sent) <= set(found) <= set(sent) | cancelled | {(-1, 0)}
    assert cancelled


@pytest.mark.asyncio
async def test_close_in_the_same_turn_leaves_no_send_behind(ours: IPCChannelLayer, theirs: IPCChannelLayer) -> None:
    channel = await theirs.new_channel()
    sends = [asyncio.ensure_future(ours.send(channel, {"task": task, "number": 0})) for task in range(10)]
    await asyncio.sleep(0)
    await ours.close()
    await asyncio.wait_for(asyncio.gather(*sends), 5)
    assert sorted(await read(theirs, channel, 10)) == [(task, 0) for task in range(10)]


def test_loops_that_come_and_go_leave_nothing(config: dict[str, Any]) -> None:
    layer = IPCChannelLayer(**config)

    async def send(number: int) -> None:
        await asyncio.gather(*(layer.send("work", {"task": task, "number": number}) for task in range(5)))

    for number in range(20):
        asyncio.run(send(number))
    found = asyncio.run(read(layer, "work", 100))
    assert sorted(found) == [(task, number) for task in range(5) for number in range(20)]
    gc.collect()
    assert len(layer._participant().sending._of_loop) <= 1
    asyncio.run(layer.close())
