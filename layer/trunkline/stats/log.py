"""Warnings that are not allowed to flood a log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from trunkline.stats.counters import Counters

WARN_EVERY = 10.0  # seconds between two warnings of one kind: visible, and never a flood


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
