"""A process' inbox: group messages come in once per process and go out to its own members."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from trunkline.codec import GROUP, Shared
from trunkline.ipc import groups, presence, queues
from trunkline.ipc.environment import Environment
from trunkline.ipc.fanout import FanOut, Unread
from trunkline.ipc.keys import head_of, place_of
from trunkline.ipc.waiting import Waiting
from trunkline.mailbox import Waiter
from trunkline.stats import Counters

COLLECT_MESSAGES = 500  # taken out of the inbox in one transaction
COLLECT_BYTES = 4 * 1024 * 1024


class Inbox:
    """Collects, and gives to members. Not thread-safe: used while holding the participant's lock.

    :param owner: the process.
    :param capacity_of: how many unread messages a channel may hold.
    :param waiting: who is woken.
    :param opened: the body of what is stored for a kind and name, or ``None`` where it can't be read.
    :param fanout: where the members' messages go.
    :param hear: takes who was rung for out of ``waiting``. A doorbell is rung before the message is there: so whoever
        still waits then has no direct message from before the group messages that are collected.
    :param forget: drops what this process has read and nobody received (``flush``).
    """

    def __init__(
        self,
        owner: bytes,
        environment: Environment,
        capacity_of: Callable[[str], int],
        waiting: Waiting,
        fanout: FanOut,
        counters: Counters,
        opened: Callable[[int, str, bytes], bytes | None],
        hear: Callable[[], object],
        forget: Callable[[], object],
    ) -> None:
        self._owner = owner
        self._environment = environment
        self._capacity_of = capacity_of
        self._waiting = waiting
        self._fanout = fanout
        self._counters = counters
        self._opened = opened
        self._hear = hear
        self._forget = forget
        self._members: dict[str, tuple[bytes, list[groups.Member]]] = {}  # group -> as of this version

    def collect(self, clock: Callable[[], int]) -> None:
        """Empty the inbox, in steps that let other processes in between.

        :raises LayerUnavailable: if the store can't be used; what was not collected stays.
        """
        more = True
        while more:
            now = clock()
            items, more, members, unread = self._environment.write(self._take, now)
            for item in items:
                if item.group == presence.FLUSHED:
                    self._forget()
                elif item.deadline <= now:
                    self._counters.other.expired += 1
                elif (body := self._opened(GROUP, item.group, item.body)) is not None:
                    self._give(item._replace(body=body), members[item.group], unread, now)

    def _take(
        self, txn: Any, now: int
    ) -> tuple[list[presence.GroupItem], bool, dict[str, list[groups.Member]], dict[str, int]]:
        """Items, whether there are more, the members of their groups, and unread direct messages of who is busy."""
        items, more = presence.collect(txn, self._owner, COLLECT_MESSAGES, COLLECT_BYTES)
        if items:
            self._hear()
        members: dict[str, list[groups.Member]] = {}
        unread: dict[str, int] = {}
        for group in {item.group for item in items if item.group != presence.FLUSHED}:
            members[group] = self._members_of(txn, group, now)
            for member in members[group]:
                if member.channel not in self._waiting and member.channel not in unread:
                    unread[member.channel] = queues.unread_of(txn, place_of(member.channel))
        if not any(unread.values()):
            unread.clear()
        return items, more, members, unread

    def _members_of(self, txn: Any, group: str, now: int) -> list[groups.Member]:
        version = groups.version(txn, group, self._owner)
        if version is None:
            self._members.pop(group, None)
            return []
        known = self._members.get(group)
        if known is not None and known[0] == version:
            return known[1]
        members = groups.members(txn, group, self._owner, now)
        self._members[group] = (version, members)
        return members

    def _give(self, item: presence.GroupItem, members: list[groups.Member], unread: dict[str, int], now: int) -> None:
        number, waiting, fanout = item.number, self._waiting, self._fanout
        usual = Unread(item.deadline, Shared(item.body), False)
        running = asyncio._get_running_loop()
        due: list[Waiter] = []
        for channel, end, begin in members:
            if end <= now or number < begin:
                continue
            direct = unread.get(channel) if unread else None
            if direct:
                taken = fanout.put(channel, usual._replace(after_direct=True), now, self._capacity_of(channel) - direct)
            else:
                taken = fanout.put_first(channel, usual) or fanout.put(channel, usual, now, self._capacity_of(channel))
            if taken and not waiting.wake(channel, running, due):
                waiting.wake(head_of(channel), running)
        waiting.wake_in_slices(due)
