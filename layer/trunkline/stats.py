"""What a layer counts about itself, and warnings that are not allowed to flood a log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

WARN_EVERY = 10.0  # seconds between two warnings of one kind: visible, and never a flood


@dataclass
class Counters:
    """Totals of one layer object in one process since it was first used.

    :ivar sent: messages accepted by ``send``.
    :ivar group_sent: messages accepted by ``group_send``.
    :ivar received: messages returned by ``receive``.
    :ivar full: sends refused with ``ChannelFull``.
    :ivar group_dropped: deliveries to one member that was full, or to an inbox that was.
    :ivar expired: messages whose expiry had passed before anybody received them.
    :ivar garbage: records that could not be understood and were skipped.
    :ivar unknown_version: records of a newer release's version, skipped.
    :ivar undecryptable: records that the keys of this process don't open, or that are in the clear where it has keys,
        skipped.
    """

    sent: int = 0
    group_sent: int = 0
    received: int = 0
    full: int = 0
    group_dropped: int = 0
    expired: int = 0
    garbage: int = 0
    unknown_version: int = 0
    undecryptable: int = 0


def report_unreadable(counters: Counters, warn: LimitedLog, error: ValueError, place: str) -> None:
    """Count and log a record that is skipped.

    :param error: why; what has no counter of its own (``trunkline.codec.Unreadable``) is garbage.
    """
    counter = getattr(error, "counter", "garbage")
    setattr(counters, counter, getattr(counters, counter) + 1)
    warn(counter, "Skipped a record in %s: %s.", place, error)


class LimitedLog:
    """Log at most one message of a kind every ``WARN_EVERY`` seconds, saying how many were held back.

    :param clock: monotonic seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def __call__(
        self, kind: str, message: str, *args: object, level: int = logging.WARNING, exc_info: bool = False
    ) -> None:
        now = self._clock()
        last = self._last.get(kind)
        if last is not None and now - last < WARN_EVERY:
            self._held[kind] = self._held.get(kind, 0) + 1
            return
        held = self._held.pop(kind, 0)
        self._last[kind] = now
        suffix = f" ({held} more since the last such line)" if held else ""
        self._logger.log(level, message + suffix, *args, exc_info=exc_info)
