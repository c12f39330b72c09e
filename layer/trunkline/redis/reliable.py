"""Receiving from queues at least once: messages stay on their server until the receiver says that they are done.

A take moves messages out of the list into a stream with a consumer group, in one step, and gives them. What a process
had that died, or lost track of, is given again, with a count of how often it was given; what was given
``MOST_DELIVERIES`` times goes to the dead letters.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Literal, Protocol

from trunkline.codec import REASON, SEALED_VERSION, Records, Unreadable
from trunkline.errors import LayerUnavailable
from trunkline.redis.held import Place, Ticket
from trunkline.redis.process import Process, Server
from trunkline.redis.queue import GiveBack, Queue, Taken
from trunkline.redis.replies import Arg

MOST_DELIVERIES = 5  # then a message goes to the dead letters
FIRST_PAUSE_S = 1.0  # before a message whose handler failed is given again; doubles each time
MOST_REASON = 500  # characters of a reason that are kept

Fate = Literal["failed", "unseen", "dead"]


class Caller(Protocol):
    """What an engine has for these operations."""

    def call(
        self, script: str, shard: int, kind: str, name: str, head: tuple[Arg, ...], own: tuple[Arg, ...] = (),
        *, size: int = 0, held: bool = False,
    ) -> asyncio.Future[str]: ...  # fmt: skip


class Background(Protocol):
    """Does work in an event loop that lives as long as it takes."""

    def __call__(
        self, work: Callable[[Any], Coroutine[Any, Any, None]], *, late: bool = False
    ) -> concurrent.futures.Future[None]: ...


class HoldQueue(Queue):
    """One channel as one event loop receives from it at least once."""

    holding = True

    def __init__(
        self, channel: str, places: Iterable[tuple[Server, int]], process: Process, give_back: GiveBack
    ) -> None:
        super().__init__(channel, places, process, give_back)
        process.holdings.attend(channel, self.places.values())

    async def receive(self, want: Callable[[Queue], None]) -> bytes:
        raise RuntimeError(one_way(self.channel))

    async def receive_held(self, want: Callable[[Queue], None]) -> Taken:
        """Wait for the next message; cancelling it gives the message to another receiver or back."""
        self.receivers += 1
        try:
            while not self.items:
                waiter = asyncio.get_running_loop().create_future()
                self.waiters.append(waiter)
                want(self)
                try:
                    await waiter
                finally:
                    if waiter in self.waiters:
                        self.waiters.remove(waiter)
            item = self.items.popleft()
            if item.ticket is not None:
                item.ticket.seen = True
            return item
        finally:
            self.receivers -= 1
            self.settle()


def one_way(channel: str) -> str:
    """The sentence for whoever mixes the two ways to receive."""
    return (
        f"This event loop receives from channel {channel!r} in the other way already: use either receive() or "
        "receive_reliably() for one channel."
    )


async def finish(caller: Caller, ticket: Ticket) -> None:
    """Remove a message that was handled.

    :raises LayerUnavailable: if the layer was closed before its server knew; the message is given again.
    """
    await _settle(caller, ticket, "done", (ticket.place.channel,), (ticket.entry,))


async def put_back(caller: Caller, ticket: Ticket, fate: Fate, reason: str | bytes, pause_s: float = 0.0) -> str:
    """Put a message back, or to the dead letters when it was given often enough.

    :param reason: kept with a dead letter; what may hold something of a message has to be a ``kept_reason``.
    :returns: one letter: ``w`` it waits to be given again, ``d`` dead letter, ``g`` it was not ours any more.
    :raises LayerUnavailable: as ``finish``.
    """
    own = (ticket.entry, ticket.consumer, ticket.deliveries, fate, int(pause_s * 1000), reason)
    return await _settle(caller, ticket, "again", (ticket.place.channel, MOST_DELIVERIES), own)


async def _settle(caller: Caller, ticket: Ticket, script: str, head: tuple[Arg, ...], own: tuple[Arg, ...]) -> str:
    place = ticket.place
    asked = caller.call(script, place.shard, "held", place.channel, head, own, held=True)

    def answered(future: asyncio.Future[str]) -> None:  # keeps the ticket until then
        ticket.settled = not future.cancelled() and future.exception() is None

    asked.add_done_callback(answered)
    return await asyncio.shield(asked)  # it goes on when nobody waits for it any more


def pause_after(deliveries: int) -> float:
    """Seconds before a message is given again whose handler has failed so many times."""
    return float(FIRST_PAUSE_S * 2 ** (deliveries - 1))


def kept_reason(records: Records, channel: str, reason: str) -> bytes:
    """A reason of any length as it is kept: encrypted as messages are, since a handler's error may quote one."""
    text = reason if len(reason) <= MOST_REASON else reason[: MOST_REASON - 1] + "…"
    return records.wrap(REASON, channel, text.encode("utf-8", "replace"))


