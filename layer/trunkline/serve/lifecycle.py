"""How a process of the deployment ends: which signals ask for it, and how long each part of it may take."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

from trunkline.errors import ConfigurationError

__all__ = ["DEFAULT_DRAIN_S", "LAME_DUCK_S", "MARGIN_S", "StopSignals", "drain_timeout", "stop_grace"]

DEFAULT_DRAIN_S = 30.0  # longer than nearly every request or job takes, short enough for a deploy to go on
LAME_DUCK_S = 5.0  # while load balancers learn that a process leaves
MARGIN_S = 5.0  # cutting off what didn't finish, closing the channel layer, the interpreter's own end
_LONGEST_DRAIN_S = 86400.0


def drain_timeout(environ: Mapping[str, str]) -> float:
    """How long work in flight may go on after a stop signal, in seconds, from ``TRUNKLINE_DRAIN_TIMEOUT``.

    :raises ConfigurationError: when the value isn't a number from 0 to 86400.
    """
    text = environ.get("TRUNKLINE_DRAIN_TIMEOUT", "").strip()
    if not text:
        return DEFAULT_DRAIN_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_DRAIN_S:
        raise ConfigurationError(f"TRUNKLINE_DRAIN_TIMEOUT must be a number of seconds from 0 to 86400, not {text!r}.")
    return seconds


def stop_grace(drain_s: float) -> int:
    """Whole seconds that a supervisor has to wait between SIGTERM and SIGKILL for a process that drains ``drain_s``."""
    return math.ceil(LAME_DUCK_S + drain_s + MARGIN_S)


class StopSignals:
    """Hears SIGTERM and SIGINT from ``__enter__`` to ``__exit__``, also while nobody is ready to act on them.

    As process 1 of a container a process has no default reaction to these signals, so the handlers are set as
    early as possible; a signal that came before :meth:`tell` is told then. Only the main thread can hear signals:
    elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._callback: Callable[[], object] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._hear)
            except ValueError:
                break  # not the main thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def tell(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once for each signal, those already heard included; from inside the signal handler."""
        self._callback = callback
        for _ in range(self.heard):
            callback()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard += 1
        if self._callback is not None:
            self._callback()
