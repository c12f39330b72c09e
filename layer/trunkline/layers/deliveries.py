"""Receiving at least once, and the dead letters: what a layer over Redis has beyond Channels' specification."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from trunkline.base import ChannelLayer
from trunkline.redis.deadletters import Letter, change_letters, read_letters
from trunkline.redis.held import Ticket
from trunkline.redis.reliable import Fate, finish, kept_reason, pause_after, put_back
from trunkline.redis.runtime import Runtime


class Delivery:
    """A message that was received and stays on its server until it is done.

    One that nobody keeps, and one of a process that died, is given again a few seconds later.

    :ivar channel: which it was sent to.
    :ivar message: what was sent.
    :ivar deliveries: how often it was given to a receiver, this time included: 1 unless it is a repeat.
    """

    def __init__(self, layer: ReliableReceiving, ticket: Ticket, message: dict[str, Any]) -> None:
        self.channel = ticket.place.channel
        self.message = message
        self.deliveries = ticket.deliveries
        self._layer = layer
        self._ticket = ticket
        self._done = False

    def __repr__(self) -> str:
        return f"<Delivery {self.deliveries} of a message on {self.channel!r}>"

    async def done(self) -> None:
        """Say that the message was handled: it is removed. While its server is away this waits. Harmless when repeated.

        It counts even where this process was taken for dead meanwhile and the message was given to another.

        :raises LayerUnavailable: if the layer was closed before the server knew; the message is given again.
        """
        if not self._done:
            await self._layer._run().run(lambda engine: finish(engine, self._ticket))
            self._done = True

    async def failed(self, reason: str, *, again: bool = True) -> None:
        """Say that handling it failed: it is given again after 1, 2, 4 and 8 seconds, and is a dead letter after that.

        Does nothing where it was done, or given to another, before.

        :param reason: kept with the dead letter, the first 500 characters of it.
        :param again: ``False`` makes it a dead letter at once.
        :raises LayerUnavailable: as for ``done``.
        """
        if not self._done and not self._ticket.settled:
            await self._layer._put_back(self._ticket, "failed" if again else "dead", reason)


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given as often as it may be, or that can't be given.

    :ivar id: to requeue or drop it by.
    :ivar deliveries: how often it was given to a receiver.
    :ivar first: seconds since 1970 when it was first given.
    :ivar last: the same for the last time.
    :ivar reason: why it was not given again.
    :ivar size: bytes of its record.
    :ivar message: what was sent; ``None`` where that can't be read (another key, another version, garbage).
    """

    id: str
    channel: str
    deliveries: int
    first: float
    last: float
    reason: str
    size: int
    message: dict[str, Any] | None


class ReliableReceiving(ChannelLayer):
    """The part of a layer that keeps messages until they are done; the layer gives it its runtime."""

    extensions: ClassVar[list[str]] = [*ChannelLayer.extensions, "at-least-once"]
    _run: Callable[[], Runtime]

    async def receive_reliably(self, channel: str) -> Delivery:
        """Wait for the next message of a normal channel; it stays on its server until the delivery is done.

        Cancelling it loses nothing. Senders know nothing of it, and other processes may receive from the same channel
        with ``receive``: each message goes one of the two ways.

        :param channel: a name that any process may receive from.
        :raises TypeError: for an illegal name.
        :raises ValueError: for a process-specific channel.
        :raises RuntimeError: if this event loop receives from the channel with ``receive``.
        """
        if self.own_address(channel) is not None:
            raise ValueError(
                f"Channel {channel!r} belongs to one process, whose end is the end of the channel: only normal "
                "channels are received from at least once."
            )
        runtime = self._run()
        runtime.announce()  # others see by its beats that this process lives
        engine = runtime.own_engine()
        while True:
            taken = await engine.receive_held(channel)
            assert taken.ticket is not None
            try:
                message = self.decode(runtime.process.record_from(channel, taken.data).body)
            except ValueError as error:
                runtime.process.skipped(error, f"channel {channel!r}")
                await self._put_back(taken.ticket, "dead", f"it can't be read: {error}")
                continue
            self.counters.of(channel).received += 1
            return Delivery(self, taken.ticket, message)

    async def _put_back(self, ticket: Ticket, fate: Fate, reason: str) -> None:
        runtime, pause_s = self._run(), pause_after(ticket.deliveries)
        kept = kept_reason(runtime.process.records, ticket.place.channel, reason)
        letter = await runtime.run(lambda engine: put_back(engine, ticket, fate, kept, pause_s))
        if letter == "d":
            runtime.keeper.report(ticket.place.channel, 1, reason)

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        """All dead letters, or those of one channel, the oldest first.

        :raises LayerUnavailable: if a server can't be reached.
        """
        runtime = self._run()
        found = await runtime.run(lambda _engine: read_letters(runtime.process))
        return [self._shown(letter, runtime) for letter in found if channel in (None, letter.channel)]

    def _shown(self, letter: Letter, runtime: Runtime) -> DeadLetter:
        try:
            message = self.decode(runtime.process.record_from(letter.channel, letter.data).body)
        except ValueError:
            message = None
        return DeadLetter(
            letter.id, letter.channel, letter.deliveries, letter.first / 1000, letter.last / 1000, letter.reason,
            len(letter.data), message,
        )  # fmt: skip

    async def requeue_dead_letters(self, ids: Iterable[str]) -> list[str]:
        """Give dead letters to receivers again, as if for the first time; they do not expire, and pass no capacity.

        Only ``receive_reliably`` gets them.

        :returns: the ids of which there are no letters (any more).
        :raises ValueError: if one is no id; then nothing was done.
        :raises LayerUnavailable: if a server is away for longer than the retry time.
        """
        return await self._run().run(partial(change_letters, script="requeue", ids=list(ids)))

    async def drop_dead_letters(self, ids: Iterable[str]) -> list[str]:
        """Remove dead letters for good; arguments, result and errors as for ``requeue_dead_letters``."""
        return await self._run().run(partial(change_letters, script="drop", ids=list(ids)))
