"""A process' inbox: group messages come in once per process and go out to its own members."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from trunkline.codec import GROUP, Shared
from trunkline.ipc import presence, queues
from trunkline.ipc.boxes import Box, Boxes, Unread
from trunkline.ipc.environment import Environment
from trunkline.ipc.keys import NEVER
from trunkline.ipc.memberships import Memberships
from trunkline.stats import Counters

COLLECT_MESSAGES = 500  # taken out of the inbox in one transaction
COLLECT_BYTES = 4 * 1024 * 1024


class Inbox:
    """Collects, and gives to members. Not thread-safe: used while holding the participant's lock.

    :param owner: the process.
    :param boxes: its own channels.
    :param memberships: which of them the messages go to.
    :param opened: the body of what is stored for a kind and name, or ``None`` where it can't be read.
    :param hear: wakes who was rung for. A doorbell is rung before the message is there: so whoever still waits then has
        no direct message from before the group messages that are collected. Returns the doorbells listened to.
    :param forget: drops memberships, and what this process has read and nobody received (``flush``).
    """

    def __init__(
        self,
        owner: bytes,
        environment: Environment,
        boxes: Boxes,
        memberships: Memberships,
        counters: Counters,
        opened: Callable[[int, str, bytes], bytes | None],
        hear: Callable[[], Collection[bytes]],
        forget: Callable[[], object],
    ) -> None:
        self._owner = owner
        self._environment = environment
        self._boxes = boxes
        self._memberships = memberships
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
            items, more, direct = self._environment.write(self._take, now)
            group, unread = "", list[Unread]()  # a row of messages to one group
            for item in items:
                if item.deadline != NEVER and item.deadline <= now:
                    self._counters.other.expired += 1
                    continue
                if unread and (item.deadline == NEVER or item.group != group):
                    self._give(group, unread, direct, now)
                    unread = []
                if item.deadline == NEVER:
                    self._apply(item, now)
                elif (body := self._opened(GROUP, item.group, item.body)) is not None:
                    group = item.group
                    unread.append((item.deadline, Shared(body), False))
            if unread:
                self._give(group, unread, direct, now)

    def _give(self, group: str, unread: list[Unread], direct: dict[Box, int], now: int) -> None:
        self._boxes.deliver(self._memberships.members(group, now), unread, direct, now)

    def _take(self, txn: Any, now: int) -> tuple[list[presence.GroupItem], bool, dict[Box, int]]:
        """Items, whether there are more, and how many direct messages wait for members that don't."""
        items, more = presence.collect(txn, self._owner, COLLECT_MESSAGES, COLLECT_BYTES)
        if not items:
            return items, more, {}
        rung = self._hear()
        direct: dict[Box, int] = {}
        for boxes in self._concerned(items, now):
            for box in boxes:
                if not box.waiters and box.quiet not in rung and box not in direct:
                    direct[box] = queues.unread_of(txn, box.place)
        return items, more, {box: unread for box, unread in direct.items() if unread}

    def _concerned(self, items: list[presence.GroupItem], now: int) -> Iterator[Iterable[Box]]:
        """The channels that the items may go to."""
        for group in {item.group for item in items if item.deadline != NEVER}:
            yield self._memberships.members(group, now)
        for item in items:
            if item.deadline == NEVER and item.body[:1] == presence.JOIN:
                yield (self._boxes.open(presence.joined(item)[0], now),)

    def _apply(self, item: presence.GroupItem, now: int) -> None:
        """Do what another process said."""
        operation = item.body[:1]
        if operation == presence.JOIN:
            channel, end = presence.joined(item)
            self._memberships.join(item.group, self._boxes.open(channel, now), end)
        elif operation == presence.LEAVE:
            box = self._boxes.by_name.get(item.body[1:].decode("ascii"))
            if box is not None:
                self._memberships.leave(item.group, box)
        else:
            self._forget()
