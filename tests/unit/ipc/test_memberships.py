from __future__ import annotations

import pytest

from trunkline.ipc.memberships import Memberships


@pytest.fixture
def memberships() -> Memberships:
    return Memberships()


def test_a_group_has_its_members_until_their_time_or_they_leave(memberships: Memberships) -> None:
    for channel, end in (("a!1", 10), ("a!2", 20), ("a!3", 30)):
        memberships.join("room", channel, end)
    memberships.leave("room", "a!3")
    memberships.leave("room", "a!9")
    assert list(memberships.members("room", 9)) == ["a!1", "a!2"]
    assert list(memberships.members("room", 10)) == ["a!2"]
    assert "room" in memberships
    assert list(memberships.members("room", 20)) == []
    assert "room" not in memberships


def test_joining_again_moves_the_end_and_doubles_nothing(memberships: Memberships) -> None:
    memberships.join("room", "a!1", 10)
    memberships.join("room", "a!1", 20)
    assert list(memberships.members("room", 15)) == ["a!1"]


def test_what_the_store_knows_needs_no_telling(memberships: Memberships) -> None:
    assert not memberships.join_known("room", "a!1", 0, 10)
    memberships.told("room", 5)
    memberships.join("room", "a!1", 10)
    assert memberships.join_known("room", "a!2", 4, 2)
    assert not memberships.join_known("room", "a!3", 5, 10)
    assert list(memberships.members("room", 5)) == ["a!1", "a!2"]
    assert list(memberships.members("room", 6)) == ["a!1"]


def test_only_where_others_remain_nobody_has_to_be_told_of_a_leave(memberships: Memberships) -> None:
    for channel in ("a!1", "a!2"):
        memberships.join("room", channel, 10)
    assert not memberships.leave_others("hall", "a!1")
    assert memberships.leave_others("room", "a!1")
    assert not memberships.leave_others("room", "a!2")
    assert list(memberships.members("room", 0)) == ["a!2"]


def test_a_group_without_members_is_vacant_until_somebody_joins(memberships: Memberships) -> None:
    memberships.join("left", "a!1", 10)
    memberships.leave("left", "a!1")
    memberships.join("ended", "a!1", 10)
    memberships.end(10)
    memberships.members("unknown", 10)
    assert list(memberships.vacant) == ["left", "ended", "unknown"]
    memberships.join("left", "a!1", 20)
    assert list(memberships.vacant) == ["ended", "unknown"]


def test_the_store_is_told_again_when_its_entry_is_old_or_the_group_was_left(memberships: Memberships) -> None:
    memberships.join("room", "a!1", 100)
    memberships.told("room", 10)
    assert memberships.known("room", 9)
    assert not memberships.known("room", 10)
    memberships.told("room", 50)
    memberships.leave("room", "a!1")
    assert not memberships.known("room", 9)


def test_what_the_store_lost_is_missing_with_its_last_end(memberships: Memberships) -> None:
    for group, channel, end in (("room", "a!1", 10), ("room", "a!2", 30), ("hall", "a!1", 20), ("left", "a!1", 5)):
        memberships.join(group, channel, end)
        memberships.told(group, 5)
    memberships.leave("left", "a!1")
    memberships.lost()
    assert memberships.missing == {"room": 30, "hall": 20}
    assert not memberships.known("room", 1)
    assert memberships.vacant == {}
    memberships.leave("hall", "a!1")
    assert memberships.missing == {"room": 30}
    assert list(memberships.vacant) == ["hall"]


def test_channels_leave_all_their_groups_and_others_stay(memberships: Memberships) -> None:
    for group in ("room", "hall"):
        memberships.join(group, "a!1", 10)
    memberships.join("room", "a!2", 10)
    memberships.leave_all({"a!1", "a!3"})
    assert list(memberships.members("room", 0)) == ["a!2"]
    assert list(memberships.vacant) == ["hall"]


def test_a_flush_leaves_nothing(memberships: Memberships) -> None:
    memberships.join("room", "a!1", 10)
    memberships.join("hall", "a!1", 10)
    memberships.told("room", 10)
    memberships.leave("hall", "a!1")
    memberships.lost()
    memberships.clear()
    assert "room" not in memberships
    assert not memberships.known("room", 0)
    assert (memberships.missing, memberships.vacant) == ({}, {})
