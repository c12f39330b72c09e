"""Which channels of this process are in which groups, as its memory has it; no I/O.

The store holds only that the process has members in a group; what it must be told is noted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from trunkline.ipc.boxes import Box
from trunkline.mailbox import Group


class Members(Group[Box]):
    """A group's members in this process.

    :ivar told: until when the store need not be told again that this process is in the group.
    """

    __slots__ = ("told",)

    def __init__(self) -> None:
        super().__init__()
        self.told = 0


class Memberships:
    """The members that one process has in groups. Not thread-safe; times are nanoseconds of the store's clock.

    :ivar vacant: groups without a member here that the store may have this process in.
    :ivar missing: groups with members here that the store has lost, and when the last of these memberships ends.
    """

    def __init__(self) -> None:
        self._groups: dict[str, Members] = {}
        self.vacant: dict[str, None] = {}
        self.missing: dict[str, int] = {}

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    def known(self, group: str, now: int) -> bool:
        """Whether the store has this process in the group, for long enough."""
        members = self._groups.get(group)
        return members is not None and members.told > now

    def told(self, group: str, until: int) -> None:
        """The store has this process in a group with members, and need not be told again before ``until``."""
        self._groups[group].told = until

    def join(self, group: str, box: Box, end: int) -> None:
        """Make a channel a member until ``end``; joining again moves the end."""
        members = self._groups.get(group)
        if members is None:
            members = self._groups[group] = Members()
            self.vacant.pop(group, None)
        members.join(box, end)

    def join_known(self, group: str, box: Box, now: int, lifetime: int) -> bool:
        """``join`` where the store has this process in the group, for long enough; returns whether that was so."""
        members = self._groups.get(group)
        if members is None or members.told <= now:
            return False
        members.join(box, now + lifetime)
        return True

    def leave_others(self, group: str, box: Box) -> bool:
        """``leave`` where others remain in the group; returns whether that was so."""
        members = self._groups.get(group)
        if members is None or len(members) == 1:
            return False
        members.leave(box)
        return True

    def leave(self, group: str, box: Box) -> None:
        """End a membership."""
        members = self._groups.get(group)
        if members is not None:
            members.leave(box)
            if not members:
                self._vacate(group)

    def leave_all(self, boxes: Set[Box]) -> None:
        """End every membership of these channels."""
        for group, members in list(self._groups.items()):
            for box in members.keys() & boxes:
                self.leave(group, box)

    def members(self, group: str, now: int) -> Iterable[Box]:
        """The members of a group; memberships whose time has come end."""
        members = self._groups.get(group)
        if members is None:
            self.vacant[group] = None  # and yet there was a message to it
            return ()
        if members.soonest <= now:
            self._end(group, members, now)
        return members

    def end(self, now: int) -> None:
        """End all memberships whose time has come."""
        for group, members in list(self._groups.items()):
            if members.soonest <= now:
                self._end(group, members, now)

    def lost(self) -> None:
        """The store has lost what it knew of this process."""
        self.vacant.clear()
        self.missing.clear()
        for group, members in self._groups.items():
            members.told = 0
            self.missing[group] = int(max(members.values()))

    def clear(self) -> None:
        """Forget everything (``flush``), but for what the channels themselves count."""
        self._groups.clear()
        self.vacant.clear()
        self.missing.clear()

    def _end(self, group: str, members: Members, now: int) -> None:
        members.end(now)
        if not members:
            self._vacate(group)

    def _vacate(self, group: str) -> None:
        del self._groups[group]
        self.missing.pop(group, None)
        self.vacant[group] = None
