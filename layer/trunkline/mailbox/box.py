"""What a mailbox keeps for each channel, for each part of a name up to its ``!``, and for each group."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeVar

from trunkline.codec import Shared
from trunkline.mailbox.waiting import Waiter, wake
from trunkline.stats import Tally

# What ``receive`` makes a message of: a direct message's encoded body, or what all members of a group share.
Body = bytes | Shared

# An unread message: its deadline in the mailbox' clock (seconds), its body, and its token: what the transport gave to
# ``deliver``; ``None`` for group messages.
Item = tuple[float, Body, object]


Member = TypeVar("Member", bound="OwnChannel")

_NEVER = float("inf")


class OwnChannel:
    """One channel: who waits for its messages. What lies there is kept by the layers, each in a class of its own.

    There may be ten thousands of them, most of them empty.

    :ivar groups: how many groups the channel is in.
    :ivar waiters: receivers that wait, in the order of their turns; made with the first one.
    :ivar woken: who was woken last and has not asked for a message yet.
    :ivar due: what will wake a receiver for a group message; of no meaning if its event loop has ended.
    :ivar last_receive: in the clock of whoever keeps it.
    """

    __slots__ = ("capacity", "due", "groups", "head", "last_receive", "name", "tally", "waiters", "woken")

    def __init__(self, name: str, capacity: int, now: float, tally: Tally) -> None:
        self.name = name
        self.head = name[: name.find("!") + 1]
        self.capacity = capacity
        self.tally = tally
        self.waiters: list[Waiter] | None = None
        self.woken: Waiter | None = None
        self.groups = 0
        self.due: object = None
        self.last_receive = now

    def awaited(self) -> bool:
        """Whether somebody waits, or was woken and has not come to run yet."""
        return bool(self.waiters) or (self.woken is not None and not self.woken.get_loop().is_closed())

    def wait(self, loop: asyncio.AbstractEventLoop, waited: bool) -> Waiter:
        """A new receiver's place in the row.

        :param waited: whether it had a turn, in which another receiver was quicker; then it is the first.
        """
        waiter: Waiter = loop.create_future()
        if self.waiters is None:
            self.waiters = [waiter]
        elif waited:
            self.waiters.insert(0, waiter)
        else:
            self.waiters.append(waiter)
        return waiter

    def leave_row(self, waiter: object) -> bool:
        """A receiver gives up; returns whether it still waited."""
        waiters = self.waiters
        if waiters is None or waiter not in waiters:
            return False
        waiters.remove(waiter)
        return True

    def wake(self, running: asyncio.AbstractEventLoop | None) -> bool:
        """Wake the first receiver that still waits, if any; those of closed loops are forgotten.

        :param running: the event loop that runs in this thread, where the caller knows it.
        """
        waiters = self.waiters
        if waiters:
            running = running or asyncio._get_running_loop()
            while waiters:
                waiter = waiters.pop(0)
                if waiter.get_loop() is running and not waiter.done():  # as ``wake``, for what is usual
                    waiter.set_result(None)
                elif not wake(waiter, running):
                    continue
                self.woken = waiter
                return True
        return False


class Box(OwnChannel):
    """A channel of a mailbox, with its unread messages.

    :ivar items: made with the first message.
    """

    __slots__ = ("items",)

    def __init__(self, name: str, capacity: int, now: float, tally: Tally) -> None:
        super().__init__(name, capacity, now, tally)
        self.items: deque[Item] | None = None


class Head:
    """Receivers of ``receive("prefix!")`` and the channels that hold something for them."""

    __slots__ = ("ready", "waiters")

    def __init__(self) -> None:
        self.ready: dict[str, Box] = {}
        self.waiters: deque[Waiter] = deque()


class Group(dict[Member, float]):
    """The members of a group in this process, and when each membership ends, in the clock of whoever keeps it.

    :ivar soonest: no membership ends before.
    """

    __slots__ = ("soonest",)

    def __init__(self) -> None:
        self.soonest = _NEVER

    def join(self, member: Member, end: float) -> float | None:
        """Make a channel a member until ``end``; joining again moves the end.

        :return: when the membership ended until now; ``None`` if there was none.
        """
        before = self.get(member)
        if before is None:
            member.groups += 1
        self[member] = end
        if end < self.soonest:
            self.soonest = end
        return before

    def leave(self, member: Member) -> None:
        """End a membership, if there is one."""
        if self.pop(member, None) is not None:
            member.groups -= 1

    def end(self, now: float) -> None:
        """End the memberships whose time has come."""
        for member in [member for member, end in self.items() if end <= now]:
            self.leave(member)
        self.soonest = min(self.values(), default=_NEVER)
