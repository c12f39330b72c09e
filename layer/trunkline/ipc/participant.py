"""One layer object in one process: what it receives, whom it wakes, and what it does every second."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from trunkline.codec import DIRECT, GROUP, Unreadable, records_for
from trunkline.config import IPCOptions
from trunkline.errors import LayerUnavailable
from trunkline.ipc import environment, groups, presence, queues, statistics, upkeep
from trunkline.ipc.ahead import Ahead
from trunkline.ipc.doorbell import Doorbell
from trunkline.ipc.fanout import FanOut
from trunkline.ipc.inbox import Inbox
from trunkline.ipc.keys import Place, head_of, head_place, place_of
from trunkline.ipc.sending import INBOX_SHARE, Sending
from trunkline.ipc.waiting import Bells, Waiting, wake_here
from trunkline.names import Address
from trunkline.stats import Counters, LimitedLog, report_unreadable

now_ns = time.monotonic_ns  # the same for all processes of the machine, and nobody sets it

TICK = 1.0  # s between two looks at what no doorbell tells of: dead processes, and the messages they were woken for
PAUSE = 0.25  # s until a receiver looks again for a store that was away
TAKEN_AT_ONCE = 64  # messages for receivers that were woken, in one transaction, so that others come in between

_live: weakref.WeakSet[Participant] = weakref.WeakSet()


class Participant:
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
        self._counters = counters
        self._warn = warn
        self._expiry = int(options.common.expiry * 1e9)
        self._lock = threading.RLock()
        self.records = records_for(options.common.symmetric_encryption_keys, options.common.prefix)
        self._waiting = Waiting()
        self._fanout = FanOut(counters)
        self._ahead = Ahead()
        self._woken: list[str] = []  # in the step that goes on, because of a doorbell
        self._unheard: list[str] = []  # rung for, and nobody waited
        self._heard: dict[str, int] = {}  # own channels, and when somebody last received from them
        self._served: dict[str, bytes] = {}  # head -> key of the channel that was served last
        self._bells: Bells | None = None
        self._generation = 0
        self._next_look = 0
        self._released = False
        self.environment = environment.acquire(options)
        self._write = self.environment.write
        self._ring = self.environment.ringer.ring
        self.sending = Sending(self.environment, self.records, capacity_of, self._expiry, options.size // INBOX_SHARE)
        self._inbox = Inbox(
            self.owner, self.environment, capacity_of, self._waiting, self._fanout, counters, self._opened, self._hear
        )
        self.inherited = False  # a fork later: this object is the parent's
        _live.add(self)

    def __repr__(self) -> str:
        return f"<Participant {self.identity} {self._bells!r}>"

    # -- looking

    def backlog(self, channel: str) -> queues.Backlog:
        """What lies unread in a channel, and whether somebody waits for more."""
        return self._write(queues.backlog_of, place_of(channel))

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

    # -- memberships

    def group_add(self, group: str, channel: str, lifetime: float) -> None:
        """Make ``channel`` a member for ``lifetime`` seconds."""
        now = now_ns()
        own = place_of(channel).owner == self.owner
        if own:
            self.register()
        self._write(groups.add, group, channel, now, now + int(lifetime * 1e9))

    def group_discard(self, group: str, channel: str) -> None:
        """End a membership; what was sent to the group before is still received."""
        own = place_of(channel).owner == self.owner
        while not self._write(self._discard, group, channel, own):
            self._collect()

    def _discard(self, txn: Any, group: str, channel: str, own: bool) -> bool:
        """Returns whether it is done; else the inbox has to be emptied first."""
        if own and self._bells is not None and presence.unposted(txn, self.owner):
            return False
        groups.discard(txn, group, channel, now_ns())
        return True

    # -- receiving

    async def receive(self, channel: str, address: Address | None) -> bytes:
        """Wait for the next message of a channel given by its full name.

        :param address: the channel taken apart if it is this process' own, else ``None``.
        """
        loop = asyncio.get_running_loop()
        first = False
        while True:
            with self._lock:
                try:
                    body = None
                    if address is not None:
                        self._heard[channel] = now = now_ns()
                        if channel in self._ahead or channel in self._fanout:
                            body = self._at_hand(channel, now)
                    if body is None:
                        bell = self._bell_of(loop)
                        if not self._ahead.quiet(channel, bell) or channel in self._fanout:
                            body = self._take(channel, place_of(channel), address is not None, bell)
                except LayerUnavailable as error:
                    waiter = self._pause(error, loop)
                else:
                    if body is not None:
                        self._counters.of(channel).received += 1
                        return body
                    waiter = loop.create_future()
                    self._waiting.add(channel, waiter, first=first)
            first = True
            try:
                await waiter
            except BaseException:
                self._give_up(channel, place_of(channel), waiter)
                raise

    async def receive_any(self, head: str) -> tuple[str, bytes]:
        """Wait for a message of any own channel under ``head``; a waiting receiver of the full name goes first."""
        loop = asyncio.get_running_loop()
        place = head_place(self.owner, head)
        first = False
        while True:
            with self._lock:
                try:
                    found = self._take_any(head, place, self._bell_of(loop))
                except LayerUnavailable as error:
                    waiter = self._pause(error, loop)
                else:
                    if found is not None:
                        self._counters.of(found[0]).received += 1
                        self._waiting.wake(head)  # there may be more
                        return found
                    waiter = loop.create_future()
                    self._waiting.add(head, waiter, first=first)
            first = True
            try:
                await waiter
            except BaseException:
                self._give_up(head, place, waiter)
                raise

    def _take(self, channel: str, place: Place, own: bool, bell: bytes) -> bytes | None:
        """Take a message, direct or out of a group; if there is none, ``bell`` is registered when this returns."""
        keep = own and self._ahead.keeps(channel)
        while True:
            now = now_ns()
            before = self._fanout.direct_before(channel) if own else None
            if before == 0:
                body = self._fanout.take(channel, now)
                if body is not None:
                    return body
            popped, posted = self._write(self._pop, place, now, bell, self._bells_waiting(channel), before, keep)
            self._counters.of(channel).expired += popped.expired
            if keep and not popped.unread:
                self._ahead.set_quiet(channel, bell)
            if popped.body is None:
                if not posted:
                    return self._fanout.take(channel, now) if own else None
                self._collect()  # which hears of what came since, so look again
                continue
            if channel in self._waiting and (popped.unread or self._fanout.unread(channel)):
                self._waiting.wake(channel)
            body = self._opened(DIRECT, channel, popped.body)
            if body is not None:
                return body

    def _at_hand(self, channel: str, now: int) -> bytes | None:
        """The next message of an own channel, if it is known without the store."""
        while (item := self._ahead.take(channel)) is not None:
            deadline, data = item
            if deadline <= now:
                self._counters.of(channel).expired += 1
                continue
            body = self._opened(DIRECT, channel, data)
            if body is not None:
                if channel in self._waiting and (self._ahead.count(channel) or self._fanout.unread(channel)):
                    self._waiting.wake(channel)
                return body
        return self._fanout.take_at_once(channel, now)

    def _pop(
        self, txn: Any, place: Place, now: int, bell: bytes, others: list[bytes], before: int | None, keep: bool
    ) -> tuple[queues.Popped, bool]:
        popped = queues.pop(txn, place, now, bell, others, before, keep=keep)
        posted = popped.body is None and place.owner is not None and presence.unposted(txn, self.owner)
        return popped, posted

    def _take_any(self, head: str, place: Place, bell: bytes) -> tuple[str, bytes] | None:
        now = now_ns()
        self._share(head)
        self._collect()
        found = self._fanout.take_any(head, self._waiting, now)
        if found is not None:
            self._heard[found[0]] = now
            return found
        while True:
            after = self._served.get(head, b"")
            taken = self._write(queues.pop_any, place, now, self._waiting, after, bell, self._bells_waiting(head))
            if taken is None or taken[1].body is None:
                return None
            channel = taken[0].name.decode("ascii")
            self._served[head] = taken[0].key
            self._heard[channel] = now
            self._counters.of(channel).expired += taken[1].expired
            body = self._opened(DIRECT, channel, taken[1].body)
            if body is not None:
                return channel, body

    def _share(self, head: str) -> None:
        """From now on receivers of ``head`` look for messages too: nothing may be kept from them."""
        if self._bells is None or self._ahead.shares(head):
            return
        channels = [channel for channel in self._heard if head_of(channel) == head]
        self._leave_no_bell(channels)
        for channel in channels:
            self._put_back(channel)
            self._waiting.wake(channel)  # to register again
        self._ahead.share(head)

    def _leave_no_bell(self, channels: list[str]) -> None:
        if channels and self._bells is not None:
            for channel in channels:
                self._ahead.rung(channel)
            places = [place_of(channel) for channel in channels]
            self._write(queues.withdraw_each, places, self._bells.names(), self._ring)

    def _put_back(self, channel: str) -> None:
        """What was taken for a receiver that is gone goes back to the front."""
        self._ahead.rung(channel)
        if not self._ahead.count(channel):
            return
        while (item := self._ahead.take_last(channel)) is not None:
            try:
                self._write(queues.put_back, place_of(channel), *item)
            except ConnectionError:  # stays here, where the next receiver looks first
                self._ahead.put(channel, *item)
                break
        self._waiting.wake(channel)

    def _opened(self, kind: int, name: str, data: bytes) -> bytes | None:
        """What was stored under ``name``; counted and skipped where it can't be read."""
        try:
            return self.records.unwrap(kind, name, data)
        except Unreadable as error:
            report_unreadable(self._counters, self._warn, error, f"{'group' if kind == GROUP else 'channel'} {name!r}")
            return None

    def _give_up(self, name: str, place: Place, waiter: asyncio.Future[None]) -> None:
        """A receiver was cancelled: nobody must ring for it, and a wake-up that it had belongs to the next one."""
        with self._lock:
            unwoken = self._waiting.withdraw(name, waiter)
            if not unwoken and (self._waiting.wake(name) or (place.owner and self._waiting.wake(head_of(name)))):
                return
            if not unwoken:
                self._put_back(name)
            if name in self._waiting or self._bells is None:
                return
            bells = self._bells.names()
            self._ahead.rung(name)
            try:
                self._write(queues.withdraw, place, bells, self._ring)
            except ConnectionError:  # the store is away, and with it what was registered
                pass

    def _pause(self, error: LayerUnavailable, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """For a receiver an outage is a pause: let it look again in a moment."""
        self._warn("ipc-unavailable", "Receiving waits until the store is back: %s", error)
        waiter = loop.create_future()
        loop.call_later(PAUSE, wake_here, waiter)
        return waiter

    def _bells_waiting(self, name: str) -> list[bytes]:
        if name not in self._waiting or self._bells is None:
            return []
        bells = (self._bells.of(loop) for loop in self._waiting.loops(name))
        return [bell.bell for bell in bells if bell is not None]

    def _collect(self) -> None:
        """Take the inbox' group messages and give them to the members in this process."""
        with self._lock:
            if self._bells is not None:
                self._inbox.collect(now_ns)
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
        self._write(presence.register, self.owner, self._bells.home.bell, self._bells.names())
        if self._generation != self.environment.generation:
            self._generation = self.environment.generation
            self._ahead.forget_quiet()

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
            self._waiting.wake_all()  # they waited while the layer was closed
        return doorbell.bell

    def _rung(self, doorbell: Doorbell) -> None:
        with self._lock:
            self._woken.clear()
            try:
                if self._listen(doorbell):
                    self._collect()
                self._take_ahead(self._woken, doorbell.bell)
                self._pass_all_on()
            except ConnectionError:  # the tick looks again
                pass

    def _hear(self) -> None:
        """Listen to all doorbells of this process before their loops do."""
        if self._bells is not None:
            for doorbell in self._bells.listening():
                self._listen(doorbell)

    def _listen(self, doorbell: Doorbell) -> bool:
        """Wake those that were rung for, and note who else was; returns whether it was for the inbox."""
        names, overflow = doorbell.listen()
        if overflow:
            self._ahead.forget_quiet()
            self._waiting.wake_all()
        for name in map(bytes.decode, names):
            if name:
                self._ahead.rung(name)
                (self._woken if self._waiting.wake(name) else self._unheard).append(name)
        return overflow or b"" in names

    def _pass_all_on(self) -> None:
        unheard, self._unheard = self._unheard, []
        for name in unheard:
            self._pass_on(name)

    def _take_ahead(self, woken: list[str], bell: bytes) -> None:
        """Take one message for each channel of our own with a receiver that was just woken, in few transactions."""
        wanted = [
            (name, place)
            for name in woken
            if (place := place_of(name)).owner == self.owner
            and place.key != place.head
            and self._ahead.keeps(name)
            and not self._fanout.unread(name)
        ]
        for start in range(0, len(wanted), TAKEN_AT_ONCE):
            some = wanted[start : start + TAKEN_AT_ONCE]
            places = [(place, self._bells_waiting(name)) for name, place in some]
            for (name, _), popped in zip(some, self._write(queues.pop_each, places, now_ns(), bell), strict=True):
                self._counters.of(name).expired += popped.expired
                if popped.body is not None:
                    self._ahead.put(name, popped.deadline, popped.body)
                if popped.unread:
                    self._waiting.wake(name)
                else:
                    self._ahead.set_quiet(name, bell)

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
                self._waiting.wake_all()  # let the receivers find out whether it lasts

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
        for channel in self._ahead.left():
            self._put_back(channel)
        if bells.lost():  # somebody took us for dead, or removed the directory
            self._bells = None
            self._ahead.forget_quiet()
            bells.close()
            self._waiting.wake_all()
            return
        if not self._write(presence.registered, self.owner):
            self._say_hello()
            self._ahead.forget_quiet()
            self._waiting.wake_all()  # nothing of what they registered is left
        elif bells.reclaim() or self._generation != self.environment.generation:
            self._say_hello()
        self._collect()
        for name in self._waiting:
            shared = "!" not in name or place_of(name).owner is None
            if shared and self._write(queues.unread_of, place_of(name)):
                self._waiting.wake(name)
        for channel in self._fanout.drop_expired(now):
            if channel not in self._waiting and now - self._heard.get(channel, 0) > self._expiry:
                self._write(groups.leave_all, channel, now)  # the Channels specification allows it: nobody listens
        long_ago = now - 2 * self._expiry
        unheard = [name for name, last in self._heard.items() if last < long_ago and name not in self._waiting]
        self._leave_no_bell(unheard)
        for channel in unheard:
            del self._heard[channel]

    # -- the end

    def flush(self) -> None:
        """Remove every message and membership of every process."""
        with self._lock:
            self._write(_empty, now_ns(), self._expiry, self._ring)
            self._fanout.clear()
            self._ahead.clear()

    def close(self) -> None:
        """Give up files and memory; what is unread is kept until it has expired. Usable again afterwards."""
        with self._lock:
            for channel in self._ahead.left():
                self._put_back(channel)
            self._ahead.forget_quiet()
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
        if self._bells is None or self.inherited:
            return
        try:
            self._bells.close()
            upkeep.bury(self.environment, self.owner)
        except (OSError, RuntimeError):
            pass  # the living tidy up


def _empty(txn: Any, now: int, expiry: int, ring: queues.Ring) -> None:
    queues.empty_all(txn)
    groups.end_all(txn)
    presence.flush_inboxes(txn, now, now + expiry, ring)


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
