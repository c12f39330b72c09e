"""`manage.py runworker` as real processes: what a stop signal, a failing consumer and a wrong name do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.runworker import DATABASE_FREE, DEADLINE_S, HERE, START_DEADLINE_S, WorkerProcess

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("channel", ["waiting", "threaded"])
def test_a_stop_signal_lets_the_running_handler_finish_and_exits_0(
    worker: Callable[..., WorkerProcess], channel: str, number: signal.Signals
) -> None:
    process = worker("waiting", "threaded").ready()
    process.send(channel, type="job", n=1, seconds=1.0)
    process.until(lambda: "begun 1" in process.notes, "begun job")
    code, _ = process.stop(number)
    assert (code, process.notes) == (0, ["begun 1", "ended 1"]), process.output


def test_an_idle_worker_ends_at_once_with_0(worker: Callable[..., WorkerProcess]) -> None:
    process = worker("waiting").ready()
    code, seconds = process.stop()
    assert code == 0, process.output
    assert seconds < 3
    assert "Traceback" not in process.output


def test_what_waits_at_the_stop_is_done_by_the_next_worker_in_order(worker: Callable[..., WorkerProcess]) -> None:
    first = worker("waiting").ready()
    first.send("waiting", type="job", n=0, seconds=1.0)
    first.until(lambda: "begun 0" in first.notes, "begun job")
    for n in range(1, 6):
        first.send("waiting", type="job", n=n)
    code, _ = first.stop()
    assert (code, first.notes) == (0, ["begun 0", "ended 0"]), first.output
    second = worker("waiting").ready()
    second.until(lambda: "ended 5" in second.notes, "the last job")
    assert [note for note in second.notes if note.startswith("ended")] == [f"ended {n}" for n in range(1, 6)]


def test_a_failing_consumer_is_logged_with_its_traceback_and_the_worker_goes_on(
    worker: Callable[..., WorkerProcess],
) -> None:
    process = worker("waiting").ready()
    process.send("waiting", type="fail")
    process.send("waiting", type="no_such_handler")
    process.send("waiting", payload="without a type")
    process.send("waiting", type="job", n=1)
    process.until(lambda: "ended 1" in process.notes, "job after the failures")
    assert "Traceback" in process.output
    assert "this consumer was told to fail" in process.output
    assert "No handler for message type no_such_handler" in process.output
    assert "without a type on channel 'waiting'" in process.output
    assert process.stop()[0] == 0


@pytest.mark.parametrize("channel", ["waiting", "threaded"])
def test_a_handler_that_outlasts_the_drain_time_is_cut_and_the_exit_code_says_so(
    worker: Callable[..., WorkerProcess], channel: str
) -> None:
    process = worker(channel, TRUNKLINE_DRAIN_TIMEOUT="0.3").ready()
    process.send(channel, type="job", n=1, seconds=60)
    process.until(lambda: "begun 1" in process.notes, "begun job")
    code, seconds = process.stop()
    assert code == 1
    assert seconds < 8
    assert f"cut off the running handlers of {channel}" in process.output


def test_as_process_1_a_worker_stops_on_sigterm_too(worker: Callable[..., WorkerProcess]) -> None:
    unshare = shutil.which("unshare")
    allowed = unshare and subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True).returncode == 0
    if not allowed:
        pytest.skip("making a process 1 needs unshare and the right to use it")
    # unshare itself passes no signals on: the worker is its only child.
    process = worker("waiting", wrap=(str(unshare), "--pid", "--fork", "--kill-child")).ready()
    assert "Worker 1 listens" in process.output
    process.send("waiting", type="job", n=1, seconds=0.5)
    process.until(lambda: "begun 1" in process.notes, "begun job")
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    assert process.process.wait(DEADLINE_S) == 0
    assert process.notes == ["begun 1", "ended 1"]


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        (
            ["thumbnial"],
            {},
            "has no consumer for channel 'thumbnial' in its ChannelNameRouter; it has careful, threaded, w",
        ),
        (["bad name"], {}, "A channel name must be a string of 1 to 99 ASCII letters"),
        (["--layer", "other", "waiting"], {}, "CHANNEL_LAYERS has no layer 'other'."),
        (["waiting"], {"TRUNKLINE_DRAIN_TIMEOUT": "soon"}, "TRUNKLINE_DRAIN_TIMEOUT must be a number of seconds"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    worker: Callable[..., WorkerProcess], arguments: list[str], environ: dict[str, str], sentence: str
) -> None:
    process = worker(*arguments, **environ)
    assert process.process.wait(START_DEADLINE_S) == 1
    assert process.output.startswith("CommandError: ")
    assert sentence in process.output
    assert process.output.count("\n") == 1


@pytest.mark.parametrize(
    ("apps", "warned"),
    [("trunkline,channels", False), ("channels,trunkline", True), ("trunkline", False)],
)
def test_a_system_check_warns_when_another_runworker_wins(apps: str, warned: bool, tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env={
            **os.environ,
            **DATABASE_FREE,
            "PYTHONPATH": str(HERE),
            "CHANNEL_LAYERS_BACKEND": "channels.layers.InMemoryChannelLayer",
            "WORKER_PROJECT_APPS": apps,
        },
        capture_output=True,
        text=True,
        timeout=START_DEADLINE_S,
    )
    assert answer.returncode == 0, answer.stderr
    assert ("trunkline.W001" in answer.stderr) is warned
    assert ("Put 'trunkline' before 'channels' in INSTALLED_APPS." in answer.stderr) is warned
