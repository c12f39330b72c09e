from __future__ import annotations

from typing import Any

import pytest

from trunkline.codec.records import PlainRecords
from trunkline.ipc import groups, presence
from trunkline.ipc.keys import NEVER, joined_key

HOME, LOOP = b"bell-hom", b"bell-lop"
OWNER, OTHER = bytes(range(12)), bytes(range(50, 62))
OWN = f"specific.{OWNER.hex()}!1"
OWN_TOO = f"specific.{OWNER.hex()}!2"
SECOND = 1_000_000_000
ROOM = 1 << 20


@pytest.fixture
def send(environment: Any, ring: Any) -> Any:
    def send(group: str, body: bytes, now: int = 0, capacity: int = 100, room: int = ROOM) -> groups.Sent:
        return environment.write(
            groups.send, group, body, PlainRecords.wrap, now, now + 60 * SECOND, lambda _: capacity, room, ring
        )

    return send


@pytest.fixture
def owner(environment: Any) -> bytes:
    environment.write(presence.register, OWNER, HOME, [LOOP])
    return OWNER


def collect(environment: Any, owner: bytes = OWNER) -> list[bytes]:
    items, more = environment.write(presence.collect, owner, 1000, 1 << 30)
    assert not more
    return [item.body for item in items]


def enter(environment: Any, group: str, owner: bytes = OWNER, end: int = 100 * SECOND) -> None:
    environment.write(groups.enter, group, owner, end)


@pytest.fixture
def add(environment: Any, ring: Any) -> Any:
    def add(group: str, channel: str, now: int = 0, lifetime: int = 100 * SECOND, room: int = ROOM) -> bool:
        return environment.write(groups.add, group, channel, now, lifetime, room, ring)

    return add


@pytest.fixture
def discard(environment: Any, ring: Any) -> Any:
    return lambda group, channel: environment.write(groups.discard, group, channel, ROOM, ring)


def test_a_group_message_comes_once_to_a_process_with_members(
    environment: Any, owner: bytes, send: Any, ring: Any
) -> None:
    enter(environment, "room")
    enter(environment, "room")
    send("room", b"1")
    send("room", b"2")
    assert ring.rung == [(HOME, b""), (LOOP, b"")], "the second ring was not needed"
    assert collect(environment) == [b"1", b"2"]


def test_an_entry_holds_until_the_last_time_that_was_given(
    environment: Any, owner: bytes, send: Any, everything: Any
) -> None:
    for end in (3 * SECOND, 5 * SECOND, 4 * SECOND):
        enter(environment, "room", end=end)
    send("room", b"1", now=5 * SECOND - 1)
    send("room", b"2", now=5 * SECOND)
    assert collect(environment) == [b"1"]
    assert everything() == [b"p" + OWNER]


def test_a_process_that_left_a_group_has_nothing_of_it(
    environment: Any, owner: bytes, send: Any, everything: Any
) -> None:
    environment.write(groups.enter_each, OWNER, {"room": SECOND, "hall": SECOND})
    for group in ("room", "hall"):
        environment.write(groups.leave, group, OWNER)
        send(group, b"1")
    assert everything() == [b"p" + OWNER]


def test_a_join_and_a_leave_of_another_process_come_in_order_with_the_messages(
    environment: Any, owner: bytes, send: Any, add: Any, discard: Any, ring: Any
) -> None:
    send("room", b"unheard")
    assert add("room", OWN, now=5)
    send("room", b"1", now=6)
    assert discard("room", OWN)
    send("room", b"2", now=7)
    items, _ = environment.write(presence.collect, OWNER, 1000, 1 << 30)
    assert [item.body for item in items] == [items[0].body, b"1", presence.LEAVE + OWN.encode(), b"2"]
    assert [item.deadline == NEVER for item in items] == [True, False, True, False]
    assert presence.joined(items[0]) == (OWN, 5 + 100 * SECOND)
    assert ring.rung == [(HOME, b""), (LOOP, b"")]


def test_an_entry_made_by_another_process_outlasts_the_membership(
    environment: Any, owner: bytes, send: Any, add: Any, everything: Any
) -> None:
    add("room", OWN, lifetime=10 * SECOND)
    collect(environment)
    send("room", b"1", now=10 * SECOND)
    assert collect(environment) == [b"1"], "its owner says when it ends"
    assert environment.write(groups.drop_ended, b"", 11 * SECOND, 100) is None
    assert everything() == [b"p" + OWNER]


def test_what_another_process_did_neither_expires_nor_finds_a_full_inbox(
    environment: Any, owner: bytes, send: Any, add: Any
) -> None:
    assert add("room", OWN)
    size = 1100
    assert send("room", b"x" * 900, room=size).dropped == 0
    assert send("room", b"x" * 900, room=size).dropped == 1
    assert add("room", OWN_TOO, room=size)
    assert send("room", b"y" * 900, now=61 * SECOND, room=size).dropped == 0, "expired ones behind a join make room"
    items, _ = environment.write(presence.collect, OWNER, 1000, 1 << 30)
    assert [presence.joined(item)[0] for item in items if item.deadline == NEVER] == [OWN, OWN_TOO]
    assert [item.body for item in items if item.deadline != NEVER] == [b"y" * 900]


