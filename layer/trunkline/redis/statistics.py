"""Reading the statistics: what processes reported, and what lies on each server now.

Nothing is written, so whoever looks changes nothing. All servers are asked at once, over connections of their own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trunkline.errors import LayerUnavailable
from trunkline.redis.connections import Wire
from trunkline.redis.process import Process, Server
from trunkline.redis.replies import Arg, NotNow, ServerAway
from trunkline.redis.reporting import HOME
from trunkline.stats import TOTAL, LayerStatistics, ProcessStatistics, ShardStatistics, Statistics, counted_name

PATIENCE = 3.0  # seconds for an answer
STEP = 500  # keys that are asked for at once
ROW_SHOWN = 60.0  # seconds after its last report that a process is listed
DEAD_AFTER = 5000  # milliseconds without a beat, as in the scripts
WINDOW = 10.0  # seconds, as in report.lua

_FIELDS = (
    "sent", "received_count", "channel_full_count", "group_dropped_count", "expired_count", "group_messages_count",
    "unreadable_count",
)  # fmt: skip


@dataclass
class _Waiting:
    """What lies on a server and was not received yet, of one name."""

    count: int = 0
    age: float = 0.0

    def add(self, count: int, age: float) -> None:
        self.count += count
        self.age = max(self.age, age)


@dataclass
class _Look:
    """What one server says."""

    shard: ShardStatistics
    now: float = 0.0  # the server's clock, milliseconds
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    counts: dict[str, str] | None = None
    rows: list[str] = field(default_factory=list)


async def read_layer(process: Process) -> LayerStatistics:
    """Everything.

    :raises LayerUnavailable: if no server answers.
    """
    looks = await asyncio.gather(*(_look(process, server) for server in process.servers))
    if all(look.shard.problem for look in looks):
        raise LayerUnavailable(f"No statistics: {looks[0].shard.problem}")
    home = looks[process.server_of(HOME).position]
    counts = home.counts or {}
    channels = {
        name: _statistics(counts.get(name, ""), home.now, [look.waiting.get(name) for look in looks])
        for name in sorted({*counts, *(name for look in looks for name in look.waiting)} - {TOTAL})
    }
    waiting = [entry for look in looks for entry in look.waiting.values()]
    processes = [row for text in home.rows if (row := _process(text, home.now)) is not None]
    return LayerStatistics(
        total=_statistics(counts.get(TOTAL, ""), home.now, waiting),
        channels={name: found for name, found in channels.items() if name},
        processes=tuple(sorted(processes, key=lambda row: (-row.age, row.process))),
        shards=tuple(look.shard for look in looks),
        counted=home.counts is not None,
    )


async def read_channel(process: Process, channel: str) -> Statistics:
    """One channel; process-specific ones together with all others of their prefix.

    :raises LayerUnavailable: if a server that has to be asked doesn't answer.
    """
    name = counted_name(channel)
    looks = await asyncio.gather(*(_look(process, server, name) for server in process.servers))
    for look in looks:
        if look.shard.problem:
            raise LayerUnavailable(f"No statistics: {look.shard.problem}")
    home = looks[process.server_of(HOME).position]
    return _statistics((home.counts or {}).get(name, ""), home.now, [look.waiting.get(name) for look in looks])


# -- one server


async def _look(process: Process, server: Server, name: str | None = None) -> _Look:
    """Ask one server; about one counted name only, if it is given."""
    look, wire = _Look(ShardStatistics(server.position, server.label)), Wire(server.target)
    try:
        await wire.connect()
        asked = time.monotonic()
        seconds, micros = await _ask_one(wire, b"TIME")
        passed = time.monotonic() - asked
        look.now = int(seconds) * 1000 + int(micros) / 1000
        if name is None or "!" in name:
            await _walk(process, server, wire, look)
        else:
            shard = process.ring.queue_shard(name, server.position)
            await _lists(process, wire, look, [process.keys.key(shard, "q", name).encode()])
        if server is process.server_of(HOME):
            await _counts(process, wire, look, name)
        if name is None:
            look.shard = replace(look.shard, round_trip=round(passed, 6), **await _state(process, server, wire, look))
    except (ServerAway, NotNow) as error:
        look.shard = ShardStatistics(server.position, server.label, problem=str(error) or "no answer")
        look.counts, look.waiting = None, {}
    finally:
        await wire.close()
    return look


async def _ask(wire: Wire, commands: Sequence[Sequence[Arg]]) -> list[Any]:
    """Replies, none of which may be an error."""
    replies = await wire.call(commands, PATIENCE) if commands else []
    for reply in replies:
        if isinstance(reply, Exception):
            raise NotNow(str(reply))
    return replies


async def _ask_one(wire: Wire, *command: Arg) -> Any:
    (reply,) = await _ask(wire, [command])
    return reply


async def _walk(process: Process, server: Server, wire: Wire, look: _Look) -> None:
    """Find all lists and inboxes of the prefix, in steps that hold up nobody."""
    cursor: bytes = b"0"
    seen: set[bytes] = set()
    while True:
        cursor, keys = await _ask_one(wire, b"SCAN", cursor, b"MATCH", process.keys.pattern, b"COUNT", 1000)
        fresh = [key for key in dict.fromkeys(keys) if key not in seen]
        seen.update(fresh)
        await _lists(process, wire, look, [key for key in fresh if _kind(key) == b"q"])
        await _inboxes(process, wire, look, [key for key in fresh if _kind(key) == b"in"])
        if cursor == b"0":
            return


def _kind(key: bytes) -> bytes:
    return key.partition(b"}:")[2].partition(b":")[0]


def _name(key: bytes) -> str:
    return key.partition(b"}:")[2].partition(b":")[2].decode()


async def _lists(process: Process, wire: Wire, look: _Look, keys: list[bytes]) -> None:
    for part in _parts(keys):
        commands: list[list[Arg]] = []
        for key in part:
            commands += [[b"LLEN", key], [b"LINDEX", key, 0]]
        replies = await _ask(wire, commands)
        for key, length, head in zip(part, replies[::2], replies[1::2], strict=True):
            if length:
                # A list's record tells when it expires, so when it was sent follows from our own expiry.
                sent = int(head[:13]) - process.common.expiry * 1000 if head else look.now
                _found(look, counted_name(_name(key)), length, look.now - sent)


async def _inboxes(process: Process, wire: Wire, look: _Look, keys: list[bytes]) -> None:
    for part in _parts(keys):
        commands: list[list[Arg]] = []
        for key in part:
            base, _, owner = key.rpartition(b"in:")
            commands += [
                [b"XLEN", key],
                [b"XRANGE", key, b"-", b"+", b"COUNT", 1],
                [b"HGETALL", base + b"cnt:" + owner],
            ]
        replies = await _ask(wire, commands)
        for length, first, counted in zip(replies[::3], replies[1::3], replies[2::3], strict=True):
            age = look.now - int(first[0][0].partition(b"-")[0]) if first else 0.0
            for full_name, count in zip(counted[::2], counted[1::2], strict=True):
                if not full_name.startswith(b"="):
                    _found(look, counted_name(full_name.decode()), int(count), age)
                    length -= int(count)
            if length > 0:
                _found(look, TOTAL, length, age)  # messages of groups, which are for several channels


def _found(look: _Look, name: str, count: int, age_ms: float) -> None:
    look.waiting.setdefault(name, _Waiting()).add(count, max(0.0, age_ms / 1000))


def _parts(keys: list[bytes]) -> Iterable[list[bytes]]:
    return (keys[start : start + STEP] for start in range(0, len(keys), STEP))


async def _counts(process: Process, wire: Wire, look: _Look, name: str | None) -> None:
    key = process.keys.key(HOME, "stats")
    if name is not None:
        found = await _ask_one(wire, b"HGET", key, name)
        look.counts = {name: found.decode()} if found else {}
        return
    counts, rows = await _ask(wire, [[b"HGETALL", key], [b"HVALS", process.keys.key(HOME, "stats", "rows")]])
    look.counts = {field.decode(): text.decode() for field, text in zip(counts[::2], counts[1::2], strict=True)}
    look.rows = [text.decode() for text in rows]


async def _state(process: Process, server: Server, wire: Wire, look: _Look) -> dict[str, Any]:
    procs = process.keys.key(process.ring.owned[server.position][0], "procs")
    living, *sections = await wire.call(
        [
            [b"ZCOUNT", procs, int(look.now - DEAD_AFTER), b"+inf"],
            *([b"INFO", section] for section in (b"server", b"memory", b"clients")),
        ],
        PATIENCE,
    )
    told = dict(
        line.partition(":")[::2]
        for section in sections
        if isinstance(section, bytes)  # INFO may be forbidden to us
        for line in section.decode(errors="replace").splitlines()
        if ":" in line
    )
    return {
        "messages_pending": sum(entry.count for entry in look.waiting.values()),
        "messages_max_age": round(max((entry.age for entry in look.waiting.values()), default=0.0), 3),
        "processes": living if isinstance(living, int) else 0,
        "version": told.get("valkey_version") or told.get("redis_version", ""),
        "memory": int(told.get("used_memory", 0)),
        "clients": int(told.get("connected_clients", 0)),
    }


# -- putting it together


def _statistics(text: str, now: float, waiting: Iterable[_Waiting | None]) -> Statistics:
    """:param text: the value in the hash of counts, as report.lua writes it; empty where there is none."""
    values = [int(value) for value in text.split()] or [0] * (len(_FIELDS) + 3)
    fields = dict(zip(_FIELDS, values, strict=False))
    window, current, before = values[len(_FIELDS) :]
    held = [entry for entry in waiting if entry is not None]
    return Statistics(
        messages_count=fields.pop("sent") + fields["group_messages_count"],
        messages_count_per_second=_rate(now / 1000 / WINDOW, window, current, before),
        messages_pending=sum(entry.count for entry in held),
        messages_max_age=round(max((entry.age for entry in held), default=0.0), 3),
        **fields,
    )


def _rate(now: float, window: int, current: int, before: int) -> float:
    """Per second, over the current window and as much of the one before as makes a whole one."""
    behind = int(now) - window
    if behind > 1:
        return 0.0
    if behind == 1:
        current, before = 0, current
    part = now - int(now)
    return round((current + before * (1 - part)) / WINDOW, 2)


def _process(text: str, now: float) -> ProcessStatistics | None:
    """:param text: the row, as report.lua keeps it: number, milliseconds, what the process says; empty at its end."""
    _, _, rest = text.partition(" ")
    at, _, row = rest.partition(" ")
    reported = (now - int(at)) / 1000
    if not row or reported > ROW_SHOWN:
        return None
    return ProcessStatistics(**{**json.loads(row), "reported": round(max(0.0, reported), 1)})
