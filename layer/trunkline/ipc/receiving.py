"""Receiving: out of the store, or of what was taken out of it before."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from trunkline.codec import DIRECT, GROUP, Records, Unreadable
from trunkline.errors import LayerUnavailable
from trunkline.ipc import presence, queues
from trunkline.ipc.ahead import Ahead
from trunkline.ipc.fanout import FanOut
from trunkline.ipc.keys import Place, head_of, head_place, place_of
from trunkline.ipc.waiting import Bells, Waiting, wake_here
from trunkline.mailbox import Body
from trunkline.names import Address
from trunkline.stats import Counters, LimitedLog, report_unreadable

now_ns = time.monotonic_ns  # the same for all processes of the machine, and nobody sets it

PAUSE = 0.25  # s until a receiver looks again for a store that was away
TAKEN_AT_ONCE = 64  # messages for receivers that were woken, in one transaction, so that others come in between


class Receiving(ABC):
    """The part of a participant that receives; all but ``receive`` and ``receive_any`` is called with its lock held."""

    owner: bytes
    records: Records
    _counters: Counters
    _warn: LimitedLog
    _lock: threading.RLock
    _waiting: Waiting
    _fanout: FanOut
    _ahead: Ahead
    _heard: dict[str, int]  # own channels, and when somebody last received from them
    _served: dict[str, bytes]  # head -> key of the channel that was served last
    _bells: Bells | None
    _write: Callable[..., Any]
    _ring: queues.Ring

    @abstractmethod
    def _bell_of(self, loop: asyncio.AbstractEventLoop) -> bytes:
        """The doorbell of the running ``loop``, made if need be."""

    @abstractmethod
    def _collect(self) -> None:
        """Take the inbox' group messages and give them to the members in this process."""

    async def receive(self, channel: str, address: Address | None) -> Body:
        """Wait for the next message of a channel given by its full name.

        :param address: the channel taken apart if it is this process' own, else ``None``.
        """
        loop = asyncio.get_running_loop()
        first = False
        while True:
            with self._lock:
                try:
                    body: Body | None = None
                    bell = None
                    if not first or self._bells is None:
                        bell = self._bell_of(loop)  # before it takes anything: it may have missed a flush
                    if address is not None:
                        self._heard[channel] = now = now_ns()
                        if channel in self._ahead:
                            body = self._at_hand(channel, now)
                        elif channel in self._fanout:
                            body = self._fanout.take_at_once(channel, now)
                    if body is None:
                        bell = bell or self._bell_of(loop)
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

    async def receive_any(self, head: str) -> tuple[str, Body]:
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

    def _take(self, channel: str, place: Place, own: bool, bell: bytes) -> Body | None:
        """Take a message, direct or out of a group; if there is none, ``bell`` is registered when this returns."""
        keep = own and self._ahead.keeps(channel)
        while True:
            now = now_ns()
            before = self._fanout.direct_before(channel) if own else None
            if before == 0:
                shared = self._fanout.take(channel, now)
                if shared is not None:
                    return shared
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

    def _at_hand(self, channel: str, now: int) -> Body | None:
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

    def _take_any(self, head: str, place: Place, bell: bytes) -> tuple[str, Body] | None:
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
