"""What a channel layer has to do, as plain data: which messages each channel holds and who is in which group.

Where the contract leaves it open whether a message arrives (a group's message at a member whose direct and group
messages together reach its capacity), the message is optional: it may come, in its order, or be missing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

Path = tuple[str, str]  # who sent it, and the group or an empty text for direct messages


@dataclass(frozen=True)
class Sent:
    """One message that was sent to one channel."""

    number: int
    optional: bool = False


@dataclass
class Channel:
    """What was sent to a channel and not received yet, in order for each path.

    :ivar ordered: whether the order of a path can be relied on.
    :ivar disturbed: a receive was cancelled when there were messages, so that some may be on their way back.
    """

    ordered: bool
    unread: dict[Path, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    disturbed: bool = False

    def count(self, *, direct: bool = False, certain: bool = False) -> int:
        """How many messages it holds; only the direct ones, only those that must come."""
        return sum(
            not (certain and sent.optional)
            for (_, group), messages in self.unread.items()
            if not (direct and group)
            for sent in messages
        )

    def put(self, path: Path, number: int, *, optional: bool = False) -> None:
        self.unread[path].append(Sent(number, optional))

    def doubt_groups(self) -> None:
        """The groups' messages may come or not."""
        for (_, group), messages in self.unread.items():
            if group:
                messages[:] = [Sent(sent.number, True) for sent in messages]

    def take(self, path: Path, number: int) -> None:
        """A message was received.

        :raises AssertionError: if it was not to come, or not before others of its path.
        """
        waiting = self.unread[path]
        numbers = [sent.number for sent in waiting]
        assert number in numbers, f"message {number} of {path} was not to come: {dict(self.unread)}"
        place = numbers.index(number)
        passed = [sent for sent in waiting[:place] if not sent.optional]
        assert not (self.ordered and passed), f"message {number} of {path} came before {passed}"
        # An optional message that was passed by is lost; it would break the order.
        self.unread[path] = waiting[place + 1 :] if self.ordered else waiting[:place] + waiting[place + 1 :]
        if not self.count():
            self.disturbed = False


class Model:
    """All channels and groups of one prefix."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.channels: dict[str, Channel] = {}
        self.groups: dict[str, set[str]] = defaultdict(set)
        self._numbers = 0

    def next(self) -> int:
        self._numbers += 1
        return self._numbers

    def send(self, channel: str, sender: str, number: int) -> None:
        """A direct send was accepted; a group's message that is still on its way may now find the channel full."""
        held = self.channels[channel]
        held.put((sender, ""), number)
        if held.count() > self.capacity:
            held.doubt_groups()

    def must_refuse(self, channel: str) -> bool:
        """Whether a direct send has to be refused now."""
        held = self.channels[channel]
        return held.count(direct=True, certain=True) >= self.capacity and not held.disturbed

    def may_refuse(self, channel: str) -> bool:
        """Whether a direct send may be refused now."""
        return self.channels[channel].count() >= self.capacity

    def group_send(self, group: str, sender: str, number: int) -> None:
        """A group send returned; a full member misses the message."""
        for name in self.groups[group]:
            held = self.channels[name]
            held.put((sender, group), number, optional=held.count() >= self.capacity)

    def flush(self) -> None:
        self.groups.clear()
        for held in self.channels.values():
            held.unread.clear()
            held.disturbed = False
