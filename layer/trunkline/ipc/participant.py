"""One layer object in one process: what it receives, whom it wakes, and what it does every second."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from trunkline.codec import records_for
from trunkline.config import IPCOptions
from trunkline.ipc import environment, groups, presence, queues, statistics, upkeep
from trunkline.ipc.bells import Bells
from trunkline.ipc.boxes import Box, Boxes
from trunkline.ipc.doorbell import Doorbell
from trunkline.ipc.inbox import Inbox
from trunkline.ipc.joining import Joining
from trunkline.ipc.keys import head_of, head_place, place_of
from trunkline.ipc.memberships import Memberships
from trunkline.ipc.own import OwnReceiving
from trunkline.ipc.receiving import now_ns
from trunkline.ipc.sending import INBOX_SHARE, Sending
from trunkline.ipc.waiting import Waiting
from trunkline.stats import Counters, LimitedLog

TICK = 1.0  # s between two looks at what no doorbell tells of: dead processes, and the messages they were woken for

_live: weakref.WeakSet[Participant] = weakref.WeakSet()


class Participant(Joining, OwnReceiving):
    """The transport of one layer object in one process; for any thread and any event loop.

    :param identity: the process id in the names of its own channels, 24 hexadecimal digits.
    :param capacity_of: how many unread messages a channel may hold.
    """

    def __init__(
        self,
        identity: str,
        options: IPCOptions,
        capacity_of: Callable[[str], int],
        counters: Counters,
        warn: LimitedLog,
    ) -> None:
        self.identity = identity
        self.owner = bytes.fromhex(identity)
        self._mark = f".{identity}!"
        self._counters = counters
        self._warn = warn
        self._expiry = int(options.common.expiry * 1e9)
        self._lock = threading.RLock()
        self.records = records_for(options.common.symmetric_encryption_keys, options.common.prefix)
        self._waiting = Waiting()
        self._boxes = Boxes(self._lock, capacity_of, self._waiting, counters)
        self._by_name = self._boxes.by_name
        self._memberships = Memberships()
        self._woken: list[Box] = []  # in the step that goes on, because of a doorbell
        self._unheard: list[str] = []  # rung for, and nobody waited
        self._served = {}
        self._shared = set()
        self._bells = None
        self._posted = False
        self._generation = 0
        self._next_look = 0
        self._released = False
        self.environment = environment.acquire(options)
        self._write = self.environment.write
        self._ring = self.environment.ringer.ring
        self.sending = Sending(self.environment, self.records, capacity_of, self._expiry, options.size // INBOX_SHARE)
        self._inbox = Inbox(
            self.owner,
            self.environment,
            self._boxes,
            self._memberships,
            counters,
            self._opened,
            self._hear,
            self._forget,
        )
        self.inherited = False  # a fork later: this object is the parent's
        _live.add(self)

    def __repr__(self) -> str:
        return f"<Participant {self.identity} {self._bells!r} {self._boxes!r}>"

    # -- looking

    def backlog(self, channel: str) -> queues.Backlog:
        """What lies unread in a channel, and whether somebody waits for more."""
        found: queues.Backlog = self._write(queues.backlog_of, place_of(channel))
        return found

    def unread(self) -> list[tuple[str, int, float]]:
        """What nobody has received yet, on the whole machine: name, messages, seconds since the first was sent."""
        found: statistics.Unread = {}
        position: bytes | None = b""
        while position is not None:
            position = self._write(statistics.unread, position, found)
        now = now_ns()
        return [
            (name, count, max(0.0, (now + self._expiry - deadline) / 1e9)) for name, (count, deadline) in found.items()
        ]

    # -- what receivers need

    def _collect(self) -> None:
        """Take the inbox' group messages and give them to the members in this process."""
        with self._lock:
            if self._bells is not None:
                self._inbox.collect(now_ns)
                self._posted = False
                self._settle()
                self._pass_all_on()

    def _catch_up(self) -> None:
        if self._bells is not None:
            if self._bells.poll(0):  # which happens before anybody could know of what was posted
                self._listen(self._bells.home)
            if self._posted:
                self._collect()
            elif self._unheard:
                self._pass_all_on()

    # -- the doorbell and the clock

    def register(self) -> None:
        """Make sure that others know this process, and can see whether it lives."""
        with self._lock:
            if self._bells is None:
                self._write(presence.registered, self.owner)  # opens the store, and makes its directory
                self._bells = self.environment.guard(Bells, self.environment.home, self._rung)
                self._say_hello()
            elif self._generation != self.environment.generation:
                self._say_hello()

    def _say_hello(self) -> None:
        assert self._bells is not None
        if not self._write(presence.register, self.owner, self._bells.home.bell, self._bells.names()):
            self._memberships.lost()
        self._posted = True
        self._settle()
        if self._generation != self.environment.generation:
            self._generation = self.environment.generation
            self._boxes.forget_quiet()

    def _bell_of(self, loop: asyncio.AbstractEventLoop) -> bytes:
        if self._bells is not None:
            doorbell = self._bells.of(loop)
            if doorbell is not None and self._generation == self.environment.generation:
                return doorbell.bell
        self.register()
        assert self._bells is not None
        doorbell = self._bells.of(loop)
        if doorbell is None:
            doorbell = self.environment.guard(self._bells.attach, loop)
            self._say_hello()
            self._collect()
            loop.call_later(TICK, self._tick, loop, doorbell)
            self._wake_all()  # they waited while the layer was closed
        return doorbell.bell

    def _rung(self, doorbell: Doorbell) -> None:
        with self._lock:
            if self._boxes.lag():
                return  # the loop says it again in its next round
            self._woken.clear()
            try:
                self._listen(doorbell)
                if self._posted:
                    self._collect()
                self._take_ahead(self._woken, doorbell.bell)
                self._pass_all_on()
            except ConnectionError:  # the tick looks again
                pass

    def _hear(self) -> list[bytes]:
        """Listen to all doorbells of this process before their loops do."""
        if self._bells is None:
            return []
        for doorbell in self._bells.listening():
            self._listen(doorbell)
        return self._bells.names()

    def _listen(self, doorbell: Doorbell) -> None:
        """Wake those that were rung for, and note who else was, and whether it was for the inbox."""
        lines, overflow = doorbell.listen()
        if overflow:
            self._boxes.forget_quiet()
            self._wake_all()
        for name in map(bytes.decode, lines):
            box = self._by_name.get(name)
            if box is not None:
                box.quiet = None
                if box.wake(None):
                    self._woken.append(box)
                    continue
            elif not name or self._waiting.wake(name):
                continue
            self._unheard.append(name)
        if overflow or b"" in lines:
            self._posted = True

    def _wake_all(self) -> None:
        """Wake the first that waits for each name; each goes on to wake the next if there is more."""
        self._boxes.wake_all()
        self._waiting.wake_all()

    def _pass_all_on(self) -> None:
        unheard, self._unheard = self._unheard, []
        for name in unheard:
            self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        """Somebody rang for a receiver that is no longer there."""
        place = place_of(name) if not name.endswith("!") else head_place(self.owner, name)
        if place.owner is not None:
            self._waiting.wake(head_of(name))
        elif self._bells is not None:
            self._write(queues.withdraw, place, self._bells.names(), self._ring)

    def _tick(self, loop: asyncio.AbstractEventLoop, doorbell: Doorbell) -> None:
        with self._lock:
            if self._bells is None or self._bells.of(loop) is not doorbell:
                return
            loop.call_later(TICK, self._tick, loop, doorbell)
            try:
                self.look_around()
            except ConnectionError:
                self._wake_all()  # let the receivers find out whether it lasts

    def look_around(self) -> None:
        """What is due about once a second, in any process that uses the layer."""
        now = now_ns()
        if now < self._next_look:
            return
        self._next_look = now + int(TICK * 1e9)
        with self._lock:
            self.environment.verify()
            upkeep.sweep(self.environment, now)
            if self._bells is not None:
                self._look_after_own(self._bells, now)

    def _look_after_own(self, bells: Bells, now: int) -> None:
        self._put_all_back()
        if bells.lost():  # somebody took us for dead, or removed the directory
            self._bells = None
            self._boxes.forget_quiet()
            bells.close()
            self._wake_all()
            return
        if not self._write(presence.registered, self.owner):
            self._say_hello()
            self._boxes.forget_quiet()
            self._wake_all()  # nothing of what they registered is left
        elif bells.reclaim() or self._generation != self.environment.generation:
            self._say_hello()
        self._collect()
        for name in self._waiting:
            if not name.endswith("!") and self._write(queues.unread_of, place_of(name)):
                self._waiting.wake(name)
        stale, unheard = self._boxes.sweep(now, self._expiry)
        if stale:
            self._memberships.leave_all(stale)  # the Channels specification allows it: nobody listens
        self._memberships.end(now)
        self._settle()
        unused = [box for box in unheard if not box.groups and not box.items and box.taken is None]
        self._leave_no_bell({*unused, *(box for box in unheard if box.quiet is not None)})
        for box in unused:
            self._boxes.close(box)

    def _put_all_back(self) -> None:
        """What was taken for receivers that have not come for it goes back to where it was."""
        for box in self._boxes:
            if box.taken is not None:
                self._put_back(box)

    # -- the end

    def flush(self) -> None:
        """Remove every message and membership of every process."""
        with self._lock:
            self._write(_empty, self._ring)
            self._forget()

    def _forget(self) -> None:
        self._memberships.clear()
        self._boxes.clear()

    def close(self) -> None:
        """Give up files and memory; what is unread is kept until it has expired. Usable again afterwards."""
        with self._lock:
            self._put_all_back()
            self._boxes.forget_quiet()
            bells, self._bells = self._bells, None
            if bells is not None:
                try:
                    self._write(presence.close, self.owner, now_ns() + self._expiry)
                except ConnectionError:
                    pass
                bells.close()
            if not self._released:
                self._released = True
                environment.release(self.environment)
            elif self.environment.users <= 0:
                self.environment.close()

    def leave(self) -> None:
        """The process ends in order: nothing of it is left."""
        bells = self._bells
        if bells is None or self.inherited:
            return
        self._bells = None  # whoever uses the layer after this begins anew
        self._boxes.forget_quiet()
        try:
            bells.close()
            upkeep.bury(self.environment, self.owner)
        except (OSError, RuntimeError):
            pass  # the living tidy up


def _empty(txn: Any, ring: queues.Ring) -> None:
    queues.empty_all(txn)
    groups.end_all(txn)
    presence.flush_inboxes(txn, ring)


def _at_exit() -> None:
    for participant in list(_live):
        participant.leave()


def _after_fork_in_child() -> None:
    for participant in list(_live):
        participant.inherited = True
        if participant._bells is not None:
            participant._bells.abandon()
    _live.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
