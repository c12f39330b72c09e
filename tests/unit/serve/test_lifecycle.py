"""Signals and times of a stop."""

from __future__ import annotations

import os
import signal

import pytest

from trunkline.errors import ConfigurationError
from trunkline.serve.lifecycle import StopSignals, drain_timeout, stop_grace


@pytest.mark.parametrize(("text", "seconds"), [(None, 30.0), ("", 30.0), (" 12.5 ", 12.5), ("0", 0.0)])
def test_the_drain_time_comes_from_the_environment(text: str | None, seconds: float) -> None:
    environ = {} if text is None else {"TRUNKLINE_DRAIN_TIMEOUT": text}
    assert drain_timeout(environ) == seconds


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "inf", "86401", "1e99"])
def test_a_drain_time_that_makes_no_sense_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^TRUNKLINE_DRAIN_TIMEOUT must be a number of seconds from 0 to"):
        drain_timeout({"TRUNKLINE_DRAIN_TIMEOUT": text})


def test_a_supervisor_waits_for_the_lame_duck_the_drain_and_a_margin() -> None:
    assert stop_grace(30.0) == 40
    assert stop_grace(0.5) == 11


def test_signals_heard_before_anybody_listens_are_told_later_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    told: list[str] = []
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        signals.tell(lambda: told.append("stop"))
        assert told == ["stop"]
        os.kill(os.getpid(), signal.SIGINT)
        assert told == ["stop", "stop"]
    assert signal.getsignal(signal.SIGTERM) == before
