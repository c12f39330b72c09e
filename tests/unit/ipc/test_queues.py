from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from trunkline.errors import ChannelFull
from trunkline.ipc import presence, queues
from trunkline.ipc.keys import head_place, place_of

A, B, C = b"bell-aaa", b"bell-bbb", b"bell-ccc"
OWNER = bytes(range(12))
OWN = f"specific.{OWNER.hex()}!1"
OTHER = f"specific.{OWNER.hex()}!2"
SECOND = 1_000_000_000


def nobody(_channel: str) -> bool:
    return False


@pytest.fixture
def push(environment: Any, ring: Any) -> Any:
    def push(channel: str, body: bytes, now: int = 0, deadline: int = 60 * SECOND, capacity: int = 100) -> bool:
        return environment.write(queues.push, place_of(channel), body, now, deadline, capacity, ring)

    return push


@pytest.fixture
def pop(environment: Any) -> Any:
    def pop(channel: str, now: int = 0, bell: bytes = b"", others: Any = (), before: int | None = None) -> Any:
        return environment.write(queues.pop, place_of(channel), now, bell, others, before)

    return pop


def test_messages_leave_in_the_order_they_came_and_nothing_is_left(push: Any, pop: Any, everything: Any) -> None:
    for number in range(300):
        push("work", b"%d" % number, capacity=300)
    assert [pop("work").body for _ in range(300)] == [b"%d" % number for number in range(300)]
    assert everything() == []


def test_one_channels_name_may_begin_with_anothers(push: Any, pop: Any) -> None:
    for channel in ("a", "a.b", "a!b", "a-"):
        push(channel, channel.encode())
    assert {channel: pop(channel).body for channel in ("a.b", "a", "a-", "a!b")} == {
        "a": b"a",
        "a.b": b"a.b",
        "a!b": b"a!b",
        "a-": b"a-",
    }


def test_a_full_channel_is_refused_and_named(push: Any) -> None:
    push("work", b"1", capacity=1)
    with pytest.raises(ChannelFull, match="'work' is full"):
        push("work", b"2", capacity=1)


def test_an_expired_message_counts_for_nothing(push: Any, pop: Any) -> None:
    push("work", b"old", deadline=SECOND, capacity=2)
    push("work", b"young", deadline=3 * SECOND, capacity=2)
    assert push("work", b"new", now=2 * SECOND, deadline=5 * SECOND, capacity=2)
    assert pop("work", now=2 * SECOND).body == b"young"
    assert pop("work", now=2 * SECOND).body == b"new"


def test_a_receive_drops_what_has_expired_and_says_how_much(push: Any, pop: Any, everything: Any) -> None:
    for _ in range(3):
        push("work", b"old", deadline=SECOND)
    assert pop("work", now=SECOND)[:3] == (None, 3, 0)
    assert everything() == []


def test_each_message_rings_one_of_those_who_wait_in_their_order(push: Any, pop: Any, ring: Any) -> None:
    for bell in (A, B):
        assert pop("work", bell=bell).body is None
    for _ in range(3):
        push("work", b"")
    assert ring.rung == [(A, b"work"), (B, b"work")]


def test_the_dead_are_passed_over(push: Any, pop: Any, ring: Any) -> None:
    for bell in (A, B, C):
        pop("work", bell=bell)
    ring.dead = {A, B}
    push("work", b"")
    assert ring.rung == [(C, b"work")]


def test_who_found_something_is_not_registered_but_the_others_are(push: Any, pop: Any, ring: Any) -> None:
    push("work", b"1")
    assert pop("work", bell=A, others=[B]).body == b"1"
    push("work", b"2")
    assert ring.rung == [(B, b"work")]


def test_a_wake_up_of_one_who_gave_up_goes_to_the_next(push: Any, pop: Any, ring: Any, environment: Any) -> None:
    pop("work", bell=A)
    pop("work", bell=B)
    push("work", b"1")
    environment.write(queues.withdraw, place_of("work"), [A], ring)
    assert ring.rung == [(A, b"work"), (B, b"work")]


def test_giving_up_leaves_nothing_behind(pop: Any, ring: Any, environment: Any, everything: Any) -> None:
    pop("work", bell=A)
    environment.write(queues.withdraw, place_of("work"), [A], ring)
    assert everything() == []


def test_direct_messages_that_came_later_than_a_group_message_are_left(push: Any, pop: Any) -> None:
    push("work", b"late", deadline=10)
    assert pop("work", before=9)[:3] == (None, 0, 1)
    assert pop("work", before=10).body == b"late"


def test_nothing_is_kept_for_a_process_that_is_not_there(push: Any, everything: Any) -> None:
    assert push(OWN, b"1")
    assert everything() == []


