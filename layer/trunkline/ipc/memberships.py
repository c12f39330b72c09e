"""Which channels of this process are in which groups, as its memory has it; no I/O.

The store holds only that the process has members in a group; what it must be told is noted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from trunkline.mailbox import Group


class Memberships:
    """The members that one process has in groups. Not thread-safe; times are nanoseconds of the store's clock.

    :ivar vacant: groups without a member here that the store may have this process in.
    :ivar missing: groups with members here that the store has lost, and when the last of these memberships ends.
    """

    def __init__(self) -> None:
        self._groups: dict[str, Group[str]] = {}
        self._told: dict[str, int] = {}  # group -> until when the store need not be told of it again
        self.vacant: dict[str, None] = {}
        self.missing: dict[str, int] = {}

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    def known(self, group: str, now: int) -> bool:
        """Whether the store has this process in the group, for long enough."""
        return self._told.get(group, 0) > now

    def told(self, group: str, until: int) -> None:
        """The store has this process in the group now, and need not be told again before ``until``."""
        self._told[group] = until

    def join(self, group: str, channel: str, end: int) -> None:
        """Make ``channel`` a member until ``end``; joining again moves the end."""
        members = self._groups.get(group)
        if members is None:
            members = self._groups[group] = Group()
            self.vacant.pop(group, None)
        members.ends[channel] = end
        if end < members.soonest:
            members.soonest = end

    def join_known(self, group: str, channel: str, now: int, lifetime: int) -> bool:
        """``join`` where the store has this process in the group, for long enough; returns whether that was so."""
        if self._told.get(group, 0) <= now or (members := self._groups.get(group)) is None:
            return False
        members.ends[channel] = end = now + lifetime
        if end < members.soonest:
            members.soonest = end
        return True

    def leave_others(self, group: str, channel: str) -> bool:
        """``leave`` where others remain in the group; returns whether that was so."""
        members = self._groups.get(group)
        if members is None or len(members.ends) == 1:
            return False
        members.ends.pop(channel, None)
        return True

    def leave(self, group: str, channel: str) -> None:
        """End a membership."""
        members = self._groups.get(group)
        if members is not None and members.ends.pop(channel, None) is not None and not members.ends:
            self._vacate(group)

    def leave_all(self, channels: Set[str]) -> None:
        """End every membership of these channels."""
        for group, members in list(self._groups.items()):
            for channel in members.ends.keys() & channels:
                self.leave(group, channel)

    def members(self, group: str, now: int) -> Iterable[str]:
        """The members of a group; memberships whose time has come end."""
        members = self._groups.get(group)
        if members is None:
            self.vacant[group] = None  # and yet there was a message to it
            return ()
        if members.soonest <= now:
            self._end(group, members, now)
        return members.ends

    def end(self, now: int) -> None:
        """End all memberships whose time has come."""
        for group, members in list(self._groups.items()):
            if members.soonest <= now:
                self._end(group, members, now)

    def lost(self) -> None:
        """The store has lost what it knew of this process."""
        self._told.clear()
        self.vacant.clear()
        self.missing = {group: int(max(members.ends.values())) for group, members in self._groups.items()}

    def clear(self) -> None:
        """Forget everything (``flush``)."""
        self._groups.clear()
        self._told.clear()
        self.vacant.clear()
        self.missing.clear()

    def _end(self, group: str, members: Group[str], now: int) -> None:
        for channel in [channel for channel, end in members.ends.items() if end <= now]:
            del members.ends[channel]
        if members.ends:
            members.soonest = min(members.ends.values())
        else:
            self._vacate(group)

    def _vacate(self, group: str) -> None:
        del self._groups[group]
        self._told.pop(group, None)
        self.missing.pop(group, None)
        self.vacant[group] = None
