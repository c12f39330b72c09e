"""Joining and leaving groups: cheap where the process is in already, one script where it is not.

Joins and leaves of one group in this process go to the server one after the other, so that a late leave can't undo a
later join.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time

import ormsgpack

from trunkline.codec import CONTROL, GROUP, Record, pack_record
from trunkline.names import Address
from trunkline.redis.connections import Arg
from trunkline.redis.engine import Engine
from trunkline.redis.process import INBOX_BYTES, Membership, Process

REFRESH = 0.1  # of group_expiry: how old the server's entry of this process may get before a join renews it


class Groups:
    """The memberships of one process. Coroutines run in the loop of the engine that they are given."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._busy: dict[str, concurrent.futures.Future[None]] = {}

    async def add_own(self, engine: Engine, group: str, channel: str) -> None:
        """Make a channel of this process a member."""
        process, expiry = self.process, self.process.common.group_expiry
        process.mailbox.join(group, channel, time.monotonic() + expiry)
        try:
            await self._settle(engine, group)
        except BaseException:
            process.mailbox.leave(group, channel)
            raise

    async def discard_own(self, engine: Engine, group: str, channel: str) -> None:
        """End the membership of a channel of this process."""
        if self.process.mailbox.leave(group, channel) and group in self.process.memberships:
            await self._settle(engine, group)

    async def add_foreign(self, engine: Engine, group: str, channel: str, address: Address | None) -> None:
        """Make a member of a channel of another process, or of one that any process receives from."""
        life = int(self.process.common.group_expiry * 1000)
        owner = address.process if address else None
        if owner is None:
            await self._call(engine, "join", group, (f"n:{channel}", life, "", "", ""))
        else:
            control = self._control(group, {"op": "join", "channel": channel, "life": life})
            await self._call(engine, "join", group, (f"p:{owner}", self._entry_life(), owner, owner, control))

    async def discard_foreign(self, engine: Engine, group: str, channel: str, address: Address | None) -> None:
        """End the membership of such a channel."""
        owner = address.process if address else None
        if owner is None:
            await self._call(engine, "leave", group, (f"n:{channel}", "", ""))
        else:
            control = self._control(group, {"op": "leave", "channel": channel})
            await self._call(engine, "leave", group, ("", owner, control))

    async def send(self, engine: Engine, group: str, body: bytes) -> tuple[int, list[str]]:
        """Send to the processes of a group; returns how many inboxes were full, and the names to send to."""
        process = self.process
        record = pack_record(GROUP, group, body)
        answer = await engine.call(
            "group",
            process.ring.shard(group),
            "g",
            group,
            (int(process.common.expiry * 1000), process.inbox_most, INBOX_BYTES),
            (record,),
            size=len(record),
        )
        dropped, *names = answer.split("\n")
        return int(dropped), names

    def apply(self, record: Record) -> bool:
        """Do what a control record from another process says; returns whether the server has to be told."""
        try:
            control = ormsgpack.unpackb(record.body)
            operation, channel = control["op"], control["channel"]
            if operation == "join":
                end = time.monotonic() + control["life"] / 1000
                self.process.mailbox.join(record.name, channel, end)
                with self.process.lock:
                    self.process.memberships.setdefault(record.name, Membership()).epoch = self._epoch(record.name)
                return False
            return self.process.mailbox.leave(record.name, channel)
        except (KeyError, TypeError, ValueError):
            self.process.counters.garbage += 1
            return False

    async def restore(self, engine: Engine, shard: int) -> None:
        """The server has lost what it knew of this process on a virtual shard: tell it again."""
        process = self.process
        groups = [group for group in process.mailbox.memberships() if process.ring.shard(group) == shard]
        for group in groups:
            process.memberships.pop(group, None)
        for start in range(0, len(groups), 500):
            part = groups[start : start + 500]
            await asyncio.gather(*(self._settle(engine, group) for group in part), return_exceptions=True)

    async def settle(self, engine: Engine, group: str) -> None:
        """Bring the server's entry of this process in line with what the process holds."""
        await self._settle(engine, group)

    async def _settle(self, engine: Engine, group: str) -> None:
        process = self.process
        while True:
            with process.lock:
                held = process.mailbox.holds(group)
                known = process.memberships.get(group)
                current = (
                    known is not None
                    and known.epoch == self._epoch(group)
                    and known.epoch != ""
                    and time.monotonic() < known.refresh_at
                )
                other = self._busy.get(group)
                if other is None:
                    if held == current and (held or known is None):
                        return
                    mine: concurrent.futures.Future[None] = concurrent.futures.Future()
                    self._busy[group] = mine
            if other is not None:
                await asyncio.wait({asyncio.wrap_future(other)})
                continue
            try:
                if held:
                    await self._call(engine, "join", group, (f"p:{process.id}", self._entry_life(), process.id, "", ""))
                    refresh_at = time.monotonic() + REFRESH * process.common.group_expiry
                    with process.lock:
                        process.memberships[group] = Membership(self._epoch(group), refresh_at)
                else:
                    await self._call(engine, "leave", group, (f"p:{process.id}", "", ""))
                    with process.lock:
                        process.memberships.pop(group, None)
            finally:
                with process.lock:
                    del self._busy[group]
                mine.set_result(None)

    async def _call(self, engine: Engine, script: str, group: str, head: tuple[Arg, ...]) -> None:
        await engine.call(script, self.process.ring.shard(group), "g", group, head)

    def _epoch(self, group: str) -> str:
        return self.process.epochs[self.process.ring.shard(group)]

    def _entry_life(self) -> int:
        """Milliseconds; a tenth longer than a membership, as the entry is renewed that rarely."""
        return int(self.process.common.group_expiry * (1 + REFRESH) * 1000)

    @staticmethod
    def _control(group: str, what: dict[str, object]) -> bytes:
        return pack_record(CONTROL, group, ormsgpack.packb(what))
