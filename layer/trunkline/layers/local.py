"""``trunkline.RedisLocalChannelLayer``: normal channels stay on the machine, everything else goes over Redis."""

from __future__ import annotations

import asyncio
import time
import weakref
from dataclasses import replace
from typing import Any, ClassVar

from trunkline import names
from trunkline.base import ChannelLayer
from trunkline.config import IPCOptions, LocalOptions, RedisOptions, local_options
from trunkline.errors import LayerUnavailable
from trunkline.layers.deliveries import Delivery
from trunkline.layers.ipc import IPCChannelLayer
from trunkline.layers.sentinel import RedisSentinelChannelLayer
from trunkline.redis.engine import Engine
from trunkline.stats import LayerStatistics, Statistics

LOOK_AFTER = 5.0  # seconds in which somebody should have taken a message
MOST_WATCHED = 1_000  # channels that are looked at; a site has a few
NONE = -1  # instead of the number of a first message


class _Machine(IPCChannelLayer):
    """The half that stays on the machine: the same identity and the same counters as the whole."""

    def __init__(self, whole: RedisLocalChannelLayer, options: IPCOptions) -> None:
        self._given = options
        super().__init__()
        self._whole = weakref.ref(whole)
        self.counters = whole.counters
        self.encode, self.decode = whole.encode, whole.decode
        self._warn = whole._warn

    def _judge(self, config: dict[str, Any]) -> IPCOptions:
        return self._given

    @property
    def process(self) -> str:
        whole = self._whole()
        return "" if whole is None else whole.process


class RedisLocalChannelLayer(RedisSentinelChannelLayer):
    """A channel layer for machines that each have readers of all normal channels.

    A message to a normal channel is read by a process of the machine on which it was sent, and never touches a server;
    process-specific channels and groups reach all machines. A normal channel in a group gets the group's messages on
    the machine on which they were sent.

    :param config: the CONFIG of ``CHANNEL_LAYERS``: options of the Redis or the Sentinel layer and of the IPC layer.
    :raises ConfigurationError: one sentence for each kind of mistake.
    """

    extensions: ClassVar[list[str]] = ChannelLayer.extensions  # and not at-least-once

    def __init__(self, **config: Any) -> None:
        self._judged: LocalOptions = local_options(config)
        super().__init__(**config)
        self._machine = _Machine(self, self._judged.ipc)
        self._watched: dict[str, tuple[float, int]] = {}  # channel -> when to look at it, number of its first message

    def _judge(self, config: dict[str, Any]) -> RedisOptions:
        return self._judged.redis

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        if _stays(channel):
            await self._machine.send(channel, message)
            self._watch(channel)
        else:
            await super().send(channel, message)

    def send_sync(self, channel: str, message: dict[str, Any]) -> None:
        if _stays(channel):
            self._machine.send_sync(channel, message)
            self._watch(channel)
        else:
            super().send_sync(channel, message)

    async def _carry(self, engine: Engine, channel: str, body: bytes) -> None:
        if "!" in channel:
            await super()._carry(engine, channel, body)
        else:  # out of a group
            self._machine._carry(channel, body)
            self._watch(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        return await (self._machine.receive(channel) if _stays(channel) else super().receive(channel))

    async def receive_reliably(self, channel: str) -> Delivery:
        """:raises RuntimeError: always: what stays on the machine is delivered at most once."""
        names.check_channel(channel)
        raise RuntimeError(
            "trunkline.RedisLocalChannelLayer delivers at most once, as its normal channels don't go over Redis: use "
            "trunkline.RedisChannelLayer for at-least-once delivery."
        )

    async def global_statistics(self) -> Statistics:
        return (await self.statistics()).total

    async def channel_statistics(self, channel: str) -> Statistics:
        if _stays(channel):
            names.check_channel(channel)
            return (await self.statistics()).channels.get(channel) or Statistics()
        return await super().channel_statistics(channel)

    async def statistics(self) -> LayerStatistics:
        """What waits in normal channels is that of this machine; what was counted is of all."""
        found, here = await super().statistics(), await self._machine.statistics()
        channels = dict(found.channels)
        for name, each in here.channels.items():
            if each.messages_pending:
                channels[name] = replace(
                    channels.get(name, Statistics()),
                    messages_pending=each.messages_pending,
                    messages_max_age=each.messages_max_age,
                )
        total = replace(
            found.total,
            messages_pending=found.total.messages_pending + here.total.messages_pending,
            messages_max_age=max(found.total.messages_max_age, here.total.messages_max_age),
        )
        return replace(found, total=total, channels=dict(sorted(channels.items())))

    async def flush(self) -> None:
        await self._machine.flush()
        await super().flush()

    async def close(self) -> None:
        self._watched.clear()
        try:
            await self._machine.close()
        finally:
            await super().close()

    # -- channels that nobody reads

    def _watch(self, channel: str) -> None:
        """Look at a channel some seconds after a message was sent to it: has anybody taken one since?"""
        known, now = self._watched.get(channel), time.monotonic()
        if known is not None and now < known[0]:
            return
        first = self._look(channel, known)
        if known is not None or len(self._watched) < MOST_WATCHED:
            pause = min(LOOK_AFTER, self.expiry / 2)
            self._watched[channel] = (now + pause, first)
            loop = asyncio._get_running_loop()
            if loop is not None:  # else the next send looks
                loop.call_later(pause, self._look_again, channel)

    def _look_again(self, channel: str) -> None:
        known = self._watched.pop(channel, None)
        if known is not None:  # the layer was not closed meanwhile
            self._look(channel, known)

    def _look(self, channel: str, known: tuple[float, int] | None) -> int:
        """Warn of a channel that nobody took from since ``known``; returns the number of its first message."""
        try:
            backlog = self._machine._backlog(channel)
        except LayerUnavailable:
            return NONE
        if not backlog.unread or backlog.waiting:
            return NONE
        if known is not None and known[1] == backlog.first:
            self._warn(
                "unread",
                "Channel %r holds %d message(s), and no process of this machine takes them: with this layer each "
                "machine needs a worker for each normal channel that is sent to on it.",
                channel,
                backlog.unread,
            )
        return backlog.first


def _stays(channel: object) -> bool:
    return isinstance(channel, str) and "!" not in channel
