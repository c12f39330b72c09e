"""`manage.py runworker` as real processes: what a stop signal, a failing consumer and a wrong name do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from support.servers import RedisServer
from trunkline import RedisChannelLayer

HERE = Path(__file__).parent
START_DEADLINE_S = 30.0  # an interpreter that imports Django on a busy machine
DEADLINE_S = 15.0
DATABASE_FREE = {"DJANGO_SETTINGS_MODULE": "worker_project.settings"}

pytestmark = pytest.mark.redis


class WorkerProcess:
    """One `runworker`, with its diary and its output."""

    def __init__(self, folder: Path, redis: RedisServer, *arguments: str, wrap: tuple[str, ...] = (), **environ: str):
        self.diary = folder / f"diary-{uuid.uuid4().hex}"
        self.diary.touch()
        self.log = folder / f"log-{uuid.uuid4().hex}"
        self.config = {"hosts": [redis.url], "prefix": f"test-{folder.name}"}
        environment = {
            **os.environ,
            **DATABASE_FREE,
            "PYTHONPATH": str(HERE),
            "CHANNEL_LAYERS_BACKEND": "trunkline.RedisChannelLayer",
            "CHANNEL_LAYERS_CONFIG": json.dumps(self.config),
            "WORKER_PROJECT_DIARY": str(self.diary),
            **environ,
        }
        command = [*wrap, sys.executable, "-m", "django", "runworker", *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def notes(self) -> list[str]:
        return self.diary.read_text().splitlines()

    def until(self, true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        end = time.monotonic() + deadline_s
        while not true():
            assert time.monotonic() < end, f"no {what} within {deadline_s} s; output:\n{self.output}"
            assert self.process.poll() is None or true(), f"ended with {self.process.poll()}; output:\n{self.output}"
            time.sleep(0.02)

    def ready(self) -> WorkerProcess:
        self.until(lambda: "listens on" in self.output, "sign of life", START_DEADLINE_S)
        return self

    def send(self, channel: str, **message: Any) -> None:
        async def send() -> None:
            layer = RedisChannelLayer(**self.config)
            try:
                await layer.send(channel, message)
            finally:
                await layer.close()

        async_to_sync(send)()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Exit code, and seconds from the signal to the end."""
        begin = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        return code, time.monotonic() - begin


@pytest.fixture
def worker(tmp_path: Path, shared_redis: list[RedisServer]) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start(*arguments: str, **options: Any) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, shared_redis[0], *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait(DEADLINE_S)


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
        (["thumbnial"], {}, "has no consumer for channel 'thumbnial' in its ChannelNameRouter; it has threaded, wait"),
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
