"""`trunkline migrate | daphne | worker | health` as real processes, on the chat example."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CHAT = Path(__file__).parents[2] / "examples" / "chat"
DEADLINE_S = 40.0  # an interpreter that imports Django on a busy machine


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "CHANNEL_", "REDIS_"))}
    return {
        **kept,
        "ASGI_APPLICATION": "chatsite.asgi:application",
        "CHANNEL_LAYERS_BACKEND": "trunkline.IPCChannelLayer",
        "CHAT_DATA_DIR": str(tmp_path / "data"),
        "DJANGO_DEBUG": "1",  # serves static files that nobody collected
        "TRUNKLINE_IPC_DIR": str(tmp_path / "ipc"),
        "TRUNKLINE_HEALTH_FILE": str(tmp_path / "health"),
        "TRUNKLINE_PORT": str(port),
        "TRUNKLINE_WORKER_CHANNELS": "thumbnail",
    }


def trunkline(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trunkline", *arguments],
        cwd=CHAT, env=environ, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip


@pytest.fixture
def process(environ: dict[str, str], request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    assert trunkline(environ, "migrate").returncode == 0
    process = subprocess.Popen([sys.executable, "-m", "trunkline", request.param], cwd=CHAT, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("process", ["daphne", "worker"], indirect=True)
def test_a_process_becomes_well_and_ends_with_0_at_sigterm(
    process: subprocess.Popen[bytes], environ: dict[str, str], request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["process"]
    end = time.monotonic() + DEADLINE_S
    while trunkline(environ, "health", kind).returncode != 0:
        assert process.poll() is None, f"{kind} ended with {process.returncode}"
        assert time.monotonic() < end, f"{kind} did not become well"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=DEADLINE_S) == 0
    unwell = trunkline(environ, "health", kind)
    assert unwell.returncode == 1
    assert unwell.stdout.count("\n") == 1


def test_a_migration_that_is_stopped_is_no_success(environ: dict[str, str], tmp_path: Path) -> None:
    settings = tmp_path / "slow_settings.py"
    settings.write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environ |= {"DJANGO_SETTINGS_MODULE": "slow_settings", "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "trunkline", "migrate"], cwd=CHAT, env=environ, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=DEADLINE_S) == 1


@pytest.mark.parametrize("command", ["migrate", "daphne", "worker"])
def test_a_wrong_environment_is_one_sentence(environ: dict[str, str], command: str) -> None:
    refused = trunkline({**environ, "ASGI_APPLICATION": "chatsite.asgi.application"}, command)
    assert refused.returncode == 1
    assert refused.stderr.startswith("trunkline: ASGI_APPLICATION is 'chatsite.asgi.application'; it takes module:")
    assert refused.stderr.count("\n") == 1
