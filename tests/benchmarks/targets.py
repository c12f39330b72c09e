"""The channel layers under comparison."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CAPACITY = 100_000  # above what any row has under way, so that capacity never decides


@dataclass(frozen=True)
class Target:
    """One channel layer under measurement, or a bare loop that channel layers are compared with.

    :ivar backend: dotted path, as ``CHANNEL_LAYERS`` has it.
    :ivar weight: how many times a row's messages it gets, so that a fast layer isn't measured for an instant only.
    :ivar label: what the tables call it.
    """

    name: str
    backend: str
    weight: int
    label: str = ""

    @property
    def title(self) -> str:
        return self.label or self.backend

    @property
    def bare(self) -> bool:
        return self.name in BARE

    @property
    def on_redis(self) -> bool:
        return self.name != "ipc"

    def config(self, redis_url: str, directory: str) -> dict[str, Any]:
        """The layer's CONFIG.

        :param redis_url: the server that all layers with one share.
        :param directory: an empty directory in memory, for the layer that needs no server.
        """
        if self.bare:
            return {"url": redis_url}
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
    Target("redis-py", "benchmarks.bare.over_redis_py", 10, "bare loop over redis-py"),
    Target("hiredis", "benchmarks.bare.over_hiredis", 15, "bare loop over hiredis"),
)
OURS = ("redis", "ipc")
REFERENCES = ("core", "pubsub")
BARE = ("redis-py", "hiredis")  # what ours is compared with as well, and what is compared with the references


def build(backend: str, config: Mapping[str, Any]) -> Any:
    """Make the layer, the way Channels does."""
    module, _, name = backend.rpartition(".")
    return getattr(importlib.import_module(module), name)(**config)
