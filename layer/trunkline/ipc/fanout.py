"""Group messages that a process has fanned out to its own channels and that nobody has received yet; no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from typing import NamedTuple

from trunkline.codec import Shared
from trunkline.ipc.keys import head_of
from trunkline.stats import Counters


class Unread(NamedTuple):
    """A group message for one channel.

    :ivar deadline: when it expires, in the store's clock (ns).
    :ivar body: the message, shared by all members; each receiver gets an object of its own.
    :ivar after_direct: whether the channel had unread direct messages when this one came.
    """

    deadline: int
    body: Shared
    after_direct: bool  # the channel had direct messages when this one came


class FanOut:
    """Unread group messages by channel. Not thread-safe.

    :param counters: ``expired`` and ``group_dropped`` are counted here.
    """

    def __init__(self, counters: Counters) -> None:
        self._boxes: dict[str, deque[Unread]] = {}
        self._ready: dict[str, dict[str, None]] = {}  # head that was asked for -> its channels with something, in turn
        self._counters = counters

    def __contains__(self, channel: object) -> bool:
        return channel in self._boxes

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._boxes))

    def __len__(self) -> int:
        return sum(len(box) for box in self._boxes.values())

    def put(self, channel: str, item: Unread, now: int, room: int) -> bool:
        """Append a message; returns whether there was room for it.

        :param room: how many messages the channel may hold here.
        """
        box = self._boxes.get(channel)
        if box is None:
            if room <= 0:
                self._counters.of(channel).dropped += 1
                return False
            return self.put_first(channel, item)
        if len(box) >= room:
            while box and box[0].deadline <= now:
                box.popleft()
                self._counters.of(channel).expired += 1
            if len(box) >= room:
                self._counters.of(channel).dropped += 1
                return False
        box.append(item)
        return True

    def put_first(self, channel: str, item: Unread) -> bool:
        """Take a message in where the channel has none here; returns whether that was so."""
        if channel in self._boxes:
            return False
        self._boxes[channel] = deque((item,))
        if self._ready and (ready := self._ready.get(head_of(channel))) is not None:
            ready[channel] = None
        return True

    def unread(self, channel: str) -> int:
        """How many messages the channel has here."""
        box = self._boxes.get(channel)
        return len(box) if box else 0

    def direct_before(self, channel: str) -> int | None:
        """What of the direct messages goes first: 0 nothing, ``None`` all, else those that expire up to then.

        With one ``expiry`` for all, that is those that were sent before.
        """
        box = self._boxes.get(channel)
        if not box:
            return None
        return box[0].deadline if box[0].after_direct else 0

    def take_at_once(self, channel: str, now: int) -> Shared | None:
        """The next message of the channel that has not expired, where direct messages can't go before it."""
        box = self._boxes.get(channel)
        if box is None or box[0].after_direct:
            return None
        if box[0].deadline <= now:
            return self.take(channel, now)
        body = box.popleft().body
        if not box:
            self._close(channel)
        return body

    def take(self, channel: str, now: int) -> Shared | None:
        """The next message of the channel that has not expired."""
        box = self._boxes.get(channel)
        if box is None:
            return None
        body = None
        while box and body is None:
            item = box.popleft()
            if item.deadline > now:
                body = item.body
            else:
                self._counters.of(channel).expired += 1
        if not box:
            self._close(channel)
        return body

    def take_any(self, head: str, waited: Container[str], now: int) -> tuple[str, Shared] | None:
        """The next message of any channel under ``head`` that is not in ``waited``; channels take turns."""
        ready = self._ready.get(head)
        if ready is None:
            ready = self._ready[head] = {channel: None for channel in self._boxes if head_of(channel) == head}
        for channel in list(ready):
            if channel in waited:
                continue
            body = self.take(channel, now)
            if ready.pop(channel, "gone") is None:
                ready[channel] = None  # at the end
            if body is not None:
                return channel, body
        return None

    def drop_expired(self, now: int) -> list[str]:
        """Drop the expired messages at the front of every channel; returns the channels that had some."""
        stale = []
        for channel, box in list(self._boxes.items()):
            if box[0].deadline > now:
                continue
            stale.append(channel)
            while box and box[0].deadline <= now:
                box.popleft()
                self._counters.of(channel).expired += 1
            if not box:
                self._close(channel)
        return stale

    def clear(self) -> None:
        """Forget everything (``flush``)."""
        self._boxes.clear()
        for ready in self._ready.values():
            ready.clear()

    def _close(self, channel: str) -> None:
        del self._boxes[channel]
        if self._ready and (ready := self._ready.get(head_of(channel))) is not None:
            ready.pop(channel, None)
