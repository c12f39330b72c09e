"""`make run`: it answers when it says so, every way to end it ends every process, and refusals are sentences."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.requirements import need
from support.servers import RedisServer
from support.stack import MakeRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds a run's processes through /proc, which Linux has"),
]

Start = Callable[..., MakeRun]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(MakeRun(tmp_path, **options))


def get(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def test_the_page_answers_when_the_address_is_printed_and_ctrl_c_in_a_terminal_ends_all_with_0(start: Start) -> None:
    run = start(terminal=True).ready()
    assert b"Trunkline chat" in get(run.url)
    facts = json.loads(get(f"{run.url}/whoami"))
    assert facts["role"] == "interface"
    assert facts["process_id"] in run.pids("-m daphne")
    assert len(run.pids("-m daphne")) == 2
    assert len(run.pids("runworker thumbnail")) == 1
    assert "2 Daphne processes and 1 worker talk through trunkline.IPCChannelLayer." in run.output
    run.type(b"\x03")
    assert run.ended() == 0, run.output
    assert "All processes have ended." in run.output
    assert "Error" not in run.output


def test_a_terminal_that_dies_ends_every_process(start: Start) -> None:
    run = start(terminal=True).ready()
    run.hang_up()
    run.ended()


@pytest.mark.parametrize(
    ("send", "number"),
    [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM), (os.kill, signal.SIGKILL)],
    ids=["SIGINT to the group", "SIGTERM to make", "SIGKILL to make"],
)
def test_a_signal_without_a_terminal_ends_every_process(
    start: Start, send: Callable[[int, signal.Signals], None], number: signal.Signals
) -> None:
    run = start().ready()
    send(run.pid, number)
    # make itself ends by the signal that it was sent, whatever its command says.
    assert run.ended() in (-number, 2, 128 + number)
    assert "All processes have ended." in run.output


def test_a_run_that_is_asked_itself_to_end_exits_with_0(start: Start) -> None:
    run = start().ready()
    [runner] = run.pids("trunkline_supervisor.local")
    os.kill(runner, signal.SIGTERM)
    assert run.ended() == 0, run.output


def test_a_process_that_dies_is_seen_in_the_log_and_replaced(start: Start) -> None:
    run = start().ready()
    victim = run.pids("-m daphne")[0]
    os.kill(victim, signal.SIGKILL)
    run.until(lambda: "(terminated by SIGKILL; not expected)" in run.output, "log line about the death")
    run.until(lambda: len(run.pids("-m daphne")) == 2, "second process again")
    assert victim not in run.pids("-m daphne")


def test_supervisord_s_own_death_ends_every_process_and_is_an_error(start: Start) -> None:
    run = start().ready()
    [supervisord] = run.pids("supervisor.supervisord")
    os.kill(supervisord, signal.SIGKILL)
    assert run.ended() == 2
    assert "supervisord ended by itself" in run.output


def test_a_process_that_can_not_be_kept_running_ends_the_run_with_its_name(start: Start) -> None:
    run = start(TRUNKLINE_WORKER_CHANNELS="thumbnail;oops=thumbnial")
    assert run.ended(120) == 2
    assert "The ASGI application has no consumer for channel 'thumbnial'" in run.output
    assert "worker-oops could not be kept running; its output is above." in run.output


def test_a_second_run_in_the_clone_is_one_sentence_and_disturbs_nothing(start: Start) -> None:
    first = start().ready()
    second = start()
    assert second.ended() == 2
    [line, make_says] = second.output.splitlines()
    assert line == (
        f"make run: it runs in this clone already (process {first.pids('trunkline_supervisor.local')[0]}, "
        f"{first.url}/); stop that one with Ctrl-C first."
    )
    assert make_says.startswith("make: ***")
    assert b"Trunkline chat" in get(first.url)


def test_a_taken_port_is_one_sentence(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port: int = other.getsockname()[1]
        run = start(port=port)
        assert run.ended() == 2
    assert run.output.splitlines()[0].startswith(f"make run: port {port} of 127.0.0.1 is taken by another program;")
    assert len(run.output.splitlines()) == 2


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"ASGI_PROCESSES": "two"}, "ASGI_PROCESSES is 'two'; it takes a whole number from 1 to 256."),
        ({"TRUNKLINE_BIND": "::1"}, "TRUNKLINE_BIND is '::1'; it takes an IPv4 address (a proxy in front"),
        ({"CHANNEL_LAYERS_BACKEND": "nodots"}, "CHANNEL_LAYERS_BACKEND must be the dotted path of a channel layer"),
    ],
)
def test_a_wrong_variable_is_one_sentence(start: Start, variables: dict[str, str], sentence: str) -> None:
    run = start(**variables)
    assert run.ended() == 2
    assert run.output.startswith("make run: ")
    assert sentence in run.output
    assert len(run.output.splitlines()) == 2


@pytest.mark.redis
@pytest.mark.parametrize("local", [False, True], ids=["REDIS_URL", "a local Redis"])
def test_redis_is_used_where_it_is_given(start: Start, local: bool, shared_redis: list[RedisServer]) -> None:
    if local:
        need("redis-server on PATH", shutil.which("redis-server"), "apt-get install redis-server")
    variables: dict[str, Any] = {"TRUNKLINE_LOCAL_REDIS": "1"} if local else {"REDIS_URL": shared_redis[0].url}
    run = start(**variables).ready()
    assert "talk through trunkline.RedisChannelLayer." in run.output
    assert len(run.pids("redis-server")) == int(local)
    os.kill(run.pid, signal.SIGTERM)
    run.ended()
