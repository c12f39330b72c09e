"""What an inbox counts, against what it holds: after any order of sends, acknowledgements, repeats and expiry."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from support.servers import RedisServer
from trunkline.codec import DIRECT, GROUP, pack_record, unpack_record
from trunkline.redis.keys import Keys
from trunkline.redis.scripts import script

pytestmark = pytest.mark.redis

CAPACITY = 6
Entry = tuple[str, str, int]  # channel ('' for a group message), id, bytes


class Inbox:
    """One process' inbox, as its senders and its reader use it."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        keys = Keys(prefix)
        self.client = client
        self.inbox, self.canary, self.counts = keys.key(0, "in", "me"), keys.canary(0), keys.key(0, "cnt", "me")
        self.group = keys.key(0, "g", "all")
        client.set(keys.key(0, "epoch"), "e:1:start")
        client.zadd(self.group, {"p:me": 10**14})
        client.zadd(keys.key(0, "procs"), {"me": 10**14})
        self._number = 0

    def _call(self, name: str, key: str, *args: bytes | str | int) -> Any:
        self._number += 1
        sha = self.client.script_load(script(name).text)
        return self.client.evalsha(sha, 2, key, self.canary, "e", "you", self._number, "0", *args)

    def send(self, channels: Sequence[str], size: int, expiry_ms: int = 60_000) -> str:
        """Returns a letter for each message."""
        each: list[bytes | str | int] = []
        for name in channels:
            each += [name, CAPACITY, pack_record(DIRECT, name, b"x" * size)]
        status, letters = self._call("direct", self.inbox, "me", expiry_ms, 10_000, 10**7, *each)
        assert status == b"OK"
        return str(letters, "ascii")

    def send_to_group(self) -> None:
        self._call("group", self.group, 60_000, 10_000, 10**7, pack_record(GROUP, "all", b"for all"))

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        stream: Any = self.client.xrange(self.inbox)
        for entry, fields in stream:
            record = unpack_record(fields[b"r"])
            found.append((record.name if record.kind == DIRECT else "", entry.decode(), len(fields[b"r"])))
        return found

    def acknowledge(self, read: Sequence[Entry]) -> None:
        names = list(dict.fromkeys(channel for channel, _, _ in read))
        of = {name: [entry for entry in read if entry[0] == name] for name in names}
        heads = [part for name in names for part in (name, sum(size for _, _, size in of[name]), len(of[name]))]
        ids = [entry for name in names for _, entry, _ in of[name]]
        sha = self.client.script_load(script("ack").text)
        answer = self.client.evalsha(sha, 2, self.inbox, self.canary, "me", len(names), *heads, *ids)
        assert answer == [b"OK"]

    def looks(self) -> int:
        """How often entries of a stream were looked at."""
        calls: int = self.client.info("commandstats").get("cmdstat_xrange", {"calls": 0})["calls"]
        return calls

    def counted(self) -> dict[str, int]:
        held: Any = self.client.hgetall(self.counts)
        return {name.decode(): int(many) for name, many in held.items()}

    def agrees(self) -> None:
        entries, counted = self.entries(), self.counted()
        unread = Counter(channel for channel, _, _ in entries if channel)
        assert {name: many for name, many in counted.items() if name[0] != "="} == unread
        if "=swept" not in counted:
            assert counted.get("=bytes", 0) == sum(size for _, _, size in entries)


@pytest.fixture
def inbox(redis_server: RedisServer, request: pytest.FixtureRequest) -> Inbox:
    return Inbox(redis.Redis.from_url(redis_server.url), f"acks-{request.node.name.partition('[')[0][-40:]}")


def test_acknowledgements_count_down_what_they_remove_and_nothing_twice(inbox: Inbox) -> None:
    numbers = random.Random(11)
    names = [f"specific.me!{number}" for number in range(5)]
    read: list[Entry] = []
    done: list[list[Entry]] = []
    for _ in range(600):
        step = numbers.random()
        if step < 0.4:
            inbox.send(numbers.choices(names, k=numbers.randint(1, 6)), 50)  # of one size: averages are exact
        elif step < 0.5:
            inbox.send_to_group()
        elif step < 0.85:
            known = {entry for part in done for entry in part}
            read = [entry for entry in inbox.entries() if entry not in known]
            part = numbers.sample(read, min(len(read), numbers.randint(1, 10)))
            if part:
                inbox.acknowledge(part)
                done.append(part)
        elif done:  # a reply was lost: the same again, together with something new
            part = done[-1] + [entry for entry in inbox.entries()[:2] if numbers.random() < 0.5]
            inbox.acknowledge(part)
            done.append(part)
        inbox.agrees()
    inbox.acknowledge(inbox.entries())
    assert inbox.counted() == {"=bytes": 0}


def test_expired_messages_that_senders_removed_are_not_counted_down_again(inbox: Inbox) -> None:
    name, other = "specific.me!a", "specific.me!b"
    inbox.send([other], 50)  # gives the inbox its life
    inbox.acknowledge(inbox.entries())
    assert inbox.send([name] * 4, 50, expiry_ms=1) == "kkkk"
    assert inbox.send([name] * 2 + [other], 50) == "kkk"
    first = inbox.entries()
    time.sleep(0.01)
    assert inbox.send([name] * 2, 50) == "kk", "four expired heads make room"
    assert inbox.counted()["=swept"] == 1
    before = inbox.looks()
    inbox.acknowledge(first[3:6])  # one that is gone, two that are there
    assert inbox.looks() == before, "the inbox may be long, so it is not counted again for each of these"
    inbox.agrees()
    assert inbox.counted()[name] == 2
    inbox.acknowledge([entry for entry in inbox.entries() if entry[0] == other])
    assert "=swept" not in inbox.counted(), "all of these were there"
    inbox.acknowledge(first[:3])  # and what comes later than that is noticed too
    inbox.agrees()
    assert inbox.counted() == {name: 2, "=bytes": sum(size for _, _, size in inbox.entries())}


def test_thousands_of_channels_are_acknowledged_in_one_call(inbox: Inbox) -> None:
    names = [f"specific.me!{number}" for number in range(9_000)]
    for start in range(0, 9_000, 1_000):
        assert inbox.send(names[start : start + 1_000], 20) == "k" * 1_000
    inbox.acknowledge(inbox.entries())
    assert inbox.counted() == {"=bytes": 0}
    assert inbox.entries() == []
    for start in [*range(0, 4_500, 500)] * 2:
        assert inbox.send(names[start : start + 500], 20) == "k" * 500
    inbox.acknowledge(inbox.entries()[:4_500])
    inbox.agrees()
    inbox.acknowledge(inbox.entries()[::2] + [(name, "0-1", 1) for name in names])  # most of it is not there
    inbox.agrees()
