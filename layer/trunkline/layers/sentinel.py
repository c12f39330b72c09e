"""``trunkline.RedisSentinelChannelLayer``: the Redis layer over services that Sentinels look after."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from trunkline.base import refuse_event_loop
from trunkline.config import RedisOptions, sentinel_options
from trunkline.layers.deliveries import DeadLetter, Delivery
from trunkline.layers.redis import RedisChannelLayer
from trunkline.redis.discovery import Discovery
from trunkline.redis.runtime import Runtime
from trunkline.stats import LayerStatistics, Statistics


class RedisSentinelChannelLayer(RedisChannelLayer):
    """A channel layer over Redis behind Sentinels; each service is a shard.

    Where no services are named, all that the Sentinels know are asked for when the layer is first used: sends wait for
    that as in an outage, receives for as long as it takes.

    :param config: the CONFIG of ``CHANNEL_LAYERS``; docs/reference/configuration.md lists the options.
    :raises ConfigurationError: one sentence for each kind of mistake.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        nameless = self.options.discover
        self._discovery = Discovery(nameless, self.options.retry_time) if nameless is not None else None

    def _judge(self, config: dict[str, Any]) -> RedisOptions:
        return sentinel_options(config)

    def __repr__(self) -> str:
        unnamed = "" if self.options.discover is None else f"all of {self.options.discover.label} "
        return super().__repr__().replace(" ", f" {unnamed}", 1)

    async def _discovered(self, *, patient: bool = False) -> None:
        nameless, discovery = self.options.discover, self._discovery
        if nameless is not None and discovery is not None:
            names = await discovery.names(patient=patient)
            hosts = tuple(replace(nameless, name=name) for name in names)
            self.options = replace(self.options, hosts=hosts, discover=None)

    def _run(self) -> Runtime:
        assert self.options.discover is None, "the services are not known yet"
        return super()._run()

    # Each operation, after the services are known.

    async def new_channel(self, prefix: str = "specific") -> str:
        await self._discovered()
        return await super().new_channel(prefix)

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        if self.options.discover is not None:
            await self._discovered()
        await super().send(channel, message)

    def send_sync(self, channel: str, message: dict[str, Any]) -> None:
        if self.options.discover is not None:
            refuse_event_loop("send")
            asyncio.run(self._discovered())
        super().send_sync(channel, message)

    async def receive(self, channel: str) -> dict[str, Any]:
        if self.options.discover is not None:
            await self._discovered(patient=True)
        return await super().receive(channel)

    async def receive_named(self, prefix: str) -> tuple[str, dict[str, Any]]:
        await self._discovered(patient=True)
        return await super().receive_named(prefix)

    async def receive_reliably(self, channel: str) -> Delivery:
        await self._discovered(patient=True)
        return await super().receive_reliably(channel)

    async def group_add(self, group: str, channel: str) -> None:
        await self._discovered()
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._discovered()
        await super().group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.options.discover is not None:
            await self._discovered()
        await super().group_send(group, message)

    def group_send_sync(self, group: str, message: dict[str, Any]) -> None:
        if self.options.discover is not None:
            refuse_event_loop("group_send")
            asyncio.run(self._discovered())
        super().group_send_sync(group, message)

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        await self._discovered()
        return await super().dead_letters(channel)

    async def requeue_dead_letters(self, ids: Iterable[str]) -> list[str]:
        await self._discovered()
        return await super().requeue_dead_letters(ids)

    async def drop_dead_letters(self, ids: Iterable[str]) -> list[str]:
        await self._discovered()
        return await super().drop_dead_letters(ids)

    async def global_statistics(self) -> Statistics:
        await self._discovered()
        return await super().global_statistics()

    async def channel_statistics(self, channel: str) -> Statistics:
        await self._discovered()
        return await super().channel_statistics(channel)

    async def statistics(self) -> LayerStatistics:
        await self._discovered()
        return await super().statistics()

    async def flush(self) -> None:
        await self._discovered()
        await super().flush()
