"""Joining and leaving groups: cheap where the process is in already, one script where it is not.

Joins and leaves of one group in this process go to the server one after the other, so that a late leave can't undo a
later join. One that was begun is followed to its end, also when nobody waits for it any more. Where it is not certain
that the server knows what this process holds (a call failed, the server lost its data), the group is remembered, and
``mend`` tells the server again until it knows.
"""

from __future__ import annotations

import asyncio
import time
from itertools import islice

import ormsgpack

from trunkline.codec import CONTROL, GROUP, Record, Unreadable
from trunkline.errors import LayerUnavailable
from trunkline.mailbox import Waiter
from trunkline.names import Address
from trunkline.redis.engine import Engine
from trunkline.redis.pipeline import MOST_WAITING
from trunkline.redis.process import INBOX_BYTES, Membership, Process
from trunkline.redis.replies import Arg
from trunkline.redis.telling import Telling, Tellings

MEND_AT_ONCE = 500  # groups of one server that are told again at the same time


class Groups:
    """The memberships of one process. Coroutines run in the loop of the engine that they are given."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._expiry = process.common.group_expiry
        self._tellings = Tellings(process, self._doubt)
        self._doubtful: list[dict[str, None]] = [{} for _ in process.servers]
        self._lost: set[int] = set()
        self._mending: set[int] = set()

    def add_known(self, group: object, channel: object) -> bool:
        """Make an open channel of this process a member where nobody has to be told; returns whether that was so.

        What is open or known has a legal name.
        """
        if group.__class__ is not str or channel.__class__ is not str:
            return False
        process = self.process
        if group not in process.memberships:  # mostly so, and then not worth the lock
            return False
        with process.lock:
            now = time.monotonic()
            known = process.memberships.get(group)
            if known is None or group in self._tellings.busy or not self._certain(known, now):
                return False
            return process.mailbox.join_open(group, channel, now + self._expiry)

    def discard_known(self, group: object, channel: object) -> bool:
        """End a membership of an open channel; returns whether that was all, and nobody has to be told."""
        if group.__class__ is not str or channel.__class__ is not str:
            return False
        with self.process.lock:
            return self.process.mailbox.leave_others(group, channel)

    async def add_own(self, engine: Engine, group: str, channel: str) -> None:
        """Make a channel of this process a member. If that fails, it stays a member for as long as it was before."""
        process, busy, telling = self.process, self._tellings.busy, None
        if len(busy) >= MOST_WAITING:
            self._refuse_if_away(group)
        mailbox, now = process.mailbox, time.monotonic()
        end = now + self._expiry
        with process.lock:
            before = mailbox.join(group, channel, end)
            if group not in process.memberships and group not in busy:
                telling = self._tellings.begin(engine, group, True, now)
        try:
            if telling is not None:
                await telling.waiter
                if telling.outcome is True or telling.certain():
                    return
            await self._settle(engine, group)
        except BaseException:
            mailbox.take_back(group, channel, end, before)
            self._doubt(group)
            raise

    def _refuse_if_away(self, group: str) -> None:
        server = self.process.server_of(self.process.ring.group_shard(group))
        if server.away_since is not None:
            raise LayerUnavailable(
                f"{server.label} is away and {MOST_WAITING} joins and leaves wait already; this join was not made."
            )

    async def discard_own(self, engine: Engine, group: str, channel: str) -> None:
        """End the membership of a channel of this process."""
        process, telling = self.process, None
        with process.lock:
            if not process.mailbox.leave(group, channel):
                return
            busy = group in self._tellings.busy
            if not busy:
                if group not in process.memberships:
                    return
                telling = self._tellings.begin(engine, group, False, time.monotonic())
        try:
            if telling is not None:
                await telling.waiter
                if telling.outcome is True or telling.certain():
                    return
            await self._settle(engine, group)
        except BaseException:
            self._doubt(group)
            raise

    async def add_foreign(self, engine: Engine, group: str, channel: str, address: Address | None) -> None:
        """Make a member of a channel of another process, or of one that any process receives from."""
        life = int(self.process.common.group_expiry * 1000)
        owner = address.process if address else None
        if owner is None:
            await self._call(engine, "join", group, (f"n:{channel}", life, "", "", ""))
        else:
            control = self._control(group, {"op": "join", "channel": channel, "life": life})
            await self._call(
                engine, "join", group, (f"p:{owner}", self._tellings.life_of_entries(), owner, owner, control)
            )

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
        record = process.records.pack(GROUP, group, body)
        answer = await engine.call(
            "group",
            process.ring.group_shard(group),
            "g",
            group,
            (int(process.common.expiry * 1000), process.inbox_most, INBOX_BYTES),
            (record,),
            size=len(record),
        )
        dropped, *names = answer.split("\n")
        return int(dropped), names

    def apply(self, record: Record) -> bool:
        """Do what a control record from another process says; returns whether the server has to be told.

        After a join it has to be, unless the server certainly has this process in the group: the other process' entry
        may have been followed by a leave of ours that knew nothing of it yet.
        """
        mailbox, group = self.process.mailbox, record.name
        try:
            control = ormsgpack.unpackb(record.body)
            operation, channel = control["op"], control["channel"]
            if not isinstance(channel, str):
                raise TypeError(channel)
            if operation == "join":
                mailbox.join(group, channel, time.monotonic() + control["life"] / 1000)
                return group in self._tellings.busy or not self._known(group)
            if operation == "leave":
                return mailbox.leave(group, channel)
            raise ValueError(operation)
        except (KeyError, TypeError, ValueError):
            self.process.skipped(Unreadable("not a control record"), "the inbox of this process")
            return False

    async def settle(self, engine: Engine, group: str) -> None:
        """Bring the server's entry of this process in line with what the process holds; ``mend`` does it if this fails.

        :raises LayerUnavailable: when the server is away for longer than the retry time.
        """
        try:
            await self._settle(engine, group)
        except BaseException:
            self._doubt(group)
            raise

    # -- what a server may not know

    def lost(self, shard: int) -> list[int]:
        """The server has lost what it knew of this process on a virtual shard; returns as ``overdue``."""
        with self.process.lock:
            self._tellings.lost(shard)
            self._lost.add(shard)
            return self._claim({self.process.ring.owners[shard]})

    def forget(self, engine: Engine) -> None:
        """The engine has stopped."""
        self._tellings.forget(engine)

    def overdue(self) -> list[int]:
        """The positions of servers that have to be told something and can be; the caller calls ``mend`` for each."""
        process = self.process
        with process.lock:
            behind = {process.ring.owners[shard] for shard in self._lost}
            behind.update(position for position, groups in enumerate(self._doubtful) if groups)
            return self._claim({position for position in behind if process.servers[position].away_since is None})

    def _claim(self, positions: set[int]) -> list[int]:
        free = positions - self._mending
        self._mending |= free
        return list(free)

    async def mend(self, engine: Engine, position: int) -> None:
        """Tell a server what it lost or may not know. What fails is left for the next time that it is ``overdue``."""
        process = self.process
        while True:
            self._doubt_lost(position)
            with process.lock:
                doubtful = self._doubtful[position]
                part = list(islice(doubtful, MEND_AT_ONCE))
                for group in part:
                    del doubtful[group]
                if not part:
                    self._mending.discard(position)
                    return
            error: BaseException | None = None
            try:
                results = await asyncio.gather(*(self.settle(engine, group) for group in part), return_exceptions=True)
                error = next((result for result in results if isinstance(result, BaseException)), None)
            except BaseException:
                with process.lock:
                    self._mending.discard(position)
                raise
            if error is not None:
                with process.lock:
                    self._mending.discard(position)
                process.warn("memberships", "Restoring memberships in groups failed and goes on later: %s", error)
                return

    def _doubt_lost(self, position: int) -> None:
        process = self.process
        with process.lock:
            lost = {shard for shard in self._lost if process.ring.owners[shard] == position}
            self._lost -= lost
        if not lost:
            return
        groups = [group for group in process.mailbox.memberships() if process.ring.group_shard(group) in lost]
        with process.lock:
            for group in groups:
                process.memberships.pop(group, None)
            self._doubtful[position].update(dict.fromkeys(groups))

    def _doubt(self, group: str) -> None:
        with self.process.lock:
            self._doubtful[self.process.ring.owners[self.process.ring.group_shard(group)]][group] = None

    # -- telling a server

    def _known(self, group: str) -> bool:
        """Whether the server certainly has this process in the group, for long enough."""
        known = self.process.memberships.get(group)
        return known is not None and self._certain(known, time.monotonic())

    def _certain(self, known: Membership, now: float) -> bool:
        return known.epoch != "" and known.epoch == self.process.epochs[known.shard] and now < known.refresh_at

    async def _settle(self, engine: Engine, group: str) -> None:
        process, tellings = self.process, self._tellings
        while True:
            with process.lock:
                held = process.mailbox.holds(group)
                telling = tellings.busy.get(group)
                ours = telling is None
                if telling is None:
                    if self._known(group) if held else group not in process.memberships:
                        return
                    telling = tellings.begin(engine, group, held, time.monotonic())
                    waiter = telling.waiter
                else:
                    waiter = telling.follow(engine.loop)
            if telling.loop is engine.loop:
                await waiter
            else:
                await self._wait_for_another(waiter, telling)
            if ours and telling.certain():
                return

    async def _wait_for_another(self, waiter: Waiter, telling: Telling) -> None:
        """Wait for a loop in another thread, or until it was closed or stands still."""
        try:
            await asyncio.wait({waiter}, timeout=1.0)
        finally:
            waiter.cancel()
        if telling.outcome is None and not telling.loop.is_running():
            with self.process.lock:
                self._tellings.give_up(telling)

    def _call(self, engine: Engine, script: str, group: str, head: tuple[Arg, ...]) -> asyncio.Future[str]:
        return engine.call(script, self.process.ring.group_shard(group), "g", group, head)

    def _control(self, group: str, what: dict[str, object]) -> bytes:
        return self.process.records.pack(CONTROL, group, ormsgpack.packb(what))
