"""Sending: what a task sends, or several tasks at once, is one write transaction; for any thread and event loop."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from trunkline.codec import DIRECT, Records
from trunkline.errors import ChannelFull, LayerUnavailable
from trunkline.ipc import groups, queues, upkeep
from trunkline.ipc.environment import Environment, StoreFull
from trunkline.ipc.keys import Place, place_of
from trunkline.ipc.together import Together

T = TypeVar("T")

TIDY_EVERY = 1_000_000_000  # ns between two looks for room in a store that is full
INBOX_SHARE = 4  # an inbox may take one part in so many of the store


class Sending:
    """What one process sends.

    :param records: make what is stored of a message.
    :param capacity_of: how many unread messages a channel may hold.
    :param expiry: nanoseconds that an unread message lives.
    :param room: bytes that an inbox may hold.
    """

    def __init__(
        self, environment: Environment, records: Records, capacity_of: Callable[[str], int], expiry: int, room: int
    ) -> None:
        self.records = records
        self._environment = environment
        self._capacity_of = capacity_of
        self._expiry = expiry
        self._room = room
        self._ring = environment.ringer.ring
        self._write = environment.write
        self._next_tidying = 0
        self._together: Together | None = None  # of the loop that sent last
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Together] = weakref.WeakKeyDictionary()

    def send(self, channel: str, body: bytes) -> None:
        """See ``ChannelLayer.send``; ``body`` is the encoded message. A store without room counts as a full channel."""
        now, capacity = time.monotonic_ns(), self._capacity_of(channel)
        data = self.records.wrap(DIRECT, channel, body)
        try:
            self._bring(now, self._push, place_of(channel), data, now, now + self._expiry, capacity)
        except StoreFull as error:
            raise ChannelFull(channel, capacity, str(error)) from error

    def together(self, loop: asyncio.AbstractEventLoop) -> Together:
        """What the tasks of the running ``loop`` send at once."""
        together = self._together
        if together is None or not together.belongs_to(loop):
            together = self._of_loop.get(loop)
            if together is None:
                together = self._of_loop[loop] = Together(loop, self.send_each)
            self._together = together
        return together

    def send_each(self, messages: Sequence[tuple[str, bytes]]) -> list[Exception | None]:
        """Send to channels in one transaction; returns why each was refused, as ``send`` raises it, or ``None``."""
        now = time.monotonic_ns()
        each = [
            (channel, place_of(channel), self.records.wrap(DIRECT, channel, body), self._capacity_of(channel))
            for channel, body in messages
        ]
        try:
            return self._bring(now, self._push_each, each, now, now + self._expiry)
        except Exception:  # each for itself: one may be larger than the others
            return [self._attempt(channel, body) for channel, body in messages]

    def _attempt(self, channel: str, body: bytes) -> Exception | None:
        try:
            self.send(channel, body)
        except Exception as error:
            return error
        return None

    def _push_each(
        self, txn: Any, each: Sequence[tuple[str, Place, bytes, int]], now: int, deadline: int
    ) -> list[Exception | None]:
        refusals: list[Exception | None] = []
        for channel, place, data, capacity in each:
            taken = queues.push(txn, place, data, now, deadline, capacity, self._ring, drop=True)
            refusals.append(None if taken else ChannelFull(channel, capacity))
        self._environment.check_room(txn, sum(len(data) for _, _, data, _ in each))
        return refusals

    def _push(self, txn: Any, place: Place, data: bytes, now: int, deadline: int, capacity: int) -> None:
        queues.push(txn, place, data, now, deadline, capacity, self._ring)
        self._environment.check_room(txn, len(data))

    def group_send(self, group: str, body: bytes) -> int:
        """Returns how many members (channels, or whole processes) had no room."""
        now = time.monotonic_ns()
        sent = self._bring(now, self._group_push, group, body, now)
        for owner in sent.dead:
            upkeep.bury(self._environment, owner)
        return sent.dropped

    def _group_push(self, txn: Any, group: str, body: bytes, now: int) -> groups.Sent:
        sent = groups.send(
            txn, group, body, self.records.wrap, now, now + self._expiry, self._capacity_of, self._room, self._ring
        )
        self._environment.check_room(txn, len(body))
        return sent

    def add_elsewhere(self, group: str, channel: str, lifetime: int) -> None:
        """Make a member of a channel of another process, or of one that any process receives from.

        :param lifetime: nanoseconds.
        :raises LayerUnavailable: if its process doesn't listen, or the store has no room or can't be used.
        """
        now = time.monotonic_ns()
        self._tell(channel, now, self._add, group, channel, now, lifetime)

    def discard_elsewhere(self, group: str, channel: str) -> None:
        """End such a channel's membership; errors as for ``add_elsewhere``."""
        self._tell(channel, time.monotonic_ns(), groups.discard, group, channel, self._room, self._ring)

    def _add(self, txn: Any, group: str, channel: str, now: int, lifetime: int) -> bool:
        added = groups.add(txn, group, channel, now, lifetime, self._room, self._ring)
        self._environment.check_room(txn, len(channel))
        return added

    def _tell(self, channel: str, now: int, operation: Callable[..., bool], *args: Any) -> None:
        try:
            taken = self._bring(now, operation, *args)
        except LookupError:  # its process has gone, and nobody will ever receive from it
            owner = place_of(channel).owner
            assert owner is not None
            upkeep.bury(self._environment, owner)
            return
        if not taken:
            raise LayerUnavailable(f"The process of channel {channel!r} doesn't listen, and its inbox is full.")

    def _bring(self, now: int, operation: Callable[..., T], *args: Any) -> T:
        """Write a message; where the store is full, at most once a second after dropping everything expired."""
        try:
            return self._write(operation, *args)
        except StoreFull:
            if now < self._next_tidying:
                raise
            self._next_tidying = now + TIDY_EVERY
            upkeep.drop_everything_expired(self._environment, now)
            return self._write(operation, *args)
