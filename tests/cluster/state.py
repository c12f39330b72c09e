"""What runs: written before anything is started, so that `down` finds everything after a crash too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.places import LOGS, RUN, STATE, Trouble


def read() -> dict[str, Any]:
    """What was recorded; empty when no cluster is there."""
    try:
        found: dict[str, Any] = json.loads(STATE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def write(state: dict[str, Any]) -> None:
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = STATE.with_suffix(".new")
    temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
    os.replace(temporary, STATE)


def start(name: str, command: list[str | Path], **environ: str) -> None:
    """Start a part of the cluster, its output in a log, its process in the record."""
    LOGS.mkdir(parents=True, exist_ok=True)
    # A proxy between the parts of one machine would only be in the way.
    variables = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    with (LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**variables, **environ},
            start_new_session=True,
        )
    state = read()
    state.setdefault("processes", {})[name] = [process.pid, begun(process.pid)]
    write(state)


def stop(name: str, deadline_s: float = 20.0) -> None:
    """End a part of the cluster, by force after the deadline; one that is gone already is fine."""
    pid, beginning = read().get("processes", {}).get(name, (0, None))
    end_process(pid, beginning, deadline_s)


def end_process(pid: int, beginning: int | None, deadline_s: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not same(pid, beginning):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(Trouble):
            until(lambda: not same(pid, beginning), f"end of process {pid}", deadline_s)


def alive(name: str) -> bool:
    pid, beginning = read().get("processes", {}).get(name, (0, None))
    return same(pid, beginning)


def same(pid: int, beginning: int | None) -> bool:
    """Whether the process still runs: the number may belong to another one by now."""
    if not pid or beginning is None:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return begun(pid) == beginning


def begun(pid: int) -> int | None:
    """When the process began, in the kernel's ticks since boot; ``None`` when there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def until(true: Callable[[], object], what: str, deadline_s: float) -> None:
    """Ask again and again; the parts of the cluster tell nobody when they are ready.

    :raises Trouble: when it takes longer than the deadline.
    """
    end = time.monotonic() + deadline_s
    while not true():
        if time.monotonic() > end:
            raise Trouble(f"No {what} within {deadline_s:g} s; the logs are in {LOGS}.")
        time.sleep(0.1)


def tail(name: str, lines: int = 15) -> str:
    with contextlib.suppress(FileNotFoundError):
        return "\n".join((LOGS / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
    return ""
