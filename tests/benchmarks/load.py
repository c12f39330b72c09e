"""How much one measurement does, and the messages that it sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

MESSAGE_BYTES = 200  # of one message, packed by msgpack
SENDS_IN_FLIGHT = 64
QUEUE_RECEIVERS = 8
MEMBERS = 500  # of the group, in each of the two processes
JOINED = 3_000  # channels of one process that join and leave
SIZES = (100, 1_000, 10_000)  # members of a growing group


@dataclass(frozen=True)
class Load:
    """What one measurement gets to do.

    :ivar messages: sends, or joins.
    :ivar scale: what all numbers of members and channels are multiplied by; 1 but in a quick look.
    :ivar redis_url: the server, for a look at its own figures; empty where the layer uses none.
    """

    messages: int
    scale: float
    redis_url: str

    def of(self, count: int) -> int:
        """``count`` members or channels, scaled."""
        return max(1, round(count * self.scale))


def message(number: int, **more: str) -> dict[str, Any]:
    """The message with this number: a dict of ``MESSAGE_BYTES`` bytes, whatever else it carries."""
    fields = {"type": "bench.message", "n": number, **more, "body": ""}
    # One byte more for the length of a text longer than 31 characters.
    return {**fields, "body": "x" * (MESSAGE_BYTES - 1 - len(msgpack.packb(fields)))}
