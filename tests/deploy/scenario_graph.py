"""supervisord, Compose and the chart start one process graph, the table's, with the same variables and stop grace."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import yaml

from cluster.build import built
from deploy.support.engine import ROOT
from trunkline.serve.graph import GRAPH, LAYER_VARIABLES, Process
from trunkline.serve.lifecycle import stop_grace
from trunkline_supervisor.plan import plan_from

# What a dress sets for the project or for its own sake; the table holds what Trunkline reads.
OF_THE_PROJECT = ("DJANGO_", "DATABASE_URL")


@dataclass
class Started:
    """What a dress starts as one process of the table."""

    command: list[str]
    variables: set[str]
    grace_s: int | None
    told_grace: str | None = None
    after: set[str] = field(default_factory=set)


def supervisord(drain: str) -> dict[str, Started]:
    environ = {
        "ASGI_APPLICATION": "chatsite.asgi:application",
        "TRUNKLINE_WORKER_CHANNELS": "thumbnail",
        "TRUNKLINE_DRAIN_TIMEOUT": drain,
        "TRUNKLINE_WEBSOCKET_TIMEOUT": "86400",
    }
    parser = configparser.RawConfigParser(strict=True)
    parser.read_string(plan_from(environ).config("/run/state", python="python"))
    programs = {name.partition(":")[2].partition("-")[0]: dict(parser.items(name)) for name in parser.sections()}
    everything = {name for process in GRAPH for name in process.variables}
    return {  # its processes inherit what it was given, whatever that is
        name: Started(shlex.split(programs[name]["command"])[2:], everything, int(programs[name]["stopwaitsecs"]))
        for name in ("daphne", "worker")
    }


def compose(drain: str) -> dict[str, Started]:
    environ = {**os.environ, "TRUNKLINE_DRAIN_TIMEOUT": drain, "TRUNKLINE_STOP_GRACE": str(stop_grace(float(drain)))}
    rendered = subprocess.run(
        ["docker", "compose", "--env-file", os.devnull, "config", "--format", "json"],
        cwd=ROOT, env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = {}
    for name, service in json.loads(rendered.stdout)["services"].items():
        if name in {process.name for process in GRAPH}:
            grace = service.get("stop_grace_period")
            found[name] = Started(
                service["command"],
                set(service["environment"]),
                _seconds(grace) if grace else None,
                service["environment"].get("TRUNKLINE_STOP_GRACE"),
                set(service.get("depends_on", ())),
            )
    return found


def chart(drain: str, *more: str) -> dict[str, Started]:
    command = [str(built() / "helm"), "template", "demo", str(ROOT / "deploy" / "helm" / "trunkline")]
    rendered = subprocess.run(
        [*command, "--set", f"drainTimeout={drain}", *more], check=True, capture_output=True, text=True
    )
    found = {}
    for pod in _pods(yaml.safe_load_all(rendered.stdout)):
        for container in pod["containers"]:
            if container["name"] in {process.name for process in GRAPH}:
                environment = {each["name"]: each.get("value") for each in container["env"]}
                found[container["name"]] = Started(
                    container["command"],
                    set(environment),
                    pod.get("terminationGracePeriodSeconds"),
                    environment.get("TRUNKLINE_STOP_GRACE"),
                    {"migrate"} if "initContainers" in pod else set(),
                )
    return found


def _pods(documents: Iterator[Mapping[str, Any] | None]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        if document and document["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield document["spec"]["template"]["spec"]


def _seconds(text: str) -> int:
    minutes, _, seconds = text.rpartition("m")
    return int(minutes or 0) * 60 + int(seconds.removesuffix("s") or 0)


@cache
def dress(name: str, drain: str = "30") -> dict[str, Started]:
    return {"supervisord": supervisord, "compose": compose, "chart": chart}[name](drain)


@pytest.mark.parametrize("name", ["compose", "chart"])
def test_a_dress_starts_each_process_of_the_table_by_its_name(name: str) -> None:
    started = dress(name)
    assert set(started) == {process.name for process in GRAPH}
    for process in GRAPH:
        assert started[process.name].command == ["trunkline", process.name]


def test_supervisord_starts_the_same_modules_as_they_do() -> None:
    # Its start and its migrations are one step, which `make run` and the container's command take before it.
    started = dress("supervisord")
    serving = {process.name: process for process in GRAPH if not process.step}
    assert set(started) == set(serving)
    for name, process in serving.items():
        assert tuple(started[name].command[: len(process.module)]) == process.module


@pytest.mark.parametrize("name", ["compose", "chart"])
@pytest.mark.parametrize("process", GRAPH, ids=lambda process: process.name)
def test_a_dress_gives_a_process_the_variables_of_the_table_and_no_others(name: str, process: Process) -> None:
    given = {each for each in dress(name)[process.name].variables if not each.startswith(OF_THE_PROJECT)}
    known = {each for each in process.variables if not each.startswith(OF_THE_PROJECT)}
    assert given <= known, f"{process.name} does not read {sorted(given - known)}"
    # How the chart's layer is configured decides which of these it sets; see the next test.
    assert known - given <= (set(LAYER_VARIABLES) if name == "chart" else set())


def test_the_chart_passes_on_every_variable_of_the_channel_layer() -> None:
    ways = [
        ("--set", "channelLayers.backend=trunkline.RedisChannelLayer"),
        ("--set", "channelLayers.config.capacity=500"),
        ("--set", "channelLayers.existingSecret=layer"),
    ]
    for process in GRAPH:
        seen = set().union(*(chart("30", *way)[process.name].variables for way in ways))
        assert set(LAYER_VARIABLES) <= seen


@pytest.mark.parametrize("name", ["supervisord", "compose", "chart"])
@pytest.mark.parametrize("drain", ["0", "30", "75"])
def test_the_stop_grace_follows_from_the_drain_time(name: str, drain: str) -> None:
    started = dress(name, drain)
    for process in GRAPH:
        if process.drains:
            assert started[process.name].grace_s == stop_grace(float(drain))
            if name != "supervisord":
                assert started[process.name].told_grace == str(stop_grace(float(drain)))


@pytest.mark.parametrize("name", ["compose", "chart"])
def test_what_serves_waits_for_the_migrations(name: str) -> None:
    for process in GRAPH:
        if "migrate" in process.after:
            assert "migrate" in dress(name)[process.name].after
        if name == "compose":
            assert set(process.after) <= dress(name)[process.name].after
