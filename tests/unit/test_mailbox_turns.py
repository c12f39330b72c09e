"""A group message for many: its members have their turns one after the other, and none of them misses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from support.mailbox import OWN, RealClock, Story, soon
from trunkline.mailbox.waiting import SLICE, Slices


@pytest.fixture
def story() -> Story:
    return Story()


async def waiting_members(story: Story, members: int) -> list[asyncio.Task[bytes]]:
    tasks = [asyncio.create_task(story.receive(f"{OWN}{local}")) for local in range(members)]
    await soon(lambda: story.box.waiting() == members)
    for local in range(members):
        story.box.join("room", f"{OWN}{local}", story.clock() + 3600)
    return tasks


@pytest.mark.asyncio
async def test_a_group_message_for_many_lets_others_run_between_its_members(story: Story) -> None:
    members = 10 * SLICE
    rounds = 0

    def count() -> None:
        nonlocal rounds
        rounds += 1
        asyncio.get_running_loop().call_soon(count)

    tasks = [asyncio.create_task(story.receive(f"{OWN}{local}")) for local in range(members)]
    await soon(lambda: story.box.waiting() == members)
    for local in range(members):
        story.box.join("room", f"{OWN}{local}", story.clock() + 60)
    count()
    order: list[int] = []
    for task in tasks:
        task.add_done_callback(lambda task: order.append(tasks.index(task)))
    story.group("room", b"all")
    assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [b"all"] * members
    assert rounds >= 10
    assert order == list(range(members))


@pytest.mark.asyncio
async def test_members_that_further_messages_reach_before_their_turn_miss_and_double_nothing(story: Story) -> None:
    members, messages = 5 * SLICE, 3
    got: dict[int, list[bytes]] = {local: [] for local in range(members)}

    async def read(local: int) -> None:
        for _ in range(messages):
            got[local].append(await story.receive(f"{OWN}{local}"))

    tasks = [asyncio.create_task(read(local)) for local in range(members)]
    await soon(lambda: story.box.waiting() == members)
    for local in range(members):
        story.box.join("room", f"{OWN}{local}", story.clock() + 60)
    for number in range(messages):
        assert story.group("room", b"%d" % number) == 0
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert set(map(tuple, got.values())) == {(b"0", b"1", b"2")}


@pytest.mark.asyncio
async def test_a_member_that_is_cancelled_before_its_turn_leaves_the_message_to_the_next(story: Story) -> None:
    members = 3 * SLICE
    tasks = [asyncio.create_task(story.receive(f"{OWN}{local}")) for local in range(members)]
    await soon(lambda: story.box.waiting() == members)
    heirs = [asyncio.create_task(story.receive(f"{OWN}{local}")) for local in range(members)]
    await soon(lambda: story.box.waiting() == 2 * members)
    for local in range(members):
        story.box.join("room", f"{OWN}{local}", story.clock() + 60)
    story.group("room", b"all")
    for task in tasks:
        task.cancel()
    assert await asyncio.wait_for(asyncio.gather(*heirs), 5) == [b"all"] * members


def test_what_a_loop_that_ended_had_not_come_to_goes_to_receivers_in_the_next_loop(story: Story) -> None:
    members = 50 * SLICE
    heard: dict[int, list[bytes]] = {local: [] for local in range(members)}

    async def read(local: int) -> None:
        while True:
            heard[local].append(await story.receive(f"{OWN}{local}"))

    async def use_the_loop(number: bytes, until: Callable[[], bool]) -> None:
        readers = [asyncio.create_task(read(local)) for local in range(members)]
        await soon(lambda: story.box.waiting() == members)
        story.group("room", number)
        await soon(until)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    for local in range(members):
        story.box.join("room", f"{OWN}{local}", story.clock() + 60)
    asyncio.run(use_the_loop(b"1", lambda: any(heard.values())))
    assert not all(heard.values())
    asyncio.run(use_the_loop(b"2", lambda: all(b"2" in got for got in heard.values())))
    assert set(map(tuple, heard.values())) == {(b"1", b"2")}


@pytest.mark.asyncio
async def test_members_get_as_much_of_a_busy_loop_as_everything_else() -> None:
    members, rounds = 60 * SLICE, 0
    story = Story(clock=RealClock())
    tasks = await waiting_members(story, members)

    def work() -> None:
        nonlocal rounds
        rounds += 1
        time.sleep(0.02)
        asyncio.get_running_loop().call_soon(work)

    work()
    story.group("room", b"all")
    assert await asyncio.wait_for(asyncio.gather(*tasks), 30) == [b"all"] * members
    assert rounds < 30  # with sixteen in each, it would be sixty


@pytest.mark.asyncio
async def test_a_member_whose_message_expires_before_its_turn_stays_a_member(story: Story) -> None:
    members = 3 * SLICE
    tasks = await waiting_members(story, members)
    story.clock.now += 100  # longer than a channel may be idle that nobody waits for
    story.group("room", b"1")
    story.clock.now += 100
    story.box.sweep()
    assert not any(task.done() for task in tasks)
    story.group("room", b"2")
    assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [b"2"] * members


@pytest.mark.asyncio
async def test_a_receiver_of_the_prefix_takes_nothing_from_members_that_wait_for_their_turn(story: Story) -> None:
    tasks = await waiting_members(story, 5 * SLICE)
    by_prefix = asyncio.create_task(story.box.receive_any(OWN))
    await soon(lambda: story.box.waiting() == len(tasks) + 1)
    story.group("room", b"1")
    assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [b"1"] * len(tasks)
    assert not by_prefix.done()
    by_prefix.cancel()


@pytest.mark.asyncio
async def test_reading_goes_on_when_members_that_are_late_had_their_turn(story: Story) -> None:
    tasks = await waiting_members(story, 5 * SLICE)
    story.group("room", b"1")
    done: list[int] = []
    story.box.after_turns(lambda: done.append(sum(task.done() for task in tasks)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(done) == 1
    assert done[0] < len(tasks)
    story.clock.now += 1
    story.box.after_turns(lambda: done.append(sum(not task.done() for task in tasks)))
    await soon(lambda: len(done) == 2)
    assert done[1] <= SLICE  # the last ones are woken, and run in the same round
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


@pytest.mark.asyncio
async def test_an_error_at_one_turn_leaves_the_others_theirs() -> None:
    woken: list[int] = []

    def wake(some: list[int]) -> None:
        woken.extend(some)
        if 0 in some:
            raise RuntimeError("interrupted")

    slices = Slices(asyncio.get_running_loop(), wake, time.monotonic)
    with pytest.raises(RuntimeError, match="interrupted"):
        slices.add(list(range(5 * SLICE)), time.monotonic())
    await soon(lambda: len(woken) == 5 * SLICE)
    assert woken == list(range(5 * SLICE))
    assert not slices


def test_a_loop_that_has_ended_is_let_go(story: Story) -> None:
    async def use() -> None:
        tasks = await waiting_members(story, 3 * SLICE)
        story.group("room", b"1")
        await asyncio.wait_for(asyncio.gather(*tasks), 5)

    asyncio.run(use())
    assert story.box._slices is None
