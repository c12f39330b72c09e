"""The channel layers under comparison."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CAPACITY = 100_000  # above what any row has under way, so that capacity never decides


@dataclass(frozen=True)
class Target:
    """One channel layer under measurement.

    :ivar backend: dotted path, as ``CHANNEL_LAYERS`` has it.
    :ivar weight: how many times a row's messages it gets, so that a fast layer isn't measured for an instant only.
    """

    name: str
    backend: str
    weight: int

    @property
    def on_redis(self) -> bool:
        return self.name != "ipc"

    def config(self, redis_url: str, directory: str) -> dict[str, Any]:
        """The layer's CONFIG.

        :param redis_url: the server that all layers with one share.
        :param directory: an empty directory in memory, for the layer that needs no server.
        """
        if not self.on_redis:
            return {"directory": directory, "capacity": CAPACITY}
        if self.name == "redis":
            return {"hosts": [redis_url], "capacity": CAPACITY}
        # Without a socket timeout of its own, redis-py's default would end channels_redis' blocking reads.
        return {"hosts": [{"address": redis_url, "socket_timeout": None}], "capacity": CAPACITY}


TARGETS = (
    Target("redis", "trunkline.RedisChannelLayer", 10),
    Target("ipc", "trunkline.IPCChannelLayer", 30),
    Target("core", "channels_redis.core.RedisChannelLayer", 1),
    Target("pubsub", "channels_redis.pubsub.RedisPubSubChannelLayer", 5),
)
REFERENCES = ("core", "pubsub")
OURS = ("redis", "ipc")


def build(backend: str, config: Mapping[str, Any]) -> Any:
    """Make the layer, the way Channels does."""
    module, _, name = backend.rpartition(".")
    return getattr(importlib.import_module(module), name)(**config)