def test_even_for_joins_an_inbox_has_an_end(environment: Any, owner: bytes, add: Any) -> None:
    added = [add("room", OWN, room=200) for _ in range(10)]
    assert added[:3] == [True] * 3
    assert added[-1] is False


def test_a_channel_of_a_process_that_has_gone_becomes_no_member(
    environment: Any, add: Any, discard: Any, everything: Any
) -> None:
    for change in (add, discard):
        with pytest.raises(LookupError):
            change("room", OWN)
    assert everything() == []


def test_normal_channels_are_members_of_their_own(environment: Any, send: Any, add: Any, discard: Any) -> None:
    add("room", "work")
    add("room", "ended", lifetime=1)
    assert send("room", b"1", now=2, capacity=1) == groups.Sent(0, [])
    assert send("room", b"2", now=3, capacity=1) == groups.Sent(1, [])
    discard("room", "work")
    assert send("room", b"3", now=4, capacity=1) == groups.Sent(0, [])


def test_a_group_whose_name_another_begins_with_is_another_group(environment: Any, owner: bytes, send: Any) -> None:
    enter(environment, "room")
    send("room.2", b"")
    send("roo", b"")
    assert collect(environment) == []


def test_a_full_inbox_drops_and_says_so(environment: Any, owner: bytes, send: Any) -> None:
    enter(environment, "room")
    assert send("room", b"x" * 600, room=1000).dropped == 0
    assert send("room", b"x" * 600, room=1000).dropped == 1
    assert send("room", b"x" * 600, now=61 * SECOND, room=1000).dropped == 0, "expired ones make room"


def test_a_dead_process_is_found_out_by_the_one_who_rings(
    environment: Any, owner: bytes, send: Any, ring: Any, everything: Any
) -> None:
    enter(environment, "room")
    ring.dead = {HOME, LOOP}
    assert send("room", b"1") == groups.Sent(0, [OWNER])
    assert environment.write(presence.remove, OWNER)
    assert everything() == []


def test_a_process_without_an_event_loop_lives_and_is_rung_at_home(
    environment: Any, owner: bytes, send: Any, ring: Any
) -> None:
    assert environment.write(presence.register, OWNER, HOME, []), "it was known"
    enter(environment, "room")
    assert send("room", b"1") == groups.Sent(0, [])
    assert ring.rung == [(HOME, b"")]


def test_removing_a_dead_process_leaves_the_living_alone(
    environment: Any, owner: bytes, send: Any, everything: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "REMOVE_AT_ONCE", 5)
    assert not environment.write(presence.register, OTHER, HOME, [LOOP]), "it was not known"
    for number in range(6):
        for each in (OWNER, OTHER):
            enter(environment, f"room.{number}", each)
    for _ in range(10):
        send("room.0", b"")
    steps = 1
    while not environment.write(presence.remove, OWNER):
        steps += 1
    assert steps > 3
    assert not [key for key in everything() if OWNER in key]
    assert collect(environment, OTHER) == [b""] * 10
    assert len([key for key in everything() if OTHER in key]) == 6 + 6 + 1


def test_one_process_a_second_looks_for_the_dead(environment: Any) -> None:
    assert environment.write(presence.claim_sweep, 10 * SECOND)
    assert not environment.write(presence.claim_sweep, 10 * SECOND + 1)
    assert environment.write(presence.claim_sweep, 11 * SECOND)


def test_a_closed_process_is_kept_for_a_while_and_not_rung(
    environment: Any, owner: bytes, send: Any, ring: Any
) -> None:
    enter(environment, "room")
    environment.write(presence.close, OWNER, 9 * SECOND)
    send("room", b"1")
    assert ring.rung == []
    assert environment.write(presence.processes) == [(OWNER, HOME, 9 * SECOND)]
    environment.write(presence.register, OWNER, HOME, [LOOP])
    assert collect(environment) == [b"1"]


def test_flushing_ends_memberships_and_tells_every_process(
    environment: Any, owner: bytes, send: Any, ring: Any, everything: Any
) -> None:
    enter(environment, "room")
    send("room", b"1")
    environment.write(groups.end_all)
    environment.write(presence.flush_inboxes, ring)
    items, _ = environment.write(presence.collect, OWNER, 10, 1 << 20)
    assert [(item.deadline, item.group, item.body) for item in items] == [(NEVER, presence.FLUSHED, b"")]
    assert everything() == [b"p" + OWNER]
    assert environment.write(lambda txn: txn.get(joined_key(OWNER, "room"))) is None
