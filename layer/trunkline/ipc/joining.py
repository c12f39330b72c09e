"""Joining and leaving groups: cheap where the process is in already, one transaction where it is not.

Only the process itself takes itself out of a group in the store, and only while its inbox is empty: what another
process did there for one of its channels comes in with the inbox, and is never undone unseen.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from trunkline.ipc import groups, presence
from trunkline.ipc.bells import Bells
from trunkline.ipc.boxes import Box, Boxes
from trunkline.ipc.environment import Environment
from trunkline.ipc.inbox import Inbox
from trunkline.ipc.memberships import Memberships
from trunkline.ipc.receiving import now_ns
from trunkline.ipc.sending import Sending

TOLD_AT_ONCE = 1_000  # groups in one transaction: about a millisecond, so that others come in between


class Joining(ABC):
    """The part of a participant that joins and leaves; what is private is called with its lock held."""

    owner: bytes
    sending: Sending
    environment: Environment
    _mark: str  # stands in the names of its own channels, and in no others
    _lock: threading.RLock
    _boxes: Boxes
    _by_name: Mapping[str, Box]  # those of ``_boxes``
    _memberships: Memberships
    _inbox: Inbox
    _bells: Bells | None
    _posted: bool  # whether the inbox may hold something that was rung for and has not been collected
    _generation: int  # of the store in which the process is registered
    _write: Callable[..., Any]

    @abstractmethod
    def register(self) -> None:
        """Make sure that others know this process, and can see whether it lives."""

    @abstractmethod
    def _collect(self) -> None:
        """Take the inbox' group messages and give them to the members in this process."""

    @abstractmethod
    def _catch_up(self) -> None:
        """Collect if anything was posted before now."""

    @abstractmethod
    def _pass_all_on(self) -> None:
        """Wake others in place of receivers that were rung for and are no longer there."""

    def join_known(self, group: str, channel: str, lifetime: int) -> bool:
        """``group_add`` where nothing has to be told or taken in first; returns whether that was so.

        What is open or known has a legal name.
        """
        self._lock.acquire()  # ``with`` takes twice as long
        try:
            box, bells = self._by_name.get(channel), self._bells
            if box is None or bells is None or self._posted or bells.poll(0):
                return False
            if self._generation != self.environment.generation:
                return False
            return self._memberships.join_known(group, box, now_ns(), lifetime)
        finally:
            self._lock.release()

    def leave_known(self, group: str, channel: str) -> bool:
        """The same for ``group_discard``."""
        self._lock.acquire()
        try:
            box, bells = self._by_name.get(channel), self._bells
            if box is None or bells is None or self._posted or bells.poll(0):
                return False
            return self._memberships.leave_others(group, box)
        finally:
            self._lock.release()

    def group_add(self, group: str, channel: str, lifetime: int) -> None:
        """Make ``channel`` a member for ``lifetime`` nanoseconds: it hears what is sent from now on.

        :raises LayerUnavailable: if the store can't be used, or has no room.
        """
        if self._mark not in channel:
            self.sending.add_elsewhere(group, channel, lifetime)
            return
        with self._lock:
            if self._bells is None or self._generation != self.environment.generation:
                self.register()
            self._catch_up()
            now, spare = now_ns(), lifetime // groups.REFRESHED
            known = self._memberships.known(group, now)
            if not known:
                while not self._write(self._enter, group, now + lifetime + spare):
                    self._collect()
            self._memberships.join(group, self._boxes.open(channel, now), now + lifetime)
            if not known:
                self._memberships.told(group, now + spare)

    def group_discard(self, group: str, channel: str) -> None:
        """End a membership; what was sent to the group before is still received.

        :raises LayerUnavailable: if the store can't be used.
        """
        if self._mark not in channel:
            self.sending.discard_elsewhere(group, channel)
            return
        with self._lock:
            self._catch_up()
            box = self._by_name.get(channel)
            if box is not None:
                self._memberships.leave(group, box)
            self._settle()

    def _settle(self) -> None:
        """Tell the store of the groups that it has lost, and of those that this process has left."""
        if self._bells is None:
            return
        missing, vacant = self._memberships.missing, self._memberships.vacant
        while missing:
            lost = dict(islice(missing.items(), TOLD_AT_ONCE))
            self._write(groups.enter_each, self.owner, lost)
            for group in lost:
                missing.pop(group, None)
        while vacant:
            left = list(islice(vacant, TOLD_AT_ONCE))
            if self._write(self._leave, left):
                for group in left:
                    vacant.pop(group, None)
            else:
                self._inbox.collect(now_ns)  # somebody may have joined
                self._pass_all_on()

    def _enter(self, txn: Any, group: str, end: int) -> bool:
        """Returns whether it is done; else the inbox has to be emptied first, which may hold a flush."""
        if presence.unposted(txn, self.owner):
            return False
        groups.enter(txn, group, self.owner, end)
        return True

    def _leave(self, txn: Any, left: list[str]) -> bool:
        """As ``_enter``; the inbox may hold joins of others."""
        if presence.unposted(txn, self.owner):
            return False
        for group in left:
            groups.leave(txn, group, self.owner)
        return True
