"""A process' own channels: what it holds of them in its memory, and who waits for more; no I/O.

Nobody else receives from a process' own channels. So where its doorbell is registered at an empty one, the channel
stays empty until the doorbell is rung for it; and what it takes out ahead of a receiver that was woken is its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from trunkline.codec import Shared
from trunkline.ipc.keys import Place, place_of
from trunkline.ipc.waiting import Waiting
from trunkline.mailbox import OwnChannel
from trunkline.mailbox.waiting import Slices
from trunkline.stats import Counters, Tally

# A group message for one channel: when it expires, in the store's clock (ns); what all members share of it; and
# whether the channel had unread direct messages in the store when this one came.
Unread = tuple[int, Shared, bool]


class Box(OwnChannel):
    """One own channel; times are nanoseconds of the store's clock.

    :ivar place: where its direct messages lie.
    :ivar items: unread group messages; made with the first one.
    :ivar taken: direct messages on their way to receivers that were woken, which come before all others: deadlines, and
        what was stored; ``None`` where there are none.
    :ivar quiet: the doorbell that will be rung for the next direct message, if none lies in the store.
    """

    __slots__ = ("items", "place", "quiet", "taken")

    def __init__(self, name: str, capacity: int, now: int, tally: Tally) -> None:
        super().__init__(name, capacity, now, tally)
        self.place: Place = place_of(name)
        self.items: deque[Unread] | None = None
        self.taken: deque[tuple[int, bytes]] | None = None
        self.quiet: bytes | None = None

    def loops(self) -> set[asyncio.AbstractEventLoop]:
        """The event loops in which somebody waits."""
        return {waiter.get_loop() for waiter in self.waiters or () if not waiter.done()}

    def take_taken(self, *, last: bool = False) -> tuple[int, bytes] | None:
        """The first message on its way, which may have expired; or the last one, to put it back."""
        taken = self.taken
        if taken is None:
            return None
        item = taken.pop() if last else taken.popleft()
        if not taken:
            self.taken = None
        return item

    def put_taken(self, deadline: int, data: bytes) -> None:
        """A message was taken out of the store for a receiver that was woken."""
        if self.taken is None:
            self.taken = deque()
        self.taken.append((deadline, data))

    def drop_expired(self, now: int) -> bool:
        """Drop the expired group messages at the front; returns whether there were any."""
        items, dropped = self.items, 0
        while items and items[0][0] <= now:
            items.popleft()
            dropped += 1
        self.tally.expired += dropped
        return dropped > 0

    def take_at_once(self, now: int) -> Shared | None:
        """The next group message, where direct ones in the store can't go before it."""
        self.drop_expired(now)
        return self.items.popleft()[1] if self.items and not self.items[0][2] else None

    def take(self, now: int) -> Shared | None:
        """The next group message."""
        self.drop_expired(now)
        return self.items.popleft()[1] if self.items else None


