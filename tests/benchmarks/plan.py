"""What is compared: the layers, the rows and how many messages each gets."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgpack

CAPACITY = 100_000  # above what any row has under way, so that capacity never decides
MESSAGE_BYTES = 200  # of one message, packed by msgpack
SENDS_IN_FLIGHT = 64
QUEUE_RECEIVERS = 8
MEMBERS = 500  # of the group, in each of the two processes


@dataclass(frozen=True)
class Target:
    """One channel layer under measurement.

    :ivar backend: dotted path, as ``CHANNEL_LAYERS`` has it.
    :ivar weight: how many times the row's messages it gets, so that a fast layer isn't measured for an instant only.
    """

    name: str
    backend: str
    weight: int

    def config(self, redis_url: str, directory: str) -> dict[str, Any]:
        """The layer's CONFIG.

        :param redis_url: the server that all layers with one share.
        :param directory: an empty directory in memory, for the layer that needs no server.
        """
        if self.name == "ipc":
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


@dataclass(frozen=True)
class Row:
    """One workload between two processes.

    :ivar messages: sends of a target with weight 1.
    :ivar better: whether more or less of ``unit`` is better.
    """

    name: str
    title: str
    unit: str
    better: Literal["more", "less"]
    messages: int
    weighted: bool
    roles: tuple[str, str]

    def messages_for(self, target: Target) -> int:
        return self.messages * target.weight if self.weighted else self.messages

    def speedup(self, ours: float, reference: float) -> float:
        """How many times better ``ours`` is; above 1 is better, whichever way the unit counts."""
        return ours / reference if self.better == "more" else reference / ours


ROWS = (
    Row(
        "queue",
        f"Queue: normal channel, {SENDS_IN_FLIGHT} sends in flight, {QUEUE_RECEIVERS} receivers",
        "messages/s",
        "more",
        1_500,
        True,
        ("queue_sender", "queue_receiver"),
    ),
    Row(
        "latency",
        "Request and answer: process-specific channels, 1 in flight, median",
        "µs",
        "less",
        400,
        False,
        ("asker_one", "answerer_one"),
    ),
    Row(
        "answers",
        f"Request and answer: process-specific channels, {SENDS_IN_FLIGHT} in flight",
        "answers/s",
        "more",
        768,
        True,
        ("asker", "answerer"),
    ),
    Row(
        "groups",
        f"Group fan-out: 2 processes with {MEMBERS} members each",
        "deliveries/s",
        "more",
        20,
        True,
        ("group_sender", "group_member"),
    ),
)


def build(backend: str, config: Mapping[str, Any]) -> Any:
    """Make the layer, the way Channels does."""
    module, _, name = backend.rpartition(".")
    return getattr(importlib.import_module(module), name)(**config)


def message(number: int, **more: str) -> dict[str, Any]:
    """The message with this number: a dict of ``MESSAGE_BYTES`` bytes, whatever else it carries."""
    fields = {"type": "bench.message", "n": number, **more, "body": ""}
    # One byte more for the length of a text longer than 31 characters.
    return {**fields, "body": "x" * (MESSAGE_BYTES - 1 - len(msgpack.packb(fields)))}
