"""A process as the server sees one: its id, its inboxes and its numbered calls, by the layer's own keys and scripts."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.bare.lines import Command, Line
from benchmarks.targets import CAPACITY
from trunkline.codec import DIRECT, GROUP, decode, encode, pack_record, unpack_record
from trunkline.redis.calls import ALONE
from trunkline.redis.inbox import BLOCK_MS, MOST_ENTRIES
from trunkline.redis.keys import Keys
from trunkline.redis.process import INBOX_BYTES, new_id
from trunkline.redis.queue import BLOCK_S
from trunkline.redis.ring import VIRTUAL_SHARDS, Ring
from trunkline.redis.scripts import script
from trunkline.redis.telling import REFRESH

EXPIRY_MS = 60_000
ENTRY_LIFE_MS = int(86_400 * (1 + REFRESH) * 1000)  # of a process in a group; memberships last a day
INBOX_LIFE_MS = 120_000
INBOX_MOST = 2 * CAPACITY
BEAT_S = 1.0
SCRIPTS = ("ack", "beat", "direct", "enter", "exit", "group", "push", "take")

Message = dict[str, Any]


class Got(NamedTuple):
    """A message out of the inbox, and where it lay."""

    kind: int
    name: str
    body: bytes
    shard: int
    entry: bytes
    size: int

    def message(self) -> Message:
        """The message, a new object on every call."""
        return decode(self.body)


class Member:
    """See the module.

    :param out: carries sends.
    :param blocked: carries what blocks until something is there.
    """

    def __init__(self, out: Line, blocked: Line) -> None:
        self.out = out
        self._blocked = blocked
        self._id, self._sender, self._reader = new_id(), new_id(), new_id()
        self._keys, self._ring = Keys("bare"), Ring(1)
        self._numbers = [0] * VIRTUAL_SHARDS
        self._epochs = [""] * VIRTUAL_SHARDS
        self._takes = 0
        self._last = ["0-0"] * VIRTUAL_SHARDS
        self._inboxes = [self._keys.key(shard, "in", self._id) for shard in range(VIRTUAL_SHARDS)]
        self._by_key = {key.encode(): shard for shard, key in enumerate(self._inboxes)}
        self._beat_at = 0.0

    async def start(self) -> None:
        """Load the scripts and beat for the first time."""
        await self.out.call(*(("SCRIPT", "LOAD", script(name).text) for name in SCRIPTS))
        await self.beat()

    async def close(self) -> None:
        await self.out.close()
        await self._blocked.close()

    async def beat(self) -> None:
        """Beat if it is time to."""
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + BEAT_S
        beats = [
            (*self._script("beat", shard, "procs"), self._epochs[shard], new_id(), self._id, INBOX_LIFE_MS, "1:1")
            for shard in range(VIRTUAL_SHARDS)
        ]
        self._epochs = [reply[2].decode().partition(":")[0] for reply in await self.out.call(*beats)]

    # -- sending

    def new_channel(self, number: int) -> str:
        return f"specific.{self._id}!{number}"

    def direct(self, sends: Iterable[tuple[str, Message]]) -> list[Command]:
        """The calls that send these messages, one for each inbox."""
        calls: dict[tuple[str, int], list[Any]] = defaultdict(list)
        for channel, message in sends:
            owner = channel[9:33]
            record = pack_record(DIRECT, channel, encode(message))
            calls[owner, self._ring.shard(channel)] += [channel, CAPACITY, record]
        return [
            (*self._numbered("direct", shard, "in", owner), owner, EXPIRY_MS, INBOX_MOST, INBOX_BYTES, *own)
            for (owner, shard), own in calls.items()
        ]

    def push(self, queue: str, messages: Iterable[Message]) -> Command:
        """The call that puts messages into a queue."""
        records = [pack_record(DIRECT, queue, encode(message)) for message in messages]
        shard = self._ring.queue_shard(queue, 0)
        return (*self._numbered("push", shard, "q", queue), queue, EXPIRY_MS, CAPACITY, "end", *records)

    def enter(self, groups: Iterable[str]) -> list[Command]:
        """The calls that put this process into groups, one for each virtual shard."""
        return self._tell("enter", groups, self._id, ENTRY_LIFE_MS)

    def exit(self, groups: Iterable[str]) -> list[Command]:
        """The calls that take this process out of groups, one for each virtual shard."""
        return self._tell("exit", groups, self._id)

    def _tell(self, name: str, groups: Iterable[str], *head: str | int) -> list[Command]:
        calls: dict[int, list[str]] = defaultdict(list)
        for group in groups:
            calls[self._ring.shard(group)].append(group)
        return [(*self._numbered(name, shard, "of", self._id), *head, *own) for shard, own in calls.items()]

    def group(self, group: str, message: Message) -> Command:
        """The call that sends to a group."""
        record = pack_record(GROUP, group, encode(message))
        shard = self._ring.shard(group)
        return (*self._numbered("group", shard, "g", group), EXPIRY_MS, INBOX_MOST, INBOX_BYTES, record)

    async def group_send(self, group: str, message: Message, *also: Command) -> None:
        """Send to a group, together with ``also``; after a restart the server asks to wait."""
        while pause := _pause_s((await self.out.call(*also, self.group(group, message)))[-1]):
            also = ()
            await asyncio.sleep(pause)

    def group_send_sync(self, group: str, message: Message) -> None:
        """The same in a thread without an event loop."""
        while pause := _pause_s(self.out.ask(self.group(group, message))):
            time.sleep(pause)

    # -- receiving

    async def read(self, *before: Command, block_ms: int = BLOCK_MS) -> list[Got]:
        """Block until something is in the inboxes, behind the commands ``before`` on the same connection."""
        command: Command = ("XREAD", "COUNT", MOST_ENTRIES, "BLOCK", block_ms, "STREAMS", *self._inboxes, *self._last)
        reply = (await self._blocked.call(*before, command))[-1]
        got = []
        for key, stream in reply or ():
            shard = self._by_key[key]
            for entry, fields in stream:
                data = fields[b"r"] if isinstance(fields, dict) else fields[1]
                record = unpack_record(data)
                got.append(Got(record.kind, record.name, record.body, shard, entry, len(data)))
            self._last[shard] = entry
        return got

    def acks(self, got: Sequence[Got]) -> list[Command]:
        """The calls that remove what was read."""
        calls: dict[int, dict[str, list[Got]]] = defaultdict(lambda: defaultdict(list))
        for one in got:
            calls[one.shard][one.name if one.kind == DIRECT else ""].append(one)
        commands: list[Command] = []
        for shard, channels in calls.items():
            args: list[Any] = [len(channels)]
            for channel, some in channels.items():
                args += [channel, sum(one.size for one in some), len(some)]
            args += [one.entry for some in channels.values() for one in some]
            commands.append((*self._script("ack", shard, "in", self._id), self._id, *args))
        return commands

    async def take(self, queue: str, most: int) -> tuple[list[Message], bool]:
        """Up to ``most`` messages of a queue, and whether more are left."""
        self._takes += 1
        shard = self._ring.queue_shard(queue, 0)
        call = (*self._script("take", shard, "q", queue), self._epochs[shard], self._reader, self._takes, most, queue)
        ((_, _, left, *records),) = await self._blocked.call(call)
        return [decode(unpack_record(record).body) for record in records], bool(left)

    async def listen(self, queue: str) -> None:
        """Block until the queue's bell rings."""
        shard = self._ring.queue_shard(queue, 0)
        bell, nudge = self._keys.key(shard, "bell", queue), self._keys.key(0, "nudge", self._reader)
        await self._blocked.call(("BLPOP", bell, nudge, BLOCK_S))

    # -- scripts

    def _script(self, name: str, shard: int, kind: str, of: str = "") -> tuple[Any, ...]:
        return ("EVALSHA", script(name).sha, 2, self._keys.key(shard, kind, of), self._keys.canary(shard))

    def _numbered(self, name: str, shard: int, kind: str, of: str) -> tuple[Any, ...]:
        self._numbers[shard] += 1
        return (*self._script(name, shard, kind, of), self._epochs[shard], self._sender, self._numbers[shard], ALONE)


def _pause_s(reply: Sequence[Any]) -> float:
    """How long the server asks to wait before a group send, which it refused; zero where it was done."""
    if reply[0] == b"OK":
        return 0.0
    assert reply[0] == b"WAIT", reply
    return int(reply[1]) / 1000
