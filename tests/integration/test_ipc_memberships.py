"""Memberships of the IPC layer: in the memory of who owns the channel, and in the store only which processes are in."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.processes import Child
from trunkline import IPCChannelLayer, LayerUnavailable
from trunkline.ipc import presence, upkeep

PATIENCE = 10.0  # s


async def member(layer: IPCChannelLayer, *groups: str) -> str:
    channel = await layer.new_channel()
    for group in groups:
        await layer.group_add(group, channel)
    return channel


async def numbers(layer: IPCChannelLayer, channel: str) -> list[int]:
    """What lies in the channel, up to a message that is sent now."""
    await layer.group_discard("nobody", channel)  # empties the inbox: a direct message may overtake those of groups
    await layer.send(channel, {"number": "end"})
    found: list[Any] = []
    while not found or found[-1] != "end":
        found.append((await asyncio.wait_for(layer.receive(channel), PATIENCE))["number"])
    return found[:-1]


async def send(layer: IPCChannelLayer, group: str, number: int) -> None:
    await layer.group_send(group, {"number": number})


async def listens(layer: IPCChannelLayer) -> None:
    """Have this event loop listen for the layer."""
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(layer.receive("nothing"), 0.001)


async def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def stand_still(seconds: float) -> None:
    """And so does the event loop of this thread, which can't look into the inbox."""
    time.sleep(seconds)


def groups_of(layer: IPCChannelLayer) -> set[str]:
    """The groups of this test that the process knows of members in."""
    return {group for group in ("room", "hall") if group in layer._participant()._memberships}


def entries(layer: IPCChannelLayer) -> list[bytes]:
    """What the store has of memberships."""
    keys = layer._participant().environment.write(lambda txn: [key for key, _ in txn.cursor()])
    return [key for key in keys if key[:1] in b"gj"]


def test_joining_and_leaving_a_group_that_the_process_is_in_does_without_the_store(config: dict[str, Any]) -> None:
    ours = IPCChannelLayer(**config)

    async def prepare() -> list[str]:
        await listens(ours)
        first = await member(ours, "room")
        return [first] + [await ours.new_channel() for _ in range(500)]

    async def change() -> None:
        for channel in channels:
            await ours.group_add("room", channel)
        for channel in channels[1:]:
            await ours.group_discard("room", channel)

    channels = asyncio.run(prepare())
    stored = entries(ours)
    assert len(stored) == 2
    with ThreadPoolExecutor(1) as pool, ours._participant().environment.lock:
        pool.submit(asyncio.run, change()).result(PATIENCE)
    assert entries(ours) == stored
    asyncio.run(ours.group_discard("room", channels[0]))
    assert entries(ours) == []
    asyncio.run(ours.close())


@pytest.mark.asyncio
@pytest.mark.parametrize("listening", [False, True])
async def test_a_member_hears_what_was_sent_between_its_joining_and_its_leaving(
    ours: IPCChannelLayer, theirs: IPCChannelLayer, listening: bool
) -> None:
    if listening:
        await listens(ours)
    always, own = await member(ours, "room"), await ours.new_channel()
    for number in range(0, 20, 4):  # and the event loop doesn't come round to hear its doorbell
        await send(theirs, "room", number)
        await ours.group_add("room", own)
        await send(theirs, "room", number + 1)
        await send(ours, "room", number + 2)
        await ours.group_discard("room", own)
        await send(ours, "room", number + 3)
    assert await numbers(ours, own) == [number for number in range(20) if number % 4 in (1, 2)]
    assert await numbers(ours, always) == list(range(20))


