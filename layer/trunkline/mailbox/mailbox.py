"""Messages in, messages out, and memberships; see ``Mailbox``.

A transport calls ``deliver`` and ``deliver_group`` with what it read; applications ask for messages with ``ask``. It
may be called from any thread and any event loop. Two rules carry the promises:

* A message leaves its buffer in the same uninterrupted step in which ``ask`` returns it. Waking a receiver moves
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

from trunkline.codec import Shared
from trunkline.mailbox.box import Body, Box, Group, Head, Item
from trunkline.mailbox.waiting import NextTurn, Slices, Turns, Waiter, fail_one, wake_one
from trunkline.stats import Counters

Consumed = Callable[[str, object, int], None]  # channel, token, the channel's capacity


class Mailbox:
    """The process' own channels of one layer object.

    :param capacity_of: how many unread messages a channel may hold; asked once, when the channel is opened.
    :param idle: seconds without a receive after which an unused channel is forgotten, and one with an expired message
        leaves its groups (the layer's ``expiry``; the Channels specification allows it, and nobody ever says that a
        consumer has ended).
    :param clock: monotonic seconds.
    :param consumed: called, with the lock held, once for each delivered message with a token that left its buffer.
    :ivar knows: whether a channel is open: it was received from, is a member or has a message.
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
        self._boxes: dict[str, Box] = {}
        self.knows: Callable[[str], bool] = self._boxes.__contains__
        self._heads: dict[str, Head] = {}
        self._groups: dict[str, Group[Box]] = {}
        self._firsts: dict[Box, Item] = {}  # what lay first at the last sweep
        self._turns = Turns(clock)
        self._slices: Slices[Box] | None = None
        self.lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<Mailbox {len(self._boxes)} channels, {len(self._groups)} groups, {self.unread()} unread>"

    # -- what the transport says

    def deliver(
        self,
        channel: str,
        deadline: float,
        body: bytes,
        token: object,
        running: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take in a direct message, for a caller that holds the lock. The sender's side has checked the capacity.

        :param deadline: when it expires, in the mailbox' clock (seconds).
        :param token: what ``consumed`` is told when the message has left; not ``None``.
        :param running: the event loop that runs in this thread, where the caller knows it.
        """
        box = self._boxes.get(channel) or self._open(channel)
        if box.items is None:
            box.items = deque()
        box.items.append((deadline, body, token))
        if not box.wake(running):
            self._offer(box)

    def deliver_group(
        self, group: str, deadline: float, body: bytes, running: asyncio.AbstractEventLoop | None = None
    ) -> int:
        """Take in a group message for every member in this process, for a caller that holds the lock.

        :return: for how many members there was no room.
        :param deadline: as in ``deliver``; so is ``running``.
        """
        members = self._groups.get(group)
        if members is None:
            return 0
        now = self._clock()
        if deadline <= now:
            self._counters.other.expired += 1
            return 0
        if members.soonest <= now:
            self._end_memberships(group, members, now)
        item: Item = (deadline, Shared(body), None)
        dropped = 0
        running = running or asyncio._get_running_loop()
        heads = self._heads
        slices = self._slices
        if slices is None or slices.loop is not running:
            slices = None if running is None else Slices(running, self._wake_due, self._clock)
        due: list[Box] = []
        for box in members:
            items = box.items
            if items is None:
                box.items = deque((item,))
            elif len(items) < box.capacity or self._make_room(box, now):
                items.append(item)
            else:
                box.tally.dropped += 1
                dropped += 1
                continue
            if box.waiters:
                # A receiver of the prefix must not come before one of the full name that is due.
                if slices is not None and box.waiters[0].get_loop() is running and not (heads and box.head in heads):
                    if box.due is not slices:
                        box.due = slices
                        due.append(box)
                    continue
                if box.wake(running):
                    continue
            if heads:
                self._offer(box)
        if slices is not None:
            slices.add(due, now)
            self._slices = slices if slices else None
        return dropped

    def after_turns(self, action: Callable[[], None]) -> None:
        """Do it in a next round of the running loop: where members are late with what they have, when they had it."""
        slices, running = self._slices, asyncio.get_running_loop()
        if slices is not None and slices.loop is running and slices.lag():
            slices.then(action)
        else:
            running.call_soon(action)

    def sweep(self) -> None:
        """Let go of what expired and of channels that nobody uses any more; call it about once a second."""
        with self.lock:
            now = self._clock()
            long_ago = now - self._idle
            gone: set[Box] = set()
            closing: list[Box] = []
            holding: list[Box] = []
            for box in list(self._boxes.values()):
                expired = False
                if box.items is not None:
                    expired = self._drop_expired(box, now)
                    if box.items:
                        holding.append(box)
                    else:
                        box.items = None
                if box.last_receive < long_ago and not box.awaited():
                    if expired and box.groups:
                        gone.add(box)
                    if not box.items and (expired or not box.groups):
                        closing.append(box)
            if gone:
                self._leave_all(gone)
            for box in closing:
                self._close(box)
            self._wake_again(holding)
            for group, members in list(self._groups.items()):
                if members.soonest <= now:
                    self._end_memberships(group, members, now)

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
                box.groups = 0
                if not box.waiters:
                    self._close(box)
            for head in self._heads.values():
                head.ready.clear()
            self._groups.clear()

    # -- memberships

    def join(self, group: str, channel: str, end: float) -> float | None:
        """Make ``channel`` a member, for a caller that holds the lock; joining again moves the end.

        :param end: when the membership ends (this mailbox' clock).
        :return: when the membership ended until now; ``None`` if there was none.
        """
        box = self._boxes.get(channel) or self._open(channel)
        members = self._groups.get(group) or self._groups.setdefault(group, Group())
        return members.join(box, end)

    def join_open(self, group: str, channel: str, end: float) -> bool:
        """As ``join``; returns whether the channel is open, else nothing is done."""
        box = self._boxes.get(channel)
        if box is None:
            return False
        members = self._groups.get(group) or self._groups.setdefault(group, Group())
        members.join(box, end)
        return True

    def take_back(self, group: str, channel: str, end: float, before: float | None) -> None:
        """Undo a ``join`` until ``end`` that returned ``before``, unless the membership was changed since."""
        with self.lock:
            members, box = self._groups.get(group), self._boxes.get(channel)
            if members is None or box is None or members.get(box) != end:
                return
            if before is None:
                self._leave(group, members, box)
            else:
                members[box] = before
                members.soonest = min(members.soonest, before)

    def leave(self, group: str, channel: str) -> bool:
        """End a membership, for a caller that holds the lock; returns whether the group has no member left in this
        process."""
        members, box = self._groups.get(group), self._boxes.get(channel)
        if members is None:
            return True
        return box is not None and self._leave(group, members, box)

    def leave_others(self, group: str, channel: str) -> bool:
        """As ``leave``; returns whether others are left in the group."""
        members, box = self._groups.get(group), self._boxes.get(channel)
        return members is not None and box is not None and not self._leave(group, members, box)

    def holds(self, group: str) -> bool:
        """Whether the group has a member in this process."""
        return group in self._groups

    def memberships(self) -> dict[str, float]:
        """Each group with members here, and when the last of these memberships ends (this mailbox' clock)."""
        with self.lock:
            return {group: max(members.values()) for group, members in self._groups.items()}

    # -- what the application asks for

    def open(self, channel: str) -> None:
        """Open a channel (a full name), so that it can be asked for messages; it may be open already."""
        with self.lock:
            if channel not in self._boxes:
                self._open(channel)

    def ask(self, channel: str, waited: bool) -> Body | Waiter | NextTurn | None:
        """The next message of ``channel`` (a full name); or what to await before asking again.

        Any number of receivers may ask. One whose waiting was cancelled says so with ``withdraw``.

        :param waited: whether this is asked again after waiting: one that was woken for nothing keeps its place.
        :return: the message; or an awaitable; or ``None`` if the channel is not open.
        """
        with self.lock:
            box = self._boxes.get(channel)
            if box is None:
                return None
            items = box.items
            if waited:
                box.woken = None
            if items:
                box.last_receive = now = self._clock()
                if not waited and now >= self._turns.ends:
                    return self._turns.over(now)
                deadline, body, token = items.popleft()
                if token is not None:
                    self._consumed(channel, token, box.capacity)
                if deadline > now:
                    box.tally.received += 1
                    return body
                box.tally.expired += 1
                item = self._take(box, now)
                if item is not None:
                    return item[1]
            return box.wait(asyncio.get_running_loop(), waited)

    def withdraw(self, channel: str, awaited: Waiter | NextTurn) -> None:
        """A receiver was cancelled while it awaited what ``ask`` gave: others get what it was woken for."""
        with self.lock:
            box = self._boxes.get(channel)
            if box is None:
                return
            box.last_receive = self._clock()
            if awaited is box.woken:
                box.woken = None
            box.leave_row(awaited)
            if box.items and not box.wake(None):
                self._offer(box)

    async def receive_any(self, head_name: str) -> tuple[str, Body]:
        """Wait for a message of any channel that begins with ``head_name``; a receiver of the full name goes first."""
        loop = asyncio.get_running_loop()
        with self.lock:
            head = self._heads.get(head_name)
            if head is None:
                head = self._heads[head_name] = Head()
                head.ready = {name: box for name, box in self._boxes.items() if box.head == head_name and box.items}
        waited = False
        while True:
            awaited: Waiter | NextTurn
            with self.lock:
                now = self._clock()
                if head.ready and now >= self._turns.ends and not waited:
                    awaited = self._turns.over(now)
                else:
                    found = self._take_any(head, now)
                    if found:
                        return found
                    awaited = loop.create_future()
                    head.waiters.append(awaited)
            try:
                await awaited
            except BaseException:
                with self.lock:
                    if not isinstance(awaited, NextTurn) and awaited in head.waiters:
                        head.waiters.remove(awaited)
                    elif head.ready:
                        wake_one(head.waiters)
                raise
            waited = True

    def waiting(self) -> int:
        """How many receivers wait now."""
        with self.lock:
            return sum(1 for waiter in self._waiters() if not waiter.done())

    def unread(self) -> int:
        """How many messages are held for receivers."""
        with self.lock:
            return sum(len(box.items) for box in self._boxes.values() if box.items)

    # -- inner workings, called with the lock held

    def _waiters(self) -> Iterator[Waiter]:
        for box in self._boxes.values():
            yield from box.waiters or ()
        for head in self._heads.values():
            yield from head.waiters

    def _open(self, channel: str) -> Box:
        box = self._boxes[channel] = Box(channel, self._capacity_of(channel), self._clock(), self._counters.of(channel))
        return box

    def _close(self, box: Box) -> None:
        del self._boxes[box.name]
        head = self._heads.get(box.head)
        if head:
            head.ready.pop(box.name, None)

    def _wake_due(self, boxes: list[Box]) -> None:
        """The turn of members that a group message reached. Until then they wait, for a sweep as for receivers."""
        with self.lock:
            running = asyncio._get_running_loop()
            for box in boxes:
                box.due = None
                if box.items and not box.wake(running):
                    self._offer(box)
            if self._slices is not None and self._slices.loop is running and not self._slices:
                self._slices = None

    def _wake_again(self, holding: list[Box]) -> None:
        """What lay first at the last sweep too goes to the next receivers: the loop of those before stands still."""
        before, self._firsts = self._firsts, {box: box.items[0] for box in holding if box.items}
        for box, first in self._firsts.items():
            if before.get(box) is first and not box.wake(None):
                self._offer(box)

    def _offer(self, box: Box) -> None:
        """Nobody waits for the full name: a receiver of the prefix may have it."""
        head = self._heads.get(box.head) if self._heads else None
        if head:
            head.ready[box.name] = box
            wake_one(head.waiters)

    def _take(self, box: Box, now: float) -> Item | None:
        while box.items:
            item = box.items.popleft()
            if item[2] is not None:
                self._consumed(box.name, item[2], box.capacity)
            if item[0] > now:
                box.tally.received += 1
                return item
            box.tally.expired += 1
        return None

    def _take_any(self, head: Head, now: float) -> tuple[str, Body] | None:
        while head.ready:
            name, box = next(iter(head.ready.items()))
            del head.ready[name]
            box.last_receive = now
            item = self._take(box, now)
            if box.items:
                head.ready[name] = box  # at the end: channels take turns
                wake_one(head.waiters)
            if item:
                return name, item[1]
        return None

    def _make_room(self, box: Box, now: float) -> bool:
        self._drop_expired(box, now)
        return box.items is not None and len(box.items) < box.capacity

    def _drop_expired(self, box: Box, now: float) -> bool:
        dropped = False
        while box.items and box.items[0][0] <= now:
            self._let_go(box, box.items.popleft())
            box.tally.expired += 1
            dropped = True
        return dropped

    def _let_go(self, box: Box, item: Item) -> None:
        if item[2] is not None:
            self._consumed(box.name, item[2], box.capacity)

    def _leave(self, group: str, members: Group[Box], box: Box) -> bool:
        """Returns whether nobody is left."""
        members.leave(box)
        if members:
            return False
        del self._groups[group]
        return True

    def _leave_all(self, gone: set[Box]) -> None:
        for group, members in list(self._groups.items()):
            for box in members.keys() & gone:
                self._leave(group, members, box)

    def _end_memberships(self, group: str, members: Group[Box], now: float) -> None:
        """End those whose time has come."""
        members.end(now)
        if not members:
            del self._groups[group]
