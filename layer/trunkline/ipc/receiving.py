"""Receiving what any process of the machine may receive, and what all receiving needs."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from trunkline.codec import DIRECT, GROUP, Records, Unreadable
from trunkline.errors import LayerUnavailable
from trunkline.ipc import queues
from trunkline.ipc.bells import Bells
from trunkline.ipc.keys import Place, place_of
from trunkline.ipc.waiting import Waiting, wake_here
from trunkline.mailbox import Waiter
from trunkline.stats import Counters, LimitedLog, report_unreadable

now_ns = time.monotonic_ns  # the same for all processes of the machine, and nobody sets it

PAUSE = 0.25  # s until a receiver looks again for a store that was away


class Receiving(ABC):
    """The part of a participant that receives from shared channels; what is private is called with its lock held."""

    records: Records
    _counters: Counters
    _warn: LimitedLog
    _lock: threading.RLock
    _waiting: Waiting
    _bells: Bells | None
    _write: Callable[..., Any]
    _ring: queues.Ring

    @abstractmethod
    def _bell_of(self, loop: asyncio.AbstractEventLoop) -> bytes:
        """The doorbell of the running ``loop``, made if need be."""

    async def receive_shared(self, channel: str) -> bytes:
        """Wait for the next message of a channel that no process owns."""
        loop = asyncio.get_running_loop()
        place = place_of(channel)
        first = False
        while True:
            with self._lock:
                try:
                    body = self._take_shared(channel, place, self._bell_of(loop))
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
                with self._lock:
                    self._give_up(channel, place, waiter)
                raise

    def _take_shared(self, channel: str, place: Place, bell: bytes) -> bytes | None:
        """Take a message; if there is none, ``bell`` is registered when this returns."""
        while True:
            others = self._bells_of(self._waiting.loops(channel)) if channel in self._waiting else ()
            popped: queues.Popped = self._write(queues.pop, place, now_ns(), bell, others)
            self._counters.of(channel).expired += popped.expired
            if popped.body is None:
                return None
            if popped.unread:
                self._waiting.wake(channel)
            body = self._opened(DIRECT, channel, popped.body)
            if body is not None:
                return body

    def _give_up(self, name: str, place: Place, waiter: Waiter) -> None:
        """A receiver was cancelled: nobody must ring for it, and a wake-up that it had belongs to the next one."""
        if not self._waiting.withdraw(name, waiter) and self._waiting.wake(name):
            return
        if name not in self._waiting:
            self._withdraw_bells(place)

    def _withdraw_bells(self, place: Place) -> None:
        """No receiver of this process waits there any more."""
        if self._bells is not None:
            try:
                self._write(queues.withdraw, place, self._bells.names(), self._ring)
            except ConnectionError:  # the store is away, and with it what was registered
                pass

    def _opened(self, kind: int, name: str, data: bytes) -> bytes | None:
        """What was stored under ``name``; counted and skipped where it can't be read."""
        try:
            return self.records.unwrap(kind, name, data)
        except Unreadable as error:
            report_unreadable(self._counters, self._warn, error, f"{'group' if kind == GROUP else 'channel'} {name!r}")
            return None

    def _pause(self, error: LayerUnavailable, loop: asyncio.AbstractEventLoop) -> Waiter:
        """For a receiver an outage is a pause: let it look again in a moment."""
        self._warn("ipc-unavailable", "Receiving waits until the store is back: %s", error)
        waiter: Waiter = loop.create_future()
        loop.call_later(PAUSE, wake_here, waiter)
        return waiter

    def _bells_of(self, loops: Iterable[asyncio.AbstractEventLoop]) -> list[bytes]:
        """The doorbells of these event loops, of those that have one."""
        if self._bells is None:
            return []
        bells = map(self._bells.of, loops)
        return [bell.bell for bell in bells if bell is not None]