def shown_reason(records: Records, channel: str, kept: bytes) -> str:
    """A reason that was kept, by ``kept_reason`` or in the clear by a script."""
    try:
        if kept[:1] == bytes((SEALED_VERSION,)):
            kept = records.unwrap(REASON, channel, kept)
    except Unreadable as error:
        return f"The reason can't be read: {error}"
    return kept.decode("utf-8", "replace")


class Keeper:
    """Looks after what a process holds, once a second, and gives back what is open when the layer closes."""

    def __init__(self, process: Process, background: Background) -> None:
        self._process = process
        self._background = background
        self._busy: set[Place] = set()

    def tend(self) -> None:
        """To be called in the reactor."""
        for place in self._process.holdings.places:
            if place not in self._busy:
                self._busy.add(place)
                self._background(partial(self._tend, place))

    async def _tend(self, place: Place, caller: Caller) -> None:
        process, server = self._process, self._process.server_of(place.shard)
        try:
            if server.offset is None or server.away_since is not None:
                return
            listed = int(time.monotonic() * 1000 + server.offset)
            head = (place.channel, MOST_DELIVERIES, process.holdings.consumer, listed)
            entries = tuple(ticket.entry for ticket in process.holdings.open(place))
            answer = await caller.call("tend", place.shard, "held", place.channel, head, entries)
            returned, buried = map(int, answer.split())
            if returned:
                process.warn(
                    "returned",
                    "Channel %r: %d message(s) whose readers died or lost them are given again.",
                    place.channel,
                    returned,
                )
            if buried:
                self.report(place.channel, buried, "their readers died or lost them")
        except LayerUnavailable as error:
            if server.away_since is None:  # while it is away there is enough about it in the log
                process.warn("tending", "Nobody looks for dead readers of channel %r: %s", place.channel, error)
        finally:
            self._busy.discard(place)

    def report(self, channel: str, count: int, reason: str) -> None:
        """Say that messages went to the dead letters."""
        self._process.warn(
            "dead-letters",
            "Channel %r: %d message(s) went to the dead letters: %s.",
            channel,
            count,
            reason,
            level=logging.ERROR,
        )

    def give_back_open(self) -> None:
        """Give back what was received and is not done: the layer closes."""
        for place in self._process.holdings.places:
            for ticket in self._process.holdings.open(place):
                self._background(partial(_give_back, ticket=ticket), late=True)


def give_back_unseen(background: Background, taken: list[Taken]) -> list[tuple[int, concurrent.futures.Future[None]]]:
    """Put back what nobody received; a future for each message, by its server's position."""
    return [
        (item.server.position, background(partial(_give_back, ticket=item.ticket), late=True))
        for item in taken
        if item.ticket is not None
    ]


async def _give_back(caller: Caller, ticket: Ticket) -> None:
    await put_back(caller, ticket, "failed" if ticket.seen else "unseen", "its reader was closed")
