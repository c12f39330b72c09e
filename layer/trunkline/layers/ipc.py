"""``IPCChannelLayer``: a channel layer between the processes of one machine, with no server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from trunkline import names
from trunkline.base import ChannelLayer, logger, refuse_event_loop
from trunkline.codec import Shared
from trunkline.config import IPCOptions, ipc_options
from trunkline.errors import ChannelFull
from trunkline.ipc.participant import Participant
from trunkline.ipc.queues import Backlog
from trunkline.stats import LayerStatistics, Statistics, Tally, counted_name

# Nanoseconds after which a loop that only sends or receives lets others have a turn: nothing here waits otherwise.
TURN = 2_000_000
REMEMBERED_NAMES = 20_000


class IPCChannelLayer(ChannelLayer):
    """Messages and groups lie in an LMDB store in shared memory; FIFOs wake the receivers.

    Constructed by Channels with the ``CONFIG`` of ``CHANNEL_LAYERS``; see ``trunkline.config.ipc_options``.
    Nothing is opened before it is used.

    :raises ConfigurationError: for an option that is none, or whose value isn't accepted.
    """

    def __init__(self, **config: Any) -> None:
        self.options = self._judge(config)
        super().__init__(self.options.common)
        for note in self.options.notes:
            logger.info("%s", note)
        self._current: Participant | None = None
        self._membership_ns = int(self.group_expiry * 1e9)
        self._turn_ends = 0
        self._checked: set[str] = set()
        self._addresses: dict[str, names.Address | None] = {}

    def _judge(self, config: dict[str, Any]) -> IPCOptions:
        return ipc_options(config)

    def __repr__(self) -> str:
        return f"<IPCChannelLayer prefix={self.prefix!r} {self._current!r}>"

    async def new_channel(self, prefix: str = "specific") -> str:
        name = await super().new_channel(prefix)
        participant = self._participant()
        participant.register()
        await self._turn(time.monotonic_ns())
        participant.open(name)
        self._remember(name)
        return name

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        if channel.__class__ is not str or channel not in self._checked:
            self._check(channel)
        body = self.encode(message)
        now = time.monotonic_ns()
        if now > self._turn_ends:
            await self._turn(now)
        loop = asyncio.get_running_loop()
        together = self._participant().sending.together(loop)
        tally = self.counters.of(channel)
        try:
            if together.alone(loop):
                self._carry(channel, body)
            else:
                await together.send(loop, channel, body)
        except ChannelFull:
            tally.full += 1
            raise
        tally.sent += 1

    def send_sync(self, channel: str, message: dict[str, Any]) -> None:
        refuse_event_loop("send")
        if channel.__class__ is not str or channel not in self._checked:
            self._check(channel)
        body = self.encode(message)
        self._look_around(time.monotonic_ns())
        tally = self.counters.of(channel)
        try:
            self._carry(channel, body)
        except ChannelFull:
            tally.full += 1
            raise
        tally.sent += 1

    def _carry(self, channel: str, body: bytes) -> None:
        self._participant().sending.send(channel, body)

    def _backlog(self, channel: str) -> Backlog:
        """What lies unread in a channel.

        :raises LayerUnavailable: if the store is away.
        """
        return self._participant().backlog(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        # One coroutine from the application to the future that it waits for, and the names of open channels are not
        # judged again: five hundred members receive each group message.
        if channel.__class__ is not str:
            channel = str.__str__(names.check_channel(channel, receive=True))
        current = self._current
        if current is None or current.inherited:
            current = self._participant()
        waited = False
        now = time.monotonic_ns()
        if now > self._turn_ends:
            await self._turn(now)
            now = time.monotonic_ns()
        while True:
            got = current.ask(channel, now, waited)
            if isinstance(got, Shared) and got.flat is not None:
                return got.flat.copy()
            if got is None:
                address = self._address(channel)
                if address is None:
                    got = await current.receive_shared(channel)
                elif not address.local:
                    _, got = await current.receive_any(channel)
                else:
                    current.open(channel)
                    continue
            if isinstance(got, (bytes, Shared)):
                message = self._decoded(channel, got)
                if message is not None:
                    return message
                waited = False
            else:
                try:
                    await got
                except BaseException:
                    current.withdraw(channel, got)
                    raise
                waited = True
            now = time.monotonic_ns()

    async def receive_named(self, prefix: str) -> tuple[str, dict[str, Any]]:
        address = self._address(prefix)
        if address is None or address.local:
            raise ValueError(
                f"receive_named takes the part up to the '!' of a name that new_channel() gave, not {prefix!r}."
            )
        await self._turn(time.monotonic_ns())
        while True:
            name, body = await self._participant().receive_any(address.head)
            message = self._decoded(name, body)
            if message is not None:
                return name, message

    async def group_add(self, group: str, channel: str) -> None:
        current = self._current
        if current is None or current.inherited:
            current = self._participant()
        if (
            group.__class__ is not str
            or channel.__class__ is not str
            or not current.join_known(group, channel, self._membership_ns)
        ):
            self._judge_names(group, channel)
            current.group_add(group, channel, self._membership_ns)

    async def group_discard(self, group: str, channel: str) -> None:
        current = self._current
        if current is None or current.inherited:
            current = self._participant()
        if group.__class__ is not str or channel.__class__ is not str or not current.leave_known(group, channel):
            self._judge_names(group, channel)
            current.group_discard(group, channel)

    def _judge_names(self, group: str, channel: str) -> None:
        names.check_group(group)
        if channel.__class__ is not str or channel not in self._checked:
            self._check(channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        names.check_group(group)
        body = self.encode(message)
        await self._turn(time.monotonic_ns())
        self._group_send(group, body)

    def group_send_sync(self, group: str, message: dict[str, Any]) -> None:
        refuse_event_loop("group_send")
        names.check_group(group)
        body = self.encode(message)
        self._look_around(time.monotonic_ns())
        self._group_send(group, body)

    def _group_send(self, group: str, body: bytes) -> None:
        dropped = self._participant().sending.group_send(group, body)
        self.counters.group_sent += 1
        if dropped:
            self.counters.other.dropped += dropped
            self.warn_group_dropped(group, dropped)

    async def global_statistics(self) -> Statistics:
        return (await self.statistics()).total

    async def channel_statistics(self, channel: str) -> Statistics:
        names.check_channel(channel, receive=True)
        return (await self.statistics()).channels.get(counted_name(channel)) or Statistics()

    async def statistics(self) -> LayerStatistics:
        participant = self._participant()
        waiting = {name: (count, age) for name, count, age in participant.unread()}
        tallies = {name: tally for name, tally in self.counters.tallies.items() if any(tally.values())}
        channels = {
            name: _statistics(tallies.get(name, Tally()), waiting.get(name, (0, 0.0)))
            for name in sorted({*tallies, *waiting})
        }
        pending, oldest = (
            sum(count for count, _ in waiting.values()),
            max((age for _, age in waiting.values()), default=0.0),
        )
        total = replace(
            _statistics(self.counters.total(), (pending, oldest)),
            messages_count=self.counters.sent + self.counters.group_sent,
            group_messages_count=self.counters.group_sent,
            unreadable_count=self.counters.unreadable,
        )
        return LayerStatistics(total, channels, (), (), counted=False)

    async def flush(self) -> None:
        self._participant().flush()

    async def close(self) -> None:
        if self._current is not None:
            self._current.sending.together(asyncio.get_running_loop()).go()
            self._current.close()

    def _participant(self) -> Participant:
        current = self._current
        if current is None or current.inherited:
            self._addresses.clear()
            current = self._current = Participant(
                self.process, self.options, self.get_capacity, self.counters, self._warn
            )
        return current

    def _check(self, channel: str) -> None:
        """Judge a name that was not judged before; the same few names come again and again."""
        names.check_channel(channel)
        self._remember(channel)

    def _remember(self, channel: str) -> None:
        if len(self._checked) >= REMEMBERED_NAMES:
            self._checked.clear()
        self._checked.add(channel)

    def _address(self, channel: str) -> names.Address | None:
        """As ``own_address``, which is asked once for each name."""
        self._participant()  # forgets addresses after a fork
        if channel.__class__ is str and channel in self._addresses:
            return self._addresses[channel]
        address = self.own_address(channel)
        if len(self._addresses) >= REMEMBERED_NAMES:
            self._addresses.clear()
        self._addresses[channel] = address
        return address

    async def _turn(self, now: int) -> None:
        """Let other tasks run now and then, and do what is due every second."""
        if self._look_around(now):
            await asyncio.sleep(0)

    def _look_around(self, now: int) -> bool:
        """Do what is due every second, if the turn is over; returns whether it is."""
        if now <= self._turn_ends:
            return False
        self._turn_ends = now + TURN
        try:
            self._participant().look_around()
        except ConnectionError:  # whoever called finds out by itself
            pass
        return True


def _statistics(tally: Tally, waiting: tuple[int, float]) -> Statistics:
    return Statistics(
        messages_count=tally.sent,
        messages_pending=waiting[0],
        messages_max_age=round(waiting[1], 3),
        channel_full_count=tally.full,
        received_count=tally.received,
        group_dropped_count=tally.dropped,
        expired_count=tally.expired,
    )
