from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from support.ipc import unread
from trunkline.codec import Shared
from trunkline.ipc.boxes import Box, Boxes, Unread
from trunkline.ipc.waiting import Waiting
from trunkline.mailbox import Waiter
from trunkline.stats import Counters

IDLE = 60  # ns


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def others() -> Waiting:
    return Waiting()


@pytest.fixture
def make(counters: Counters, others: Waiting) -> Callable[[int], Boxes]:
    return lambda capacity: Boxes(threading.RLock(), lambda _channel: capacity, others, counters)


@pytest.fixture
def boxes(make: Callable[[int], Boxes]) -> Boxes:
    return make(9)


def item(text: bytes, deadline: int = 100) -> Unread:
    return deadline, Shared(text), False


def text(shared: Shared | None) -> bytes | None:
    return None if shared is None else shared.body


def taken_any(boxes: Boxes, now: int = 0) -> tuple[str, bytes] | None:
    found = boxes.take_any("a!", now)
    return found and (found[0].name, found[1].body)


def waits(box: Box) -> Waiter:
    return box.wait(asyncio.get_running_loop(), False)


def test_a_channel_gives_its_messages_in_order(boxes: Boxes) -> None:
    box = boxes.open("a!1", 0)
    assert boxes.open("a!1", 5) is box
    boxes.deliver([box], [item(b"1"), item(b"2")], {}, 0)
    boxes.deliver([box], [item(b"3")], {}, 0)
    assert unread(boxes) == 3
    assert [text(box.take(0)) for _ in range(4)] == [b"1", b"2", b"3", None]
    assert unread(boxes) == 0


def test_members_of_a_group_share_what_they_are_given_and_take_it_each_for_itself(boxes: Boxes) -> None:
    members = [boxes.open(name, 0) for name in ("a!1", "a!2")]
    boxes.deliver(members, [item(b"1"), item(b"2")], {}, 0)
    assert text(members[0].take(0)) == b"1"
    boxes.deliver(members[:1], [item(b"3")], {}, 0)
    assert [[text(box.take(0)) for _ in range(3)] for box in members] == [[b"2", b"3", None], [b"1", b"2", None]]


def test_a_full_channel_drops_and_counts_and_expired_messages_make_room(
    make: Callable[[int], Boxes], counters: Counters
) -> None:
    boxes = make(2)
    box, other = boxes.open("a!1", 0), boxes.open("a!2", 0)
    boxes.deliver([box], [item(b"1", deadline=10), item(b"2"), item(b"3")], {}, 0)
    assert (unread(boxes), counters.group_dropped) == (2, 1)
    boxes.deliver([box, other], [item(b"4"), item(b"5")], {}, 10)
    assert (unread(boxes), counters.group_dropped, counters.expired) == (4, 2, 1)
    assert [text(box.take(10)) for _ in range(3)] == [b"2", b"4", None]
    assert [text(other.take(10)) for _ in range(3)] == [b"4", b"5", None]


def test_direct_messages_in_the_store_take_room_and_go_first(make: Callable[[int], Boxes], counters: Counters) -> None:
    boxes = make(3)
    box, other = boxes.open("a!1", 0), boxes.open("a!2", 0)
    boxes.deliver([box, other], [item(b"1"), item(b"2")], {box: 2}, 0)
    assert counters.group_dropped == 1
    assert box.take_at_once(0) is None
    assert text(box.take(0)) == b"1"
    assert [text(other.take_at_once(0)) for _ in range(2)] == [b"1", b"2"]
    boxes.deliver([box], [item(b"3")], {}, 0)
    assert text(box.take_at_once(0)) == b"3"
    boxes.deliver([box], [item(b"4")], {box: 3}, 0)
    assert (unread(boxes), counters.group_dropped) == (0, 2)


def test_what_has_expired_is_neither_taken_nor_in_the_way(boxes: Boxes, counters: Counters) -> None:
    box = boxes.open("a!1", 0)
    boxes.deliver([box], [item(b"1", deadline=10), item(b"2", deadline=30)], {}, 0)
    assert text(box.take_at_once(10)) == b"2"
    boxes.deliver([box], [item(b"3", deadline=40)], {box: 1}, 30)
    assert box.take_at_once(40) is None
    assert (unread(boxes), counters.expired) == (0, 2)


def test_channels_of_one_prefix_take_turns_and_those_with_a_receiver_are_left(boxes: Boxes) -> None:
    async def run() -> None:
        a = [boxes.open(f"a!{number}", 0) for number in range(1, 4)]
        waits(a[1]).cancel()
        boxes.deliver([*a, boxes.open("b!1", 0)], [item(b"1"), item(b"2")], {}, 0)
        last = waits(a[1])
        assert [taken_any(boxes) for _ in range(5)] == [
            ("a!1", b"1"),
            ("a!3", b"1"),
            ("a!1", b"2"),
            ("a!3", b"2"),
            None,
        ]
        boxes.deliver([a[0]], [item(b"3", deadline=10), item(b"4")], {}, 0)  # the prefix is known to be asked for
        assert taken_any(boxes, 10) == ("a!1", b"4")
        assert a[1].leave_row(last)
        assert taken_any(boxes) == ("a!2", b"1")
        boxes.clear()
        assert taken_any(boxes) is None

    asyncio.run(run())


