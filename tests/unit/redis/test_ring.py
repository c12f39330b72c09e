"""Where names live: even, stable, and the same for whoever asks."""

from __future__ import annotations

from collections import Counter

import pytest
from redis.crc import key_slot

from trunkline.redis.keys import Keys
from trunkline.redis.ring import MAX_SERVERS, TAGS, VIRTUAL_SHARDS, Ring

SLOTS = 16_384


def test_each_hash_tag_lies_in_the_middle_of_its_slice_of_the_slots() -> None:
    assert [key_slot(tag.encode()) for tag in TAGS] == [
        int((index + 0.5) * SLOTS / VIRTUAL_SHARDS) for index in range(VIRTUAL_SHARDS)
    ]


@pytest.mark.parametrize("servers", range(1, MAX_SERVERS + 1))
def test_servers_own_equal_parts_up_to_one_virtual_shard(servers: int) -> None:
    owned = Counter(Ring(servers).owners)
    assert set(owned) == set(range(servers))
    assert max(owned.values()) - min(owned.values()) <= 1


@pytest.mark.parametrize("servers", range(1, MAX_SERVERS))
def test_a_further_server_takes_only_its_own_part_and_moves_nothing_between_the_others(servers: int) -> None:
    before, after = Ring(servers).owners, Ring(servers + 1).owners
    moved = [shard for shard in range(VIRTUAL_SHARDS) if before[shard] != after[shard]]
    assert len(moved) == VIRTUAL_SHARDS // (servers + 1)
    assert {after[shard] for shard in moved} == {servers}


@pytest.mark.parametrize("servers", range(1, MAX_SERVERS))
def test_adding_a_server_moves_about_one_name_in_n_plus_one(servers: int) -> None:
    before, after = Ring(servers), Ring(servers + 1)
    names = [f"chat.room-{number}" for number in range(10_000)]
    places = [(before.owners[before.shard(name)], after.owners[after.shard(name)]) for name in names]
    moved = [new for old, new in places if old != new]
    # Whole virtual shards move, so that it can be less than the ideal part, and the new server has the rest later.
    assert 0.5 / (servers + 1) < len(moved) / len(names) < 1.25 / (servers + 1)
    assert set(moved) == {servers}, "a name moved between servers that were there before"


def test_three_servers_hold_a_fair_part_of_a_thousand_names() -> None:
    ring = Ring(3)
    held = Counter(ring.owners[ring.shard(f"specific.{number:024x}!1")] for number in range(1000))
    assert all(200 <= count <= 500 for count in held.values())


@pytest.mark.parametrize("servers", range(1, MAX_SERVERS + 1))
def test_channels_of_one_process_lie_together_on_each_server(servers: int) -> None:
    ring = Ring(servers)
    shards = {ring.shard(f"specific.{7:024x}!{number:x}") for number in range(1000)}
    assert sorted(ring.owners[shard] for shard in shards) == list(range(servers))


def test_a_queue_has_a_list_on_each_server_that_the_server_owns() -> None:
    ring = Ring(3)
    for name in ("thumbnail", "mail", "a", "b"):
        assert [ring.owners[ring.queue_shard(name, server)] for server in range(3)] == [0, 1, 2]


def test_every_key_carries_the_tag_of_its_virtual_shard_and_begins_with_the_schema() -> None:
    keys = Keys("site")
    for shard in range(VIRTUAL_SHARDS):
        for key in (keys.key(shard, "procs"), keys.key(shard, "q", "a.b"), keys.canary(shard)):
            assert key.startswith("tl1:site:{")
            assert key_slot(key.encode()) == key_slot(TAGS[shard].encode())


def test_glob_characters_of_a_prefix_are_escaped_for_scan() -> None:
    assert Keys("a*b[c]?").pattern == r"tl1:a\*b\[c\]\?:*"
