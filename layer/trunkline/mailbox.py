"""What one process holds of its own process-specific channels: unread messages, waiting receivers, group members.

Pure bookkeeping shared by the layers: no I/O and no clock of its own. A transport calls ``deliver`` and
``deliver_group`` with what it read; applications wait in ``receive``. It may be called from any thread and any event
loop. Two rules carry the promises:

* A message leaves its buffer in the same uninterrupted step in which ``receive`` returns it. Waking a receiver moves
  nothing, so cancelling one loses nothing; the wake-up goes on to the next receiver. A receiver that was woken finds
  its channel by name again: what it waited at may have been closed before it came to run.
* What left a buffer is told to the transport (``consumed``) exactly once, whether it was received or expired, so that
  the transport can count it as read.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from trunkline.names import Address, address_of
from trunkline.stats import Counters, Tally

Consumed = Callable[[str, object], None]  # channel, token


class Item(NamedTuple):
    """An unread message.

    :ivar deadline: when it expires, in the mailbox' clock (seconds).
    :ivar body: the encoded message; shared by all members that a group message went to.
    :ivar token: what the transport gave to ``deliver``; ``None`` for group messages.
    """

    deadline: float
    body: bytes
    token: object


Waiter = asyncio.Future[None]


def wake_one(waiters: deque[Waiter]) -> bool:
    """Wake the first waiter that still waits, whatever loop it lives in; waiters of closed loops are forgotten."""
    while waiters:
        waiter = waiters.popleft()
        if waiter.done():
            continue
        loop = waiter.get_loop()
        if asyncio._get_running_loop() is loop:
            waiter.set_result(None)
            return True
        try:
            loop.call_soon_threadsafe(_wake, waiter)
        except RuntimeError:  # its loop closed without a word
            continue
        return True
    return False


def _wake(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)


def fail_one(waiter: Waiter, error: Exception) -> None:
    """Let a receiver raise ``error``; to be called in its own loop."""
    if not waiter.done():
        waiter.set_exception(error)
        waiter.exception()  # who was cancelled in the same turn won't look at it, and nobody shall be told of that


class _Box:
    """One channel: its unread messages and who waits for them."""

    __slots__ = ("capacity", "first", "groups", "head", "items", "last_receive", "name", "tally", "waiters")

    def __init__(self, name: str, head: str, capacity: int, now: float, tally: Tally) -> None:
        self.name = name
        self.head = head
        self.capacity = capacity
        self.tally = tally
        self.items: deque[Item] = deque()
        self.waiters: deque[Waiter] = deque()
        self.groups: set[str] = set()
        self.last_receive = now
        self.first: Item | None = None


class _Head:
    """Receivers of ``receive("prefix!")`` and the channels that hold something for them."""

    __slots__ = ("ready", "waiters")

    def __init__(self) -> None:
        self.ready: dict[str, _Box] = {}
        self.waiters: deque[Waiter] = deque()


class Mailbox:
    """The process' own channels of one layer object.

    :param capacity_of: how many unread messages a channel may hold.
    :param idle: seconds without a receive after which an unused channel is forgotten, and one with an expired message
        leaves its groups (the layer's ``expiry``; the Channels specification allows it, and nobody ever says that a
        consumer has ended).
    :param clock: monotonic seconds.
    :param consumed: called, with the lock held, once for each delivered message with a token that left its buffer.
    """

    def __init__(
        self,
        *,
        capacity_of: Callable[[str], int],
        idle: float,
        clock: Callable[[], float],
        consumed: Consumed,
        counters: Counters,
    ) -> None:
        self._capacity_of = capacity_of
        self._idle = idle
        self._clock = clock
        self._consumed = consumed
        self._counters = counters
        self._boxes: dict[str, _Box] = {}
        self._heads: dict[str, _Head] = {}
        self._groups: dict[str, dict[str, float]] = {}
        self.lock = threading.RLock()

    def __repr__(self) -> str:
        unread = sum(len(box.items) for box in self._boxes.values())
        return f"<Mailbox {len(self._boxes)} channels, {len(self._groups)} groups, {unread} unread>"

    # -- what the transport says

    def deliver(self, channel: str, deadline: float, body: bytes, token: object) -> None:
        """Take in a direct message. The sender's side has checked the capacity."""
        with self.lock:
            box = self._boxes.get(channel) or self._open(channel)
            self._put(box, Item(deadline, body, token))

    def deliver_group(self, group: str, deadline: float, body: bytes) -> int:
        """Take in a group message for every member in this process; returns for how many there was no room."""
        dropped = 0
        with self.lock:
            members = self._groups.get(group)
            if not members:
                return 0
            now = self._clock()
            if deadline <= now:
                self._counters.other.expired += 1
                return 0
            item = Item(deadline, body, None)
            boxes = self._boxes
            gone: list[str] = []
            for channel, end in members.items():
                if end <= now:
                    gone.append(channel)
                    continue
                box = boxes[channel]
                if len(box.items) >= box.capacity:
                    self._drop_expired(box, now)
                    if len(box.items) >= box.capacity:
                        box.tally.dropped += 1
                        dropped += 1
                        continue
                self._put(box, item)
            for channel in gone:
                self._leave(group, channel)
        return dropped

    def sweep(self) -> None:
        """Let go of what expired and of channels that nobody uses any more; call it about once a second."""
        with self.lock:
            now = self._clock()
            for box in list(self._boxes.values()):
                expired = bool(box.items) and self._drop_expired(box, now)
                if box.waiters or now - box.last_receive <= self._idle:
                    continue
                if expired:
                    for group in list(box.groups):
                        self._leave(group, box.name)
                if not box.items and not box.groups:
                    self._close(box)
            self._wake_again()
            for group, members in list(self._groups.items()):
                for channel in [name for name, end in members.items() if end <= now]:
                    self._leave(group, channel)

    def fail(self, make: Callable[[], Exception]) -> None:
        """Let all receivers that wait now raise an error: they would wait for ever."""
        with self.lock:
            for waiter in list(self._waiters()):
                try:
                    waiter.get_loop().call_soon_threadsafe(fail_one, waiter, make())
                except RuntimeError:  # its loop closed without a word
                    continue

    def clear(self) -> None:
        """Forget all messages and memberships (``flush``); waiting receivers go on waiting."""
        with self.lock:
            for box in list(self._boxes.values()):
                while box.items:
                    self._let_go(box, box.items.popleft())
                box.groups.clear()
                if not box.waiters:
                    self._close(box)
            for head in self._heads.values():
                head.ready.clear()
            self._groups.clear()

    # -- memberships

    def join(self, group: str, channel: str, end: float) -> float | None:
        """Make ``channel`` a member until ``end`` (this mailbox' clock); joining again moves the end.

        :return: when the membership ended until now; ``None`` if there was none.
        """
        with self.lock:
            box = self._boxes.get(channel) or self._open(channel)
            box.groups.add(group)
            members = self._groups.setdefault(group, {})
            before = members.get(channel)
            members[channel] = end
            return before

    def take_back(self, group: str, channel: str, end: float, before: float | None) -> None:
        """Undo a ``join`` until ``end`` that returned ``before``, unless the membership was changed since."""
        with self.lock:
            members = self._groups.get(group)
            if members is None or members.get(channel) != end:
                return
            if before is None:
                self._leave(group, channel)
            else:
                members[channel] = before

    def leave(self, group: str, channel: str) -> bool:
        """End a membership; returns whether the group has no member left in this process."""
        with self.lock:
            self._leave(group, channel)
            return group not in self._groups

    def holds(self, group: str) -> bool:
        """Whether the group has a member in this process."""
        return group in self._groups

    def memberships(self) -> dict[str, float]:
        """Each group with members here, and when the last of these memberships ends (this mailbox' clock)."""
        with self.lock:
            return {group: max(members.values()) for group, members in self._groups.items()}

    # -- what the application asks for

    async def receive(self, channel: str) -> bytes:
        """Wait for the next message of ``channel`` (a full name); any number of receivers may wait."""
        loop = asyncio.get_running_loop()
        with self.lock:
            box = self._boxes.get(channel) or self._open(channel)
            now = self._clock()
            box.last_receive = now
            item = self._take(box, now)
            if item:
                return item.body
            waiter: Waiter = loop.create_future()
            box.waiters.append(waiter)
        while True:
            try:
                await waiter
            except BaseException:
                with self.lock:
                    box.last_receive = self._clock()
                    if not self._withdraw(box.waiters, waiter, bool(box.items)) and box.items:
                        self._offer(box)
                raise
            with self.lock:
                box = self._boxes.get(channel) or self._open(channel)
                box.last_receive = now = self._clock()
                item = self._take(box, now)
                if item:
                    return item.body
                waiter = loop.create_future()
                box.waiters.appendleft(waiter)  # another receiver was quicker; the place in the queue is kept

    async def receive_any(self, head_name: str) -> tuple[str, bytes]:
        """Wait for a message of any channel that begins with ``head_name``; a receiver of the full name goes first."""
        loop = asyncio.get_running_loop()
        with self.lock:
            head = self._heads.get(head_name)
            if head is None:
                head = self._heads[head_name] = _Head()
                head.ready = {name: box for name, box in self._boxes.items() if box.head == head_name and box.items}
        while True:
            with self.lock:
                found = self._take_any(head)
                if found:
                    return found
                waiter: Waiter = loop.create_future()
                head.waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                with self.lock:
                    self._withdraw(head.waiters, waiter, bool(head.ready))
                raise

    def waiting(self) -> int:
        """How many receivers wait now."""
        with self.lock:
            return sum(1 for waiter in self._waiters() if not waiter.done())

    def unread(self) -> int:
        """How many messages are held for receivers."""
        with self.lock:
            return sum(len(box.items) for box in self._boxes.values())

    # -- inner workings, called with the lock held

    def _waiters(self) -> Iterator[Waiter]:
        for box in self._boxes.values():
            yield from box.waiters
        for head in self._heads.values():
            yield from head.waiters

    def _open(self, channel: str) -> _Box:
        address = address_of(channel) or Address(channel, None, "")
        box = _Box(channel, address.head, self._capacity_of(channel), self._clock(), self._counters.of(channel))
        self._boxes[channel] = box
        return box

    def _close(self, box: _Box) -> None:
        del self._boxes[box.name]
        head = self._heads.get(box.head)
        if head:
            head.ready.pop(box.name, None)

    def _wake_again(self) -> None:
        """What lay first at the last sweep too goes to the next receivers: the loop of those before stands still."""
        for box in self._boxes.values():
            first = box.items[0] if box.items else None
            if first is not None and first is box.first and not (box.waiters and wake_one(box.waiters)):
                self._offer(box)
            box.first = first

    def _put(self, box: _Box, item: Item) -> None:
        box.items.append(item)
        if box.waiters and wake_one(box.waiters):
            return
        self._offer(box)

    def _offer(self, box: _Box) -> None:
        """Nobody waits for the full name: a receiver of the prefix may have it."""
        head = self._heads.get(box.head) if self._heads else None
        if head:
            head.ready[box.name] = box
            wake_one(head.waiters)

    def _take(self, box: _Box, now: float) -> Item | None:
        while box.items:
            item = box.items.popleft()
            if item.token is not None:
                self._consumed(box.name, item.token)
            if item.deadline > now:
                box.tally.received += 1
                return item
            box.tally.expired += 1
        return None

    def _take_any(self, head: _Head) -> tuple[str, bytes] | None:
        while head.ready:
            name, box = next(iter(head.ready.items()))
            del head.ready[name]
            box.last_receive = now = self._clock()
            item = self._take(box, now)
            if box.items:
                head.ready[name] = box  # at the end: channels take turns
                wake_one(head.waiters)
            if item:
                return name, item.body
        return None

    def _withdraw(self, waiters: deque[Waiter], waiter: Waiter, unread: bool) -> bool:
        """A receiver was cancelled: if it had been woken already, its wake-up belongs to the next one, if any."""
        try:
            waiters.remove(waiter)
        except ValueError:
            return unread and wake_one(waiters)
        return bool(waiters)

    def _drop_expired(self, box: _Box, now: float) -> bool:
        dropped = False
        while box.items and box.items[0].deadline <= now:
            self._let_go(box, box.items.popleft())
            box.tally.expired += 1
            dropped = True
        return dropped

    def _let_go(self, box: _Box, item: Item) -> None:
        if item.token is not None:
            self._consumed(box.name, item.token)

    def _leave(self, group: str, channel: str) -> None:
        members = self._groups.get(group)
        if members is None:
            return
        members.pop(channel, None)
        if not members:
            del self._groups[group]
        box = self._boxes.get(channel)
        if box:
            box.groups.discard(group)