class Boxes:
    """The own channels of one layer object. Not thread-safe: used while holding ``lock``, but for ``clock``.

    :param capacity_of: how many unread messages a channel may hold; asked once, when the channel is opened.
    :param others: who waits for the heads of names.
    :param counters: ``expired`` and ``dropped`` are counted here.
    :ivar by_name: those that are open: received from, made by ``new_channel``, or in a group.
    :ivar clock: seconds; tells how long members and others take in a round of an event loop.
    """

    def __init__(
        self,
        lock: threading.RLock,
        capacity_of: Callable[[str], int],
        others: Waiting,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = lock
        self._capacity_of = capacity_of
        self._others = others
        self._counters = counters
        self.clock = clock
        self.by_name: dict[str, Box] = {}
        self._ready: dict[str, dict[Box, None]] = {}  # head that was asked for -> its channels with something, in turn
        self._slices: Slices[Box] | None = None

    def __repr__(self) -> str:
        return f"<Boxes {len(self.by_name)} channels>"

    def __iter__(self) -> Iterator[Box]:
        return iter(list(self.by_name.values()))

    def open(self, channel: str, now: int) -> Box:
        """The box of an own channel; made if need be."""
        box = self.by_name.get(channel)
        if box is None:
            box = Box(channel, self._capacity_of(channel), now, self._counters.of(channel))
            self.by_name[channel] = box
        return box

    def close(self, box: Box) -> None:
        """Forget a channel that holds nothing and that nobody waits for."""
        del self.by_name[box.name]
        if self._ready and (ready := self._ready.get(box.head)) is not None:
            ready.pop(box, None)

    def awaits(self, channel: str) -> bool:
        """Whether a receiver waits for the channel by its full name."""
        box = self.by_name.get(channel)
        return box is not None and bool(box.waiters)

    def wake_all(self) -> None:
        """Wake the first that waits for each channel; each goes on to wake the next if there is more."""
        for box in self.by_name.values():
            box.wake(None)

    def offer(self, box: Box) -> bool:
        """Wake a receiver of the channel, or else of its head; returns whether there was one."""
        return box.wake(None) or self._others.wake(box.head)

    # -- group messages

    def deliver(self, members: Iterable[Box], items: Sequence[Unread], direct: Mapping[Box, int], now: int) -> None:
        """Give messages of one group to its members and wake those that wait: some in each round of the running loop.

        :param direct: how many direct messages lie in the store for some of the members, before these.
        """
        running, begun = asyncio._get_running_loop(), self.clock()
        slices = self._slices
        if slices is None or slices.loop is not running:
            slices = None if running is None else Slices(running, self._wake_due, self.clock)
        ready, others, count = self._ready, self._others, len(items)
        due: list[Box] = []
        for box in members:
            held = box.items
            if held is None:
                held = box.items = deque()
            if not direct and len(held) + count <= box.capacity:
                held.extend(items)
            elif not self._put_each(box, held, items, direct.get(box, 0), now):
                continue
            if ready and box.head in ready:
                ready[box.head][box] = None
            waiters = box.waiters
            if waiters:
                # A receiver of the head must not come before one of the full name that is due.
                if slices is not None and waiters[0].get_loop() is running and not (ready and box.head in others):
                    if box.due is not slices:
                        box.due = slices
                        due.append(box)
                    continue
                woken = 0
                while woken < count and box.wake(running):
                    woken += 1
                if woken == count:
                    continue
            if ready:
                others.wake(box.head)
        if slices is not None:
            slices.add(due, begun)
            self._slices = slices if slices else None

    def _put_each(self, box: Box, held: deque[Unread], items: Sequence[Unread], direct: int, now: int) -> bool:
        """Give a channel those that there is room for; returns whether there was for any."""
        room = box.capacity - direct
        if len(held) + len(items) > room:
            box.drop_expired(now)
        some = items[: max(0, room - len(held))]
        held.extend([(deadline, body, True) for deadline, body, _ in some] if direct else some)
        box.tally.dropped += len(items) - len(some)
        return bool(some)

    def lag(self) -> bool:
        """Whether receivers of the running loop have been due for so long that no more should be read for them."""
        slices = self._slices
        return slices is not None and slices.loop is asyncio._get_running_loop() and slices.lag()

    def _wake_due(self, boxes: list[Box]) -> None:
        with self._lock:
            running = asyncio._get_running_loop()
            for box in boxes:
                box.due = None
                if box.items and not box.wake(running):
                    self._others.wake(box.head)
            if self._slices is not None and self._slices.loop is running and not self._slices:
                self._slices = None

    def take_any(self, head: str, now: int) -> tuple[Box, Shared] | None:
        """The next group message of any channel under ``head`` without a receiver of its own; channels take turns."""
        ready = self._ready.get(head)
        if ready is None:
            ready = self._ready[head] = {box: None for box in self.by_name.values() if box.head == head and box.items}
        for box in list(ready):
            if box.waiters:
                continue
            body = box.take(now)
            del ready[box]
            if box.items:
                ready[box] = None  # at the end
            if body is not None:
                return box, body
        return None

    # -- every second

    def sweep(self, now: int, idle: int) -> tuple[set[Box], list[Box]]:
        """Wake once more whom messages wait for, as the loop of those woken before may have ended; drop what expired.

        :param idle: nanoseconds without a receive after which nobody listens any more.
        :return: the channels of which something expired that nobody will listen to; and those that nobody has asked for
            twice as long.
        """
        stale: set[Box] = set()
        unheard: list[Box] = []
        for box in self:
            expired = False
            if box.items:
                self.offer(box)
                expired = box.drop_expired(now)
            elif box.items is not None:
                box.items = None
            age = now - box.last_receive
            if age > idle and not box.awaited():
                if expired:
                    stale.add(box)
                if age > 2 * idle:
                    unheard.append(box)
        return stale, unheard

    def forget_quiet(self) -> None:
        """Every channel may hold something in the store, or no doorbell is registered there."""
        for box in self.by_name.values():
            box.quiet = None

    def clear(self) -> None:
        """Forget the messages and memberships (``flush``); who waits goes on waiting."""
        for box in self.by_name.values():
            box.items = box.taken = None
            box.groups = 0
        for ready in self._ready.values():
            ready.clear()
