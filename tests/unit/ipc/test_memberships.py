from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from trunkline.ipc.boxes import Box
from trunkline.ipc.memberships import Memberships
from trunkline.stats import Tally


@pytest.fixture
def memberships() -> Memberships:
    return Memberships()


@pytest.fixture
def box() -> Callable[[str], Box]:
    """The box of a channel; it counts the groups that it is in."""
    known: dict[str, Box] = {}
    return lambda name: known.setdefault(name, Box(name, 9, 0, Tally()))


def names(members: Iterable[Box]) -> list[str]:
    return [member.name for member in members]


def test_a_group_has_its_members_until_their_time_or_they_leave(
    memberships: Memberships, box: Callable[[str], Box]
) -> None:
    for channel, end in (("a!1", 10), ("a!2", 20), ("a!3", 30)):
        memberships.join("room", box(channel), end)
    memberships.leave("room", box("a!3"))
    memberships.leave("room", box("a!9"))
    assert names(memberships.members("room", 9)) == ["a!1", "a!2"]
    assert names(memberships.members("room", 10)) == ["a!2"]
    assert "room" in memberships
    assert names(memberships.members("room", 20)) == []
    assert "room" not in memberships


def test_joining_again_moves_the_end_and_doubles_nothing(memberships: Memberships, box: Callable[[str], Box]) -> None:
    memberships.join("room", box("a!1"), 10)
    memberships.join("room", box("a!1"), 20)
    assert names(memberships.members("room", 15)) == ["a!1"]


def test_what_the_store_knows_needs_no_telling(memberships: Memberships, box: Callable[[str], Box]) -> None:
    assert not memberships.join_known("room", box("a!1"), 0, 10)
    memberships.join("room", box("a!1"), 10)
    assert not memberships.join_known("room", box("a!2"), 0, 10)
    memberships.told("room", 5)
    assert memberships.join_known("room", box("a!2"), 4, 2)
    assert not memberships.join_known("room", box("a!3"), 5, 10)
    assert names(memberships.members("room", 5)) == ["a!1", "a!2"]
    assert names(memberships.members("room", 6)) == ["a!1"]


def test_only_where_others_remain_nobody_has_to_be_told_of_a_leave(
    memberships: Memberships, box: Callable[[str], Box]
) -> None:
    for channel in ("a!1", "a!2"):
        memberships.join("room", box(channel), 10)
    assert not memberships.leave_others("hall", box("a!1"))
    assert memberships.leave_others("room", box("a!1"))
    assert not memberships.leave_others("room", box("a!2"))
    assert names(memberships.members("room", 0)) == ["a!2"]


def test_a_group_without_members_is_vacant_until_somebody_joins(
    memberships: Memberships, box: Callable[[str], Box]
) -> None:
    memberships.join("left", box("a!1"), 10)
    memberships.leave("left", box("a!1"))
    memberships.join("ended", box("a!1"), 10)
    memberships.end(10)
    memberships.members("unknown", 10)
    assert list(memberships.vacant) == ["left", "ended", "unknown"]
    memberships.join("left", box("a!1"), 20)
    assert list(memberships.vacant) == ["ended", "unknown"]


def test_the_store_is_told_again_when_its_entry_is_old_or_the_group_was_left(
    memberships: Memberships, box: Callable[[str], Box]
) -> None:
    memberships.join("room", box("a!1"), 100)
    memberships.told("room", 10)
    assert memberships.known("room", 9)
    assert not memberships.known("room", 10)
    memberships.told("room", 50)
    memberships.leave("room", box("a!1"))
    assert not memberships.known("room", 9)


def test_what_the_store_lost_is_missing_with_its_last_end(memberships: Memberships, box: Callable[[str], Box]) -> None:
    for group, channel, end in (("room", "a!1", 10), ("room", "a!2", 30), ("hall", "a!1", 20), ("left", "a!1", 5)):
        memberships.join(group, box(channel), end)
        memberships.told(group, 5)
    memberships.leave("left", box("a!1"))
    memberships.lost()
    assert memberships.missing == {"room": 30, "hall": 20}
    assert not memberships.known("room", 1)
    assert memberships.vacant == {}
    memberships.leave("hall", box("a!1"))
    assert memberships.missing == {"room": 30}
    assert list(memberships.vacant) == ["hall"]


def test_channels_leave_all_their_groups_and_others_stay(memberships: Memberships, box: Callable[[str], Box]) -> None:
    for group in ("room", "hall"):
        memberships.join(group, box("a!1"), 10)
    memberships.join("room", box("a!2"), 10)
    memberships.leave_all({box("a!1"), box("a!3")})
    assert names(memberships.members("room", 0)) == ["a!2"]
    assert list(memberships.vacant) == ["hall"]


def test_a_flush_leaves_nothing(memberships: Memberships, box: Callable[[str], Box]) -> None:
    memberships.join("room", box("a!1"), 10)
    memberships.join("hall", box("a!1"), 10)
    memberships.told("room", 10)
    memberships.leave("hall", box("a!1"))
    memberships.lost()
    memberships.clear()
    assert "room" not in memberships
    assert not memberships.known("room", 0)
    assert (memberships.missing, memberships.vacant) == ({}, {})


def test_a_channel_knows_in_how_many_groups_it_is(memberships: Memberships, box: Callable[[str], Box]) -> None:
    one, other = box("a!1"), box("a!2")
    for group in ("room", "hall", "yard", "room"):
        memberships.join(group, one, 10)
        memberships.join(group, other, 20)
    memberships.told("room", 5)
    assert memberships.join_known("room", one, 0, 10)
    assert one.groups == 3
    assert memberships.leave_others("room", one)
    memberships.join("room", box("a!3"), 20)
    assert memberships.leave_others("room", one)
    memberships.leave("hall", one)
    memberships.leave("hall", one)
    assert (one.groups, other.groups) == (1, 3)
    memberships.end(10)
    assert (one.groups, other.groups) == (0, 3)
    memberships.leave_all({other})
    assert other.groups == 0
    memberships.join("room", one, 10)
    memberships.told("room", 5)
    assert memberships.join_known("room", other, 0, 10)
    assert other.groups == 1