def test_a_message_wakes_one_receiver_and_one_of_the_prefix_where_there_is_none(boxes: Boxes, others: Waiting) -> None:
    async def run() -> None:
        box, alone = boxes.open("a!1", 0), boxes.open("a!2", 0)
        first, second = waits(box), waits(box)
        of_prefix: Waiter = asyncio.get_running_loop().create_future()
        boxes.deliver([box], [item(b"1")], {}, 0)
        assert (first.done(), second.done()) == (True, False)
        assert taken_any(boxes) is None  # and asks for the prefix from now on
        others.add("a!", of_prefix)
        boxes.deliver([box], [item(b"2")], {}, 0)
        assert (second.done(), of_prefix.done()) == (True, False)
        boxes.deliver([alone], [item(b"3")], {}, 0)
        assert of_prefix.done()

    asyncio.run(run())


def test_several_messages_at_once_wake_as_many_receivers_in_another_event_loop(boxes: Boxes, others: Waiting) -> None:
    loop = asyncio.new_event_loop()
    box, short = boxes.open("a!1", 0), boxes.open("a!2", 0)
    assert taken_any(boxes) is None
    of_prefix: Waiter = loop.create_future()
    others.add("a!", of_prefix)
    waiting = [*(box.wait(loop, False) for _ in range(3)), short.wait(loop, False)]
    try:
        boxes.deliver([box], [item(b"1"), item(b"2")], {}, 0)
        loop.run_until_complete(asyncio.sleep(0))
        assert [waiter.done() for waiter in (*waiting, of_prefix)] == [True, True, False, False, False]
        boxes.deliver([short], [item(b"1"), item(b"2")], {}, 0)
        loop.run_until_complete(asyncio.sleep(0))
        assert [waiter.done() for waiter in (*waiting, of_prefix)] == [True, True, False, True, True]
    finally:
        loop.close()


def test_a_sweep_wakes_again_and_names_the_channels_that_nobody_listens_to(boxes: Boxes, counters: Counters) -> None:
    async def run() -> None:
        old, quick, young, waited, woken = (boxes.open(f"a!{number}", 0) for number in range(5))
        young.last_receive = IDLE
        boxes.deliver([old, quick, young, waited, woken], [item(b"1", deadline=10), item(b"2", deadline=400)], {}, 0)
        waiting, again = waits(waited), waits(waited)
        boxes.deliver([quick], [item(b"3")], {}, 0)
        quick.items = None
        assert boxes.sweep(IDLE + 1, IDLE) == ({old, woken}, [])
        assert (waiting.done(), again.done()) == (True, False)
        assert (unread(boxes), counters.expired) == (4, 4)
        woken.woken = waiting
        waited.woken = None
        assert boxes.sweep(2 * IDLE + 1, IDLE) == (set(), [old, quick])
        assert again.done()
        waited.woken = None
        assert boxes.sweep(3 * IDLE + 1, IDLE) == (set(), [old, quick, young, waited])

    asyncio.run(run())


def test_a_closed_channel_is_forgotten_by_its_prefix_too(boxes: Boxes) -> None:
    box = boxes.open("a!1", 0)
    assert taken_any(boxes) is None
    boxes.deliver([box], [item(b"1")], {}, 0)
    box.items = None
    boxes.close(box)
    assert boxes.by_name == {}
    assert boxes._ready == {"a!": {}}
    assert not boxes.awaits("a!1")


def test_messages_on_their_way_come_in_order_and_go_back_from_the_last(boxes: Boxes) -> None:
    box = boxes.open("a!1", 0)
    for number in range(3):
        box.put_taken(number, b"%d" % number)
    assert [box.take_taken(), box.take_taken(last=True), box.take_taken(), box.take_taken()] == [
        (0, b"0"),
        (2, b"2"),
        (1, b"1"),
        None,
    ]
    assert box.taken is None


def test_a_flush_leaves_who_waits(boxes: Boxes) -> None:
    async def run() -> None:
        box = boxes.open("a!1", 0)
        box.put_taken(100, b"1")
        boxes.deliver([box], [item(b"2")], {}, 0)
        box.groups = 1
        waiting = waits(box)
        boxes.clear()
        assert (box.take_taken(), box.take(0), box.groups) == (None, None, 0)
        assert boxes.awaits("a!1")
        boxes.wake_all()
        assert waiting.done()

    asyncio.run(run())
