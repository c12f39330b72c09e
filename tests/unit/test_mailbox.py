"""The mailbox: nothing is lost when receivers are cancelled, nothing is told twice, members are bounded one by one."""

from __future__ import annotations

import asyncio

import pytest

from support.mailbox import OWN, Story, soon


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.mark.asyncio
async def test_a_receiver_that_is_cancelled_after_its_wake_up_leaves_the_message_to_the_next(story: Story) -> None:
    first = asyncio.create_task(story.receive(OWN + "1"))
    second = asyncio.create_task(story.receive(OWN + "1"))
    await soon(lambda: story.box.waiting() == 2)
    story.direct("1", b"only", "t")
    first.cancel()  # woken, and not yet resumed
    assert await asyncio.wait_for(second, 5) == b"only"
    assert first.cancelled()
    assert story.told == ["t"]


@pytest.mark.asyncio
async def test_a_receiver_of_the_prefix_inherits_from_a_cancelled_receiver_of_the_name(story: Story) -> None:
    by_name = asyncio.create_task(story.receive(OWN + "1"))
    by_prefix = asyncio.create_task(story.box.receive_any(OWN))
    await soon(lambda: story.box.waiting() == 2)
    story.direct("1", b"only", "t")
    by_name.cancel()
    assert await asyncio.wait_for(by_prefix, 5) == (OWN + "1", b"only")


@pytest.mark.asyncio
async def test_an_expired_message_is_told_to_the_transport_and_never_received(story: Story) -> None:
    story.direct("1", b"old", "old", life=1)
    story.direct("1", b"new", "new", life=60)
    story.clock.now += 2
    assert await asyncio.wait_for(story.receive(OWN + "1"), 5) == b"new"
    assert story.told == ["old", "new"]
    assert story.counters.expired == 1


def test_the_sweep_lets_go_of_what_expired_without_a_receive(story: Story) -> None:
    story.direct("1", b"old", "old", life=1)
    story.clock.now += 2
    story.box.sweep()
    assert story.told == ["old"]
    assert story.box.unread() == 0


@pytest.mark.asyncio
async def test_a_full_member_misses_a_group_message_and_its_neighbour_does_not(story: Story) -> None:
    story.box.join("g", OWN + "slow", story.clock() + 60)
    story.box.join("g", OWN + "quick", story.clock() + 60)
    for _ in range(3):
        assert story.group("g", b"x") == 0
        await story.receive(OWN + "quick")
    assert story.group("g", b"y") == 1
    assert await asyncio.wait_for(story.receive(OWN + "quick"), 5) == b"y"


def test_direct_and_group_messages_together_fill_a_member(story: Story) -> None:
    story.box.join("g", OWN + "1", story.clock() + 60)
    story.direct("1", b"d", "t")
    assert [story.group("g", b"x") for _ in range(3)] == [0, 0, 1]


def test_a_membership_ends_at_its_time_and_an_empty_group_is_forgotten(story: Story) -> None:
    story.box.join("g", OWN + "1", story.clock() + 5)
    story.clock.now += 6
    story.group("g", b"x")
    assert story.box.unread() == 0
    assert not story.box.holds("g")


def test_a_channel_that_nobody_receives_from_leaves_its_groups_with_its_first_expired_message(story: Story) -> None:
    story.box.join("g", OWN + "1", story.clock() + 86_400)
    story.group("g", b"x")
    story.clock.now += 61
    story.box.sweep()
    assert not story.box.holds("g")


def test_a_flush_forgets_messages_and_memberships_and_tells_the_transport(story: Story) -> None:
    story.box.join("g", OWN + "1", story.clock() + 60)
    story.direct("1", b"d", "t")
    story.box.clear()
    assert story.told == ["t"]
    assert story.box.unread() == 0
    assert not story.box.holds("g")


def test_receivers_of_a_closed_loop_are_passed_over(story: Story) -> None:
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(story.receive(OWN + "1"))
    loop.run_until_complete(asyncio.sleep(0))
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    story.direct("1", b"kept", "t")
    assert asyncio.run(asyncio.wait_for(story.receive(OWN + "1"), 5)) == b"kept"


@pytest.mark.asyncio
async def test_a_receiver_whose_channel_is_flushed_after_its_wake_up_hears_the_next_message(story: Story) -> None:
    waiting = asyncio.create_task(story.receive(OWN + "1"))
    await soon(lambda: story.box.waiting() == 1)
    story.direct("1", b"old", "old")  # woken, and not yet resumed
    story.box.clear()
    await asyncio.sleep(0)
    story.direct("1", b"new", "new")
    assert await asyncio.wait_for(waiting, 5) == b"new"
    assert story.told == ["old", "new"]


@pytest.mark.asyncio
async def test_a_receiver_whose_channel_is_swept_after_its_wake_up_hears_the_next_message(story: Story) -> None:
    waiting = asyncio.create_task(story.receive(OWN + "1"))
    await soon(lambda: story.box.waiting() == 1)
    story.direct("1", b"old", "old", life=1)  # woken, and not yet resumed
    story.clock.now += 61
    story.box.sweep()
    await asyncio.sleep(0)
    story.direct("1", b"new", "new")
    assert await asyncio.wait_for(waiting, 5) == b"new"


@pytest.mark.asyncio
async def test_a_receiver_inherits_from_one_whose_loop_stands_still(story: Story) -> None:
    still = asyncio.new_event_loop()
    stuck = still.create_task(story.receive(OWN + "1"))
    still.call_soon(still.call_soon, still.stop)
    await asyncio.to_thread(still.run_forever)
    waiting = asyncio.create_task(story.receive(OWN + "1"))
    await soon(lambda: story.box.waiting() == 2)
    try:
        story.direct("1", b"only", "t")
        for _ in range(2):
            story.box.sweep()
        assert await asyncio.wait_for(waiting, 5) == b"only"
    finally:
        stuck.cancel()
        await asyncio.to_thread(still.run_until_complete, asyncio.wait({stuck}))
        still.close()


def test_a_join_that_is_taken_back_leaves_what_was_before(story: Story) -> None:
    now = story.clock()
    assert story.box.join("g", OWN + "1", now + 10) is None
    assert story.box.join("g", OWN + "1", now + 60) == now + 10
    story.box.take_back("g", OWN + "1", now + 60, now + 10)
    assert story.box.memberships() == {"g": now + 10}
    story.box.join("g", OWN + "1", now + 70)
    story.box.take_back("g", OWN + "1", now + 60, None)  # another join came between
    assert story.box.memberships() == {"g": now + 70}
    story.box.take_back("g", OWN + "1", now + 70, None)
    assert not story.box.holds("g")


@pytest.mark.asyncio
async def test_receivers_that_find_messages_let_others_run_every_few_milliseconds(story: Story) -> None:
    story = Story(capacity=1000)
    rounds: list[int] = []
    received = 0

    async def drain(local: str) -> None:
        nonlocal received
        for _ in range(200):
            await story.receive(OWN + local)
            received += 1
            story.clock.now += 0.0005  # what the application does with it

    async def other() -> None:
        while received < 600:
            before = received
            await asyncio.sleep(0)
            rounds.append(received - before)

    for local in ("1", "2", "3"):
        for number in range(200):
            story.direct(local, b"m", f"{local}/{number}")
    await asyncio.gather(other(), *(drain(local) for local in ("1", "2", "3")))
    assert received == 600
    assert max(rounds) <= 4 + 3  # two milliseconds, and one message of each receiver