def test_a_receiver_of_the_prefix_is_rung_where_nobody_waits_for_the_name(
    push: Any, pop: Any, ring: Any, environment: Any
) -> None:
    environment.write(presence.register, OWNER, A, [])
    head = head_place(OWNER, f"specific.{OWNER.hex()}!")
    assert environment.write(queues.pop_any, head, 0, nobody, b"", B, ()) is None
    pop(OTHER, bell=C)
    push(OTHER, b"by name")
    push(OWN, b"by prefix")
    assert ring.rung == [(C, OTHER.encode()), (B, head.name)]
    place, popped = environment.write(queues.pop_any, head, 0, {OTHER}.__contains__, b"", B, ())
    assert (place.name, popped.body) == (OWN.encode(), b"by prefix")


def test_channels_of_one_prefix_take_turns(push: Any, environment: Any) -> None:
    environment.write(presence.register, OWNER, A, [])
    head = head_place(OWNER, f"specific.{OWNER.hex()}!")
    for channel in (OWN, OTHER):
        for _ in range(2):
            push(channel, channel[-1:].encode())
    after, taken = b"", []
    for _ in range(4):
        place, popped = environment.write(queues.pop_any, head, 0, nobody, after, b"", ())
        after = place.key
        taken.append(popped.body)
    assert taken == [b"1", b"2", b"1", b"2"]


def test_flushing_removes_messages_and_keeps_who_waits(push: Any, pop: Any, ring: Any, environment: Any) -> None:
    for channel in ("a", "b", "c!d"):
        push(channel, b"1")
        push(channel, b"2")
    pop("waiting", bell=A)
    environment.write(queues.empty_all)
    assert [pop(channel).body for channel in ("a", "b", "c!d")] == [None] * 3
    push("waiting", b"")
    assert ring.rung == [(A, b"waiting")]


def test_tidying_up_drops_expired_messages_and_dead_waiters_step_by_step(
    push: Any, pop: Any, environment: Any, everything: Any
) -> None:
    for number in range(10):
        push(f"old.{number}", b"", deadline=SECOND)
    push("young", b"", deadline=9 * SECOND)
    pop("waiting", bell=A)
    position: bytes | None = b""
    steps = 0
    while position is not None:
        position = environment.write(queues.drop_expired, position, 2 * SECOND, 3, lambda bell: False)
        steps += 1
    assert steps > 3
    assert next(key for key in everything() if key.endswith(b"\0")) == b"cyoung\0"
    assert len(everything()) == 2


@pytest.mark.parametrize("taken", [0, 3], ids=["none taken before", "some taken before"])
def test_what_is_put_back_is_the_first_again(
    push: Any, pop: Any, environment: Any, everything: Any, taken: int
) -> None:
    environment.write(presence.register, OWNER, A, [])
    for number in range(taken + 3):
        push(OWN, b"%d" % number)
    for _ in range(taken):
        pop(OWN)
    environment.write(queues.put_back, place_of(OWN), 50 * SECOND, b"back")
    assert pop(OWN, now=SECOND, before=50 * SECOND).body == b"back"
    assert [pop(OWN).body for _ in range(4)] == [b"%d" % number for number in range(taken, taken + 3)] + [None]
    assert everything() == [b"p" + OWNER]


def test_what_is_put_back_counts_for_the_capacity_and_keeps_who_waits(
    push: Any, pop: Any, environment: Any, ring: Any
) -> None:
    environment.write(presence.register, OWNER, A, [])
    pop(OWN, bell=A)
    environment.write(queues.put_back, place_of(OWN), 50 * SECOND, b"back")
    with pytest.raises(ChannelFull):
        push(OWN, b"1", capacity=1)
    push(OWN, b"1", capacity=2)
    assert ring.rung == [(A, OWN.encode())]


def test_a_doorbell_that_is_kept_takes_the_place_of_those_before(
    push: Any, pop: Any, environment: Any, ring: Any
) -> None:
    environment.write(presence.register, OWNER, A, [])
    pop(OWN, bell=A)
    pop(OWN, bell=B)
    push(OWN, b"1")  # for A
    (popped,) = environment.write(queues.pop_each, [(place_of(OWN), ())], 0, C)
    assert popped[:3] == (b"1", 0, 0)
    push(OWN, b"2")
    assert ring.rung == [(A, OWN.encode()), (C, OWN.encode())]


def test_what_expired_in_a_channel_that_stays_full_is_not_looked_for_in_the_next_one(
    environment: Any, ring: Any, push: Any, pop: Any
) -> None:
    for body, deadline in ((b"old", SECOND), (b"old", SECOND), (b"young", 60 * SECOND), (b"young", 60 * SECOND)):
        push("work", body, deadline=deadline)
    push("work.next", b"of another channel")
    place, now = place_of("work"), 2 * SECOND
    # A process with a smaller capacity than the one that filled it; to a member of a group, so that nothing is raised.
    assert not environment.write(partial(queues.push, drop=True), place, b"new", now, 60 * SECOND, 1, ring)
    assert [pop("work", now).body for _ in range(3)] == [b"young", b"young", None]
    assert pop("work.next", now).body == b"of another channel"
