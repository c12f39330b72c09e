"""Receiving from a process' own channels: what its memory holds of them, and what lies in the store."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trunkline.codec import DIRECT
from trunkline.errors import LayerUnavailable
from trunkline.ipc import presence, queues
from trunkline.ipc.boxes import Box, Boxes
from trunkline.ipc.environment import Environment
from trunkline.ipc.keys import Place, head_place
from trunkline.ipc.receiving import Receiving, now_ns
from trunkline.mailbox import Body, Waiter

TAKEN_AT_ONCE = 64  # messages for receivers that were woken, in one transaction, so that others come in between


class OwnReceiving(Receiving):
    """The part of a participant that receives from own channels; what is private is called with its lock held."""

    owner: bytes
    environment: Environment
    _generation: int  # of the store in which the process is registered
    _boxes: Boxes
    _by_name: Mapping[str, Box]  # those of ``_boxes``
    _served: dict[str, bytes]  # head -> key of the channel that was served last
    _shared: set[str]  # heads that receivers of any of their channels take part in

    @abstractmethod
    def _collect(self) -> None:
        """Take the inbox' group messages and give them to the members in this process."""

    def open(self, channel: str) -> None:
        """Open an own channel (a full name), so that it can be asked for messages; it may be open already."""
        with self._lock:
            self._boxes.open(channel, now_ns())

    def ask(self, channel: str, now: int, waited: bool) -> Body | Waiter | None:
        """The next message of an own channel; or what to await before asking again.

        Any number of receivers may ask. One whose waiting was cancelled says so with ``withdraw``.

        :param now: in the store's clock (ns).
        :param waited: whether this is asked again after waiting: one that was woken for nothing keeps its place.
        :return: the message; or an awaitable; or ``None`` if the channel is not open.
        """
        if channel not in self._by_name:  # what any process receives never is, and needs no lock
            return None
        with self._lock:
            box = self._by_name.get(channel)
            if box is None:
                return None
            box.last_receive = now
            if waited:
                box.woken = None
            bells, items = self._bells, box.items
            # What is usual needs no look into the store. The running loop (up to Python 3.11 a system call tells which)
            # is looked at because one without a doorbell may have missed a flush.
            if bells is not None and box.taken is None and self._generation == self.environment.generation:
                if items:
                    if waited or bells.last() is asyncio.get_running_loop():
                        deadline, shared, after_direct = items[0]
                        if deadline > now and not after_direct:
                            items.popleft()
                            if box.waiters:
                                _wake_next(box)
                            box.tally.received += 1
                            return shared
                elif box.quiet == bells.bell and bells.last() is (loop := asyncio.get_running_loop()):
                    return box.wait(loop, waited)
            loop = asyncio.get_running_loop()
            try:
                body = self._look(box, loop, now, waited)
            except LayerUnavailable as error:
                return self._pause(error, loop)
            if body is None:
                return box.wait(loop, waited)
            _wake_next(box)
            box.tally.received += 1
            return body

    def withdraw(self, channel: str, waiter: Waiter) -> None:
        """A receiver was cancelled while it awaited what ``ask`` gave: others get what it was woken for, or it goes
        back, and nobody must ring for it."""
        with self._lock:
            box = self._by_name.get(channel)
            if box is None:
                return
            if waiter is box.woken:
                box.woken = None
            if not box.leave_row(waiter):
                if self._boxes.offer(box):
                    return
                self._put_back(box)
            if not box.waiters and self._bells is not None:
                box.quiet = None
                self._withdraw_bells(box.place)

    async def receive_any(self, head: str) -> tuple[str, Body]:
        """Wait for a message of any own channel under ``head``; a waiting receiver of the full name goes first."""
        loop = asyncio.get_running_loop()
        place = head_place(self.owner, head)
        first = False
        while True:
            with self._lock:
                try:
                    found = self._take_any(head, place, self._bell_of(loop))
                except LayerUnavailable as error:
                    waiter = self._pause(error, loop)
                else:
                    if found is not None:
                        self._counters.of(found[0]).received += 1
                        self._waiting.wake(head)  # there may be more
                        return found
                    waiter = loop.create_future()
                    self._waiting.add(head, waiter, first=first)
            first = True
            try:
                await waiter
            except BaseException:
                with self._lock:
                    self._give_up(head, place, waiter)
                raise

    # -- one channel

    def _look(self, box: Box, loop: asyncio.AbstractEventLoop, now: int, waited: bool) -> Body | None:
        """The next message, wherever it lies; if there is none, the loop's doorbell is registered when this returns."""
        bell = None
        if not waited or self._bells is None:
            bell = self._bell_of(loop)  # before it takes anything: it may have missed a flush
        body = self._at_hand(box, now)
        if body is not None:
            return body
        bell = bell or self._bell_of(loop)
        if box.quiet == bell and box.taken is None and not box.items:
            return None
        return self._take(box, bell)

    def _at_hand(self, box: Box, now: int) -> Body | None:
        """The next message, if it is known without the store."""
        while (item := box.take_taken()) is not None:
            deadline, data = item
            if deadline <= now:
                box.tally.expired += 1
                continue
            body = self._opened(DIRECT, box.name, data)
            if body is not None:
                return body
        return box.take_at_once(now)

    def _take(self, box: Box, bell: bytes) -> Body | None:
        keep = box.head not in self._shared
        while True:
            now = now_ns()
            shared = box.take_at_once(now)
            if shared is not None:
                return shared
            # Direct messages go before a group message that came after them: those that expire up to then. With one
            # ``expiry`` for all, these were sent before it.
            before = box.items[0][0] if box.items else None
            others = self._bells_of(box.loops())
            popped, posted = self._write(self._pop, box.place, now, bell, others, before, keep)
            box.tally.expired += popped.expired
            if keep and not popped.unread:
                box.quiet = bell
            if popped.body is None:
                if not posted:
                    return box.take(now)
                self._collect()  # which hears of what came since, so look again
                continue
            body = self._opened(DIRECT, box.name, popped.body)
            if body is not None:
                return body

    def _pop(
        self, txn: Any, place: Place, now: int, bell: bytes, others: Sequence[bytes], before: int | None, keep: bool
    ) -> tuple[queues.Popped, bool]:
        popped = queues.pop(txn, place, now, bell, others, before, keep=keep)
        return popped, popped.body is None and presence.unposted(txn, self.owner)

    def _take_ahead(self, woken: Sequence[Box], bell: bytes) -> None:
        """Take one message for each channel with a receiver that was just woken, in few transactions."""
        wanted = [box for box in woken if not box.items and box.head not in self._shared]
        for start in range(0, len(wanted), TAKEN_AT_ONCE):
            some = wanted[start : start + TAKEN_AT_ONCE]
            places = [(box.place, self._bells_of(box.loops())) for box in some]
            for box, popped in zip(some, self._write(queues.pop_each, places, now_ns(), bell), strict=True):
                box.tally.expired += popped.expired
                if popped.body is not None:
                    box.put_taken(popped.deadline, popped.body)
                if popped.unread:
                    box.wake(None)
                else:
                    box.quiet = bell

    def _put_back(self, box: Box) -> None:
        """What was taken for a receiver that is gone goes back to the front."""
        box.quiet = None
        if box.taken is None:
            return
        while (item := box.take_taken(last=True)) is not None:
            try:
                self._write(queues.put_back, box.place, *item)
            except ConnectionError:  # stays here, where the next receiver looks first
                box.put_taken(*item)
                break
        box.wake(None)

    # -- any channel of a head

    def _take_any(self, head: str, place: Place, bell: bytes) -> tuple[str, Body] | None:
        now = now_ns()
        self._share(head)
        self._collect()
        found = self._boxes.take_any(head, now)
        if found is not None:
            box, shared = found
            box.last_receive = now
            return box.name, shared
        while True:
            after, others = self._served.get(head, b""), self._bells_of(self._waiting.loops(head))
            taken = self._write(queues.pop_any, place, now, self._boxes.awaits, after, bell, others)
            if taken is None or taken[1].body is None:
                return None
            channel = taken[0].name.decode("ascii")
            self._served[head] = taken[0].key
            box = self._boxes.open(channel, now)
            box.last_receive = now
            box.tally.expired += taken[1].expired
            body = self._opened(DIRECT, channel, taken[1].body)
            if body is not None:
                return channel, body

    def _share(self, head: str) -> None:
        """From now on receivers of ``head`` look for messages too: nothing may be kept from them."""
        if self._bells is None or head in self._shared:
            return
        boxes = [box for box in self._boxes if box.head == head]
        self._leave_no_bell(boxes)
        for box in boxes:
            self._put_back(box)
            box.wake(None)  # to register again
        self._shared.add(head)

    def _leave_no_bell(self, boxes: Iterable[Box]) -> None:
        places = []
        for box in boxes:
            box.quiet = None
            places.append(box.place)
        if places and self._bells is not None:
            self._write(queues.withdraw_each, places, self._bells.names(), self._ring)


def _wake_next(box: Box) -> None:
    """Whoever takes a message wakes the next receiver, if there may be more for it: one is woken for several."""
    if box.waiters and (box.items or box.taken or box.quiet is None):
        box.wake(None)
