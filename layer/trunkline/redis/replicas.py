"""Waiting until replicas have what was sent (the option ``wait_replicas``)."""

from __future__ import annotations

import time
from typing import Any

from trunkline.config import RedisOptions
from trunkline.redis.connections import Wire
from trunkline.redis.greeting import PATIENCE
from trunkline.redis.process import Server
from trunkline.redis.replies import Arg, ServerAway

FIRST_WAIT_S = 0.1  # seconds; the first WAIT travels with the calls, of which perhaps none was accepted
WAIT_S = 1.0  # seconds that each further one may take


def first(options: RedisOptions) -> list[Arg]:
    """WAIT for what this connection has written so far."""
    return [b"WAIT", options.wait_replicas, int(FIRST_WAIT_S * 1000)]


def enough(reply: Any, wanted: int) -> bool:
    """Whether the reply to WAIT says that as many replicas as wanted confirmed."""
    return isinstance(reply, int) and reply >= wanted


async def confirm(wire: Wire, server: Server, options: RedisOptions, reply: Any) -> str:
    """Wait until enough replicas confirmed; returns an empty text, or the sentence for who sent what they did not.

    How long is counted from when replicas were first missing, as for an outage.

    :param reply: to the first WAIT.
    :raises ServerAway: if the connection broke meanwhile; the same calls are then sent again, and nothing doubles.
    """
    wanted = options.wait_replicas
    while True:
        if isinstance(reply, Exception):
            if not wire.connected:  # the primary became a replica
                raise ServerAway(str(reply))
            return f"{server.label} stored the message, but can't say whether replicas have it ({reply})."
        if enough(reply, wanted):
            server.unconfirmed_since = None
            return ""
        now = time.monotonic()
        if server.unconfirmed_since is None:
            server.unconfirmed_since = now
        rest = server.unconfirmed_since + options.retry_time - now
        if rest <= 0:
            return (
                f"{server.label} stored the message, but {reply} of the {wanted} replicas that `wait_replicas` wants "
                f"confirmed it within {options.retry_time:g} s."
            )
        wait_ms = max(1, int(min(rest, WAIT_S) * 1000))
        (reply,) = await wire.call([[b"WAIT", wanted, wait_ms]], PATIENCE + WAIT_S, blocking=WAIT_S)
