"""Docker's command line for tests: everything they make carries one label and is gone afterwards."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
RUN = uuid.uuid4().hex[:8]  # of this process of pytest; in every name and label that it gives
LABEL = "org.trunkline.test"
COMMAND_DEADLINE_S = 300.0


class Failed(AssertionError):
    """A command failed; the message has its output."""


def run(*command: str, deadline_s: float = COMMAND_DEADLINE_S, **options: Any) -> str:
    """The output of a command.

    :raises Failed: when it exits with another code than 0.
    """
    answer = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, **options)
    if answer.returncode != 0:
        raise Failed(
            f"{' '.join(command)} ended with {answer.returncode}:\n{answer.stdout[-4000:]}{answer.stderr[-4000:]}"
        )
    output: str = answer.stdout
    return output


def docker(*arguments: str, **options: Any) -> str:
    return run("docker", *arguments, **options)


def until(condition: Callable[[], Any], what: str, deadline_s: float = 60.0, every_s: float = 0.2) -> Any:
    """Wait until ``condition()`` is true and return it; Docker tells of most things only when it is asked."""
    end = time.monotonic() + deadline_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"no {what} within {deadline_s:g} s"
        time.sleep(every_s)


@dataclass(frozen=True)
class Container:
    """A container by its id; what is asked about it is asked anew each time."""

    id: str

    def __repr__(self) -> str:
        return f"<Container {self.name}>"

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.id))[0]
        return found

    @property
    def name(self) -> str:
        return str(self.facts["Name"]).lstrip("/")

    @property
    def host(self) -> str:
        """The host name that its processes see."""
        return str(self.facts["Config"]["Hostname"])

    @property
    def pid(self) -> int:
        """The process id, on this machine, of its process 1."""
        return int(self.facts["State"]["Pid"])

    @property
    def health(self) -> str:
        state = self.facts["State"]
        return str(state.get("Health", {}).get("Status", state["Status"]))

    @property
    def started(self) -> str:
        return str(self.facts["State"]["StartedAt"])

    def logs(self) -> str:
        answer = subprocess.run(["docker", "logs", "--tail", "200", self.id], capture_output=True, text=True)
        return answer.stdout + answer.stderr

    def exec(self, *command: str) -> str:
        return docker("exec", self.id, *command)

    def stop(self, grace_s: int) -> float:
        """Stop it as Compose does; it has to end by itself, with 0. Returns the seconds that it took."""
        begin = time.monotonic()
        docker("stop", "--time", str(grace_s), self.id)
        took = time.monotonic() - begin
        self.ended_well()
        assert took < grace_s, f"{self} took {took:.1f} s to stop"
        return took

    def ended_well(self) -> None:
        """Its exit code is 0: it wasn't killed (137), and not for want of memory."""
        state = self.facts["State"]
        assert state["Status"] == "exited", f"{self} is {state['Status']}"
        assert not state["OOMKilled"], f"{self} ran out of memory"
        assert state["ExitCode"] == 0, f"{self} ended with {state['ExitCode']}:\n{self.logs()}"

    def start(self, deadline_s: float = 60.0) -> None:
        docker("start", self.id)
        self.well(deadline_s)

    def well(self, deadline_s: float = 60.0) -> None:
        until(lambda: self.health in ("healthy", "running"), f"good health of {self}", deadline_s)


def containers(*filters: str) -> list[Container]:
    """All containers, stopped ones too, that the filters let through (``label=...``)."""
    options = [part for text in filters for part in ("--filter", text)]
    return [Container(id) for id in docker("ps", "--all", "--quiet", "--no-trunc", *options).split()]


def remove(*filters: str) -> None:
    """Remove the containers, networks and volumes that the filters let through."""
    options = [part for text in filters for part in ("--filter", text)]
    for found, gone in (
        (("ps", "--all", "--quiet"), ("rm", "--force", "--volumes")),
        (("network", "ls", "--quiet"), ("network", "rm")),
        (("volume", "ls", "--quiet"), ("volume", "rm", "--force")),
    ):
        names = docker(*found, *options).split()
        if names:
            docker(*gone, *names)
