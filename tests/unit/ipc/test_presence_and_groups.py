from __future__ import annotations

from typing import Any

import pytest

from trunkline.codec.records import PlainRecords
from trunkline.ipc import groups, presence
from trunkline.ipc.keys import joined_key

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


def add(environment: Any, group: str, channel: str, now: int = 0, end: int = 100 * SECOND) -> None:
    environment.write(groups.add, group, channel, now, end)


def test_a_group_message_comes_once_to_a_process_with_many_members(
    environment: Any, owner: bytes, send: Any, ring: Any
) -> None:
    for channel in (OWN, OWN_TOO):
        add(environment, "room", channel)
    send("room", b"1")
    send("room", b"2")
    assert ring.rung == [(LOOP, b"")], "the second ring was not needed"
    assert collect(environment) == [b"1", b"2"]
    members = environment.write(groups.members, "room", OWNER, 0)
    assert [member.channel for member in members] == [OWN, OWN_TOO]


def test_a_member_hears_only_what_was_sent_after_it_joined(environment: Any, owner: bytes, send: Any) -> None:
    add(environment, "room", OWN)
    send("room", b"before")
    add(environment, "room", OWN_TOO)
    add(environment, "room", OWN)  # again: it keeps hearing what it would have heard
    first, second = environment.write(groups.members, "room", OWNER, 0)
    assert (first.begin, second.begin) == (0, 1)


def test_a_membership_that_ended_is_gone_with_everything_of_it(environment: Any, owner: bytes, everything: Any) -> None:
    add(environment, "room", OWN, end=SECOND)
    assert environment.write(groups.members, "room", OWNER, SECOND) == []
    assert everything() == [b"p" + OWNER]


def test_the_version_changes_with_every_change_of_the_members(environment: Any, owner: bytes) -> None:
    versions = []
    for now, channel in enumerate((OWN, OWN_TOO)):
        add(environment, "room", channel, now=now)
        versions.append(environment.write(groups.version, "room", OWNER))
    environment.write(groups.discard, "room", OWN, 2)
    versions.append(environment.write(groups.version, "room", OWNER))
    environment.write(groups.discard, "room", OWN_TOO, 3)
    assert len(set(versions)) == 3
    assert environment.write(groups.version, "room", OWNER) is None


def test_normal_channels_are_members_of_their_own(environment: Any, send: Any, ring: Any) -> None:
    add(environment, "room", "work")
    add(environment, "room", "ended", end=1)
    assert send("room", b"1", now=2, capacity=1) == groups.Sent(0, [])
    assert send("room", b"2", now=3, capacity=1) == groups.Sent(1, [])


def test_a_group_whose_name_another_begins_with_is_another_group(environment: Any, owner: bytes, send: Any) -> None:
    add(environment, "room", OWN)
    send("room.2", b"")
    send("roo", b"")
    assert collect(environment) == []


def test_a_full_inbox_drops_and_says_so(environment: Any, owner: bytes, send: Any) -> None:
    add(environment, "room", OWN)
    assert send("room", b"x" * 600, room=1000).dropped == 0
    assert send("room", b"x" * 600, room=1000).dropped == 1
    assert send("room", b"x" * 600, now=61 * SECOND, room=1000).dropped == 0, "expired ones make room"


def test_a_dead_process_is_found_out_by_the_one_who_rings(
    environment: Any, owner: bytes, send: Any, ring: Any, everything: Any
) -> None:
    add(environment, "room", OWN)
    ring.dead = {LOOP}
    assert send("room", b"1") == groups.Sent(0, [OWNER])
    assert environment.write(presence.remove, OWNER)
    assert everything() == []


def test_removing_a_dead_process_leaves_the_living_alone(
    environment: Any, owner: bytes, send: Any, everything: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "REMOVE_AT_ONCE", 5)
    environment.write(presence.register, OTHER, HOME, [LOOP])
    for channel in (OWN, OWN_TOO, f"specific.{OTHER.hex()}!1"):
        for group in ("room", "hall", "yard"):
            add(environment, group, channel)
    for _ in range(10):
        send("room", b"")
    steps = 1
    while not environment.write(presence.remove, OWNER):
        steps += 1
    assert steps > 3
    assert not [key for key in everything() if OWNER in key]
    assert collect(environment, OTHER) == [b""] * 10
    assert environment.write(groups.version, "hall", OTHER) is not None


def test_one_process_a_second_looks_for_the_dead(environment: Any) -> None:
    assert environment.write(presence.claim_sweep, 10 * SECOND)
    assert not environment.write(presence.claim_sweep, 10 * SECOND + 1)
    assert environment.write(presence.claim_sweep, 11 * SECOND)


def test_a_closed_process_is_kept_for_a_while_and_not_rung(
    environment: Any, owner: bytes, send: Any, ring: Any
) -> None:
    add(environment, "room", OWN)
    environment.write(presence.close, OWNER, 9 * SECOND)
    send("room", b"1")
    assert ring.rung == []
    assert environment.write(presence.processes) == [(OWNER, HOME, 9 * SECOND)]
    environment.write(presence.register, OWNER, HOME, [LOOP])
    assert collect(environment) == [b"1"]


def test_flushing_ends_memberships_and_tells_every_process(
    environment: Any, owner: bytes, send: Any, ring: Any, everything: Any
) -> None:
    add(environment, "room", OWN)
    send("room", b"1")
    environment.write(groups.end_all)
    environment.write(presence.flush_inboxes, 0, SECOND, ring)
    items, _ = environment.write(presence.collect, OWNER, 10, 1 << 20)
    assert [item.group for item in items] == [presence.FLUSHED]
    assert everything() == [b"p" + OWNER]
    assert environment.write(lambda txn: txn.get(joined_key(OWNER, "room"))) is None
