"""What a mailbox keeps for each channel, for each part of a name up to its ``!``, and for each group."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from trunkline.codec import Shared
from trunkline.mailbox.waiting import Waiter
from trunkline.stats import Tally

# What ``receive`` makes a message of: a direct message's encoded body, or what all members of a group share.
Body = bytes | Shared

# An unread message: its deadline in the mailbox' clock (seconds), its body, and its token: what the transport gave to
# ``deliver``; ``None`` for group messages.
Item = tuple[float, Body, object]


Member = TypeVar("Member")


class Box:
    """One channel: its unread messages and who waits for them.

    There may be ten thousands of them, most of them empty: ``items`` is made with the first message.

    :ivar groups: how many groups the channel is in.
    :ivar woken: who was woken last and has not asked for a message yet.
    :ivar due: what will wake a receiver for a group message; of no meaning if its event loop has ended.
    """

    __slots__ = ("capacity", "due", "groups", "head", "items", "last_receive", "name", "tally", "waiters", "woken")

    def __init__(self, name: str, capacity: int, now: float, tally: Tally) -> None:
        self.name = name
        self.head = name[: name.find("!") + 1]
        self.capacity = capacity
        self.tally = tally
        self.items: deque[Item] | None = None
        self.waiters: list[Waiter] = []
        self.woken: Waiter | None = None
        self.groups = 0
        self.due: object = None
        self.last_receive = now

    def awaited(self) -> bool:
        """Whether somebody waits, or was woken and has not come to run yet."""
        return bool(self.waiters) or (self.woken is not None and not self.woken.get_loop().is_closed())


class Head:
    """Receivers of ``receive("prefix!")`` and the channels that hold something for them."""

    __slots__ = ("ready", "waiters")

    def __init__(self) -> None:
        self.ready: dict[str, Box] = {}
        self.waiters: deque[Waiter] = deque()


class Group(Generic[Member]):
    """The members of a group in this process. Times are in the clock of whoever keeps it.

    :ivar ends: when each membership ends.
    :ivar soonest: no membership ends before.
    """

    __slots__ = ("ends", "soonest")

    def __init__(self) -> None:
        self.ends: dict[Member, float] = {}
        self.soonest = float("inf")