@pytest.mark.asyncio
@pytest.mark.parametrize("listening", [False, True])
async def test_another_process_joins_and_leaves_for_a_channel_in_order_with_the_messages(
    ours: IPCChannelLayer, theirs: IPCChannelLayer, listening: bool
) -> None:
    if listening:
        await listens(ours)
    always, own = await member(ours, "room"), await ours.new_channel()
    for number in range(0, 20, 4):
        await send(theirs, "room", number)
        await theirs.group_add("room", own)
        await send(theirs, "room", number + 1)
        await send(ours, "room", number + 2)
        await theirs.group_discard("room", own)
        await send(theirs, "room", number + 3)
    assert await numbers(ours, own) == [number for number in range(20) if number % 4 in (1, 2)]
    assert await numbers(ours, always) == list(range(20))


@pytest.mark.asyncio
async def test_a_direct_message_stays_before_that_of_a_group_which_another_process_joined_for(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    own = await ours.new_channel()
    await theirs.send(own, {"number": 1})
    await theirs.group_add("room", own)
    await send(theirs, "room", 2)
    assert await numbers(ours, own) == [1, 2]


@pytest.mark.asyncio
async def test_a_real_process_joins_and_leaves_for_a_channel_that_is_waited_at(config: dict[str, Any]) -> None:
    ours = IPCChannelLayer(**config, capacity=10_000)
    own, count = await ours.new_channel(), 1000
    arguments = {"config": config, "group": "room", "channel": own, "count": count}
    child = await Child.start("integration.ipc_children:join_and_leave_for", arguments)
    try:
        for number in range(count):
            assert await asyncio.wait_for(ours.receive(own), PATIENCE) == {"number": number}
        await child.result(30)
    finally:
        await child.close()
    assert await numbers(ours, own) == []
    assert entries(ours) == []
    await ours.close()


@pytest.mark.asyncio
async def test_a_join_by_another_process_survives_that_the_last_other_member_leaves(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    await listens(ours)
    first, second = await member(ours, "room"), await ours.new_channel()
    await theirs.group_add("room", second)
    await ours.group_discard("room", first)
    await send(theirs, "room", 1)
    assert await numbers(ours, second) == [1]
    await theirs.group_discard("room", second)
    assert await numbers(ours, second) == []
    assert entries(ours) == []


@pytest.mark.asyncio
async def test_a_flush_elsewhere_ends_memberships_and_those_made_after_it_hold(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    await listens(ours)
    ended, made = await member(ours, "room", "hall"), await ours.new_channel()
    await theirs.flush()
    await ours.group_add("room", made)  # before the event loop could hear of the flush
    await send(theirs, "room", 1)
    await send(theirs, "hall", 2)
    assert (await numbers(ours, ended), await numbers(ours, made)) == ([], [1])
    await theirs.flush()
    await theirs.group_add("room", made)
    await send(theirs, "room", 3)
    assert (await numbers(ours, ended), await numbers(ours, made)) == ([], [3])
    await ours.group_discard("room", made)
    assert entries(ours) == []


@pytest.mark.asyncio
async def test_a_flush_in_the_midst_of_a_join_comes_before_it(
    ours: IPCChannelLayer, theirs: IPCChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, participant = await ours.new_channel(), ours._participant()
    catch_up = participant._catch_up

    def flush_after_it() -> None:
        monkeypatch.undo()
        catch_up()
        theirs._participant().flush()

    monkeypatch.setattr(participant, "_catch_up", flush_after_it)
    await ours.group_add("room", own)
    await send(theirs, "room", 1)
    assert await numbers(ours, own) == [1]
    await ours.group_discard("room", own)
    assert entries(ours) == []


@pytest.mark.asyncio
async def test_a_flush_reaches_a_process_whose_inbox_ran_over_and_expired(
    config: dict[str, Any], theirs: IPCChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "INBOX_MESSAGES", 3)
    quick = IPCChannelLayer(**config, expiry=1)
    await listens(theirs)
    own = await member(theirs, "room")
    await quick.flush()
    await quick.group_add("hall", own)
    for number in range(3):
        await send(quick, "hall", number)
    stand_still(1)
    await send(quick, "hall", 3)
    await theirs.group_add("yard", await theirs.new_channel())
    await send(quick, "room", 4)
    assert await numbers(theirs, own) == [3]
    await quick.close()


@pytest.mark.asyncio
async def test_nothing_is_left_of_a_killed_process_that_others_joined_for(
    config: dict[str, Any], ours: IPCChannelLayer
) -> None:
    own = await member(ours, "room")
    child = await Child.start("integration.ipc_children:join_and_wait", {"config": config, "group": "room"})
    try:
        theirs = await child.hear(30)
        for group in ("hall", "yard"):
            await ours.group_add(group, theirs)
        assert len(entries(ours)) == 2 + 6
        child.kill()
        await child.ended()
        receiving = asyncio.ensure_future(ours.receive(own))  # an event loop that looks about
        await eventually(lambda: len(entries(ours)) == 2)
        await ours.group_add("hall", theirs)
        await ours.group_discard("room", theirs)
        assert len(entries(ours)) == 2
        await send(ours, "room", 1)
        assert await asyncio.wait_for(receiving, PATIENCE) == {"number": 1}
    finally:
        await child.close()


@pytest.mark.asyncio
async def test_a_process_that_was_taken_for_dead_is_in_its_groups_again(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    groups = [f"room.{number}" for number in range(2500)]  # more than are told at once
    own, left = await member(ours, *groups), await member(ours, "left")
    stored = entries(ours)
    upkeep.bury(theirs._participant().environment, ours._participant().owner)
    await ours.group_discard("left", left)
    assert entries(theirs) == []
    receiving = asyncio.ensure_future(ours.receive(own))
    await eventually(lambda: len(entries(theirs)) >= 2 * len(groups))
    assert entries(theirs) == [key for key in stored if b"left" not in key]
    await send(theirs, groups[-1], 1)
    assert await asyncio.wait_for(receiving, PATIENCE) == {"number": 1}
    another = await member(ours, groups[0])
    await send(theirs, groups[0], 2)
    assert (await numbers(ours, own), await numbers(ours, another)) == ([2], [2])


@pytest.mark.asyncio
async def test_memberships_survive_a_store_that_was_removed(config: dict[str, Any], ours: IPCChannelLayer) -> None:
    own = await member(ours, "room", "hall")
    receiving = asyncio.ensure_future(ours.receive(own))
    await asyncio.sleep(0)
    shutil.rmtree(config["directory"])
    theirs = IPCChannelLayer(**config)
    try:
        await eventually(lambda: ours._participant()._generation > 1 and len(entries(ours)) == 4)
        await send(ours, "room", 1)
        assert await asyncio.wait_for(receiving, PATIENCE) == {"number": 1}
        await send(theirs, "hall", 2)
        assert await numbers(ours, own) == [2]
    finally:
        await theirs.close()


@pytest.mark.asyncio
async def test_a_join_after_a_store_was_made_anew_brings_the_memberships_there(
    config: dict[str, Any], ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    early, late = await member(ours, "room", "hall"), await ours.new_channel()
    for name in ("data.mdb", "lock.mdb"):
        (ours._participant().environment.home.path / name).unlink()
    theirs._participant().environment.verify()
    assert entries(theirs) == []
    await ours.group_add("room", late)
    await send(theirs, "room", 1)
    await send(theirs, "hall", 2)
    assert (await numbers(ours, early), await numbers(ours, late)) == ([1, 2], [1])


@pytest.mark.asyncio
async def test_memberships_whose_time_is_over_leave_nothing_in_the_store(config: dict[str, Any]) -> None:
    ours, theirs = IPCChannelLayer(**config, group_expiry=1), IPCChannelLayer(**config, group_expiry=1)
    own = await member(ours, "room")
    await theirs.group_add("hall", own)
    await theirs.group_add("hall", "work")
    assert len(entries(ours)) == 5
    receiving = asyncio.ensure_future(ours.receive(own))
    await eventually(lambda: not entries(ours) and not groups_of(ours))
    await send(theirs, "room", 1)
    await send(theirs, "hall", 2)
    await ours.group_add("room", own)
    await send(theirs, "room", 3)
    assert await asyncio.wait_for(receiving, PATIENCE) == {"number": 3}
    await ours.close()
    await theirs.close()


@pytest.mark.asyncio
async def test_a_channel_that_nobody_receives_from_leaves_its_groups_when_a_message_has_expired(
    config: dict[str, Any],
) -> None:
    ours = IPCChannelLayer(**config, expiry=1)
    heard = await member(ours, "room")
    await member(ours, "room", "hall")
    receiving = asyncio.ensure_future(ours.receive(heard))
    await send(ours, "room", 1)
    assert await asyncio.wait_for(receiving, PATIENCE) == {"number": 1}
    receiving = asyncio.ensure_future(ours.receive(heard))
    await eventually(lambda: groups_of(ours) == {"room"})
    await send(ours, "room", 2)
    assert await asyncio.wait_for(receiving, PATIENCE) == {"number": 2}
    assert len(entries(ours)) == 2
    await ours.close()


@pytest.mark.asyncio
async def test_memberships_outlast_a_close_and_leaving_meanwhile_counts(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    stays, leaves = await member(ours, "room"), await member(ours, "room", "hall")
    await ours.close()
    await send(theirs, "room", 1)
    await ours.group_discard("hall", leaves)
    await send(theirs, "hall", 2)
    assert (await numbers(ours, stays), await numbers(ours, leaves)) == ([1], [1])
    assert [key for key in entries(ours) if b"hall" in key] == []


@pytest.mark.asyncio
async def test_a_member_that_joins_after_a_close_hears_nothing_from_before(
    ours: IPCChannelLayer, theirs: IPCChannelLayer
) -> None:
    early = await member(ours, "room")
    await ours.close()
    await send(theirs, "room", 1)
    late = await member(ours, "room")
    await send(theirs, "room", 2)
    assert (await numbers(ours, early), await numbers(ours, late)) == ([1, 2], [2])


@pytest.mark.asyncio
async def test_joining_for_a_process_that_does_not_listen_ends_with_an_error(
    ours: IPCChannelLayer, theirs: IPCChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "INBOX_MESSAGES", 5)
    own = await ours.new_channel()
    for _ in range(10):
        await theirs.group_add("room", own)
    with pytest.raises(LayerUnavailable, match="doesn't listen"):
        await theirs.group_add("room", own)
    await listens(ours)
    await theirs.group_discard("room", own)
    await send(theirs, "room", 1)
    assert await numbers(ours, own) == []


def test_threads_and_another_process_change_one_group_and_none_of_it_is_lost(config: dict[str, Any]) -> None:
    ours, theirs = IPCChannelLayer(**config), IPCChannelLayer(**config)
    rounds, together = 50, threading.Barrier(4, timeout=30)
    channels = [asyncio.run(ours.new_channel()) for _ in range(4)]

    async def change(layer: IPCChannelLayer, channel: str) -> None:
        for _ in range(rounds):
            together.wait()
            await layer.group_add("room", channel)
            together.wait()
            await layer.group_discard("room", channel)
        await layer.group_add("room", channel)

    with ThreadPoolExecutor(4) as pool:
        changing = [
            pool.submit(asyncio.run, change(layer, channel))
            for layer, channel in zip((ours, ours, theirs, theirs), channels, strict=True)
        ]
        for each in changing:
            each.result(60)

    async def hear() -> list[list[int]]:
        await send(theirs, "room", 1)
        return [await numbers(ours, channel) for channel in channels]

    assert asyncio.run(hear()) == [[1]] * 4
    for channel in channels:
        asyncio.run(ours.group_discard("room", channel))
    assert entries(ours) == []
    asyncio.run(ours.close())
    asyncio.run(theirs.close())
