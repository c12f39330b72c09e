"""A process' inbox: group messages come in once per process and go out to its own members."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from trunkline.codec import GROUP, Shared
from trunkline.ipc import presence, queues
from trunkline.ipc.ahead import Ahead
from trunkline.ipc.environment import Environment
from trunkline.ipc.fanout import FanOut, Unread
from trunkline.ipc.keys import NEVER, head_of, place_of
from trunkline.ipc.memberships import Memberships
from trunkline.ipc.waiting import Waiting
from trunkline.stats import Counters

COLLECT_MESSAGES = 500  # taken out of the inbox in one transaction
COLLECT_BYTES = 4 * 1024 * 1024


class Inbox:
    """Collects, and gives to members. Not thread-safe: used while holding the participant's lock.

    :param owner: the process.
    :param capacity_of: how many unread messages a channel may hold.
    :param waiting: who is woken.
    :param opened: the body of what is stored for a kind and name, or ``None`` where it can't be read.
    :param memberships: who they go to.
    :param fanout: where the members' messages go.
    :param ahead: what is known of the members' direct messages.
    :param hear: takes who was rung for out of ``waiting``. A doorbell is rung before the message is there: so whoever
        still waits then has no direct message from before the group messages that are collected. Returns the doorbells
        that were listened to.
    :param forget: drops memberships, and what this process has read and nobody received (``flush``).
    """

    def __init__(
        self,
        owner: bytes,
        environment: Environment,
        capacity_of: Callable[[str], int],
        waiting: Waiting,
        memberships: Memberships,
        fanout: FanOut,
        ahead: Ahead,
        counters: Counters,
        opened: Callable[[int, str, bytes], bytes | None],
        hear: Callable[[], Collection[bytes]],
        forget: Callable[[], object],
    ) -> None:
        self._owner = owner
        self._environment = environment
        self._capacity_of = capacity_of
        self._waiting = waiting
        self._memberships = memberships
        self._ahead = ahead
        self._fanout = fanout
        self._counters = counters
        self._opened = opened
        self._hear = hear
        self._forget = forget

    def collect(self, clock: Callable[[], int]) -> None:
        """Empty the inbox, in steps that let other processes in between.

        :raises LayerUnavailable: if the store can't be used; what was not collected stays.
        """
        more = True
        while more:
            now = clock()
            items, more, unread = self._environment.write(self._take, now)
            for item in items:
                if item.deadline == NEVER:
                    self._apply(item)
                elif item.deadline <= now:
                    self._counters.other.expired += 1
                elif (body := self._opened(GROUP, item.group, item.body)) is not None:
                    self._give(item.group, item.deadline, Shared(body), unread, now)

    def _take(self, txn: Any, now: int) -> tuple[list[presence.GroupItem], bool, dict[str, int]]:
        """Items, whether there are more, and how many direct messages wait for members that don't."""
        items, more = presence.collect(txn, self._owner, COLLECT_MESSAGES, COLLECT_BYTES)
        if not items:
            return items, more, {}
        rung = self._hear()
        waiting, ahead = self._waiting, self._ahead
        unread: dict[str, int] = {}
        for channels in self._concerned(items, now):
            for channel in channels:
                if channel not in waiting and channel not in unread and not ahead.surely_empty(channel, rung):
                    unread[channel] = queues.unread_of(txn, place_of(channel))
        if not any(unread.values()):
            unread.clear()
        return items, more, unread

    def _concerned(self, items: list[presence.GroupItem], now: int) -> Iterator[Iterable[str]]:
        """The channels that the items may go to."""
        for group in {item.group for item in items if item.deadline != NEVER}:
            yield self._memberships.members(group, now)
        yield [presence.joined(item)[0] for item in items if item.body[:1] == presence.JOIN and item.deadline == NEVER]

    def _apply(self, item: presence.GroupItem) -> None:
        """Do what another process said."""
        operation = item.body[:1]
        if operation == presence.JOIN:
            self._memberships.join(item.group, *presence.joined(item))
        elif operation == presence.LEAVE:
            self._memberships.leave(item.group, item.body[1:].decode("ascii"))
        else:
            self._forget()

    def _give(self, group: str, deadline: int, body: Shared, unread: dict[str, int], now: int) -> None:
        waiting, fanout = self._waiting, self._fanout
        usual = Unread(deadline, body, False)
        running, begun = asyncio._get_running_loop(), waiting.clock()
        due: list[str] = []
        for channel in self._memberships.members(group, now):
            direct = unread.get(channel) if unread else None
            if direct:
                taken = fanout.put(channel, usual._replace(after_direct=True), now, self._capacity_of(channel) - direct)
            else:
                taken = fanout.put_first(channel, usual) or fanout.put(channel, usual, now, self._capacity_of(channel))
            if taken and not waiting.due(channel, running, due):
                waiting.wake(head_of(channel), running)
        waiting.wake_in_slices(due, running, begun)
