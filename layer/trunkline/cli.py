"""The ``trunkline`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from trunkline import __version__
from trunkline.config import JUDGES, Endpoint, IPCOptions, LocalOptions, RedisOptions, SentinelService
from trunkline.env import channel_layers_from_env
from trunkline.errors import ConfigurationError
from trunkline.ops import dead_letters, statistics
from trunkline.serve.commands import daphne, migrate, worker
from trunkline.serve.health import daphne_problem, worker_problem

__all__ = ["describe", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, or 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(
        prog="trunkline", description="Trunkline: a channel layer for Django Channels, and the parts that deploy it."
    )
    parser.add_argument("--version", action="version", version=f"trunkline {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    commands.add_parser(
        "config",
        help="show the channel layer that the environment configures",
        description=(
            "Shows what CHANNEL_LAYERS becomes in a project whose settings call channel_layers_from_env(), every "
            "option with its value, secrets as ***. Exits with 1 and one sentence when the environment is wrong."
        ),
    )
    for name, help in (
        ("migrate", "bring the project's database up to date, and end"),
        ("daphne", "serve HTTP and WebSocket as the environment says, until SIGTERM"),
        ("worker", "serve the channels of one worker pool, until SIGTERM"),
    ):
        commands.add_parser(
            name,
            help=help,
            description=f"One process of a deployment: {help}. Everything comes from the environment: ASGI_APPLICATION "
            "or DJANGO_SETTINGS_MODULE and the TRUNKLINE_ variables in the README. To be started in the project's "
            "directory; it runs as it is as process 1 of a container.",
        )
    health = commands.add_parser(
        "health",
        help="say whether a process beside this one is well",
        description="Exits with 0 when the process is well, else with 1 and one sentence; for checks and probes.",
    )
    health.add_argument("process", choices=("daphne", "worker"))
    statistics.add_arguments(commands)
    dead_letters.add_arguments(commands)
    given = parser.parse_args(arguments)
    try:
        if given.command == "dead-letters":
            return dead_letters.run(given, os.environ)
        if given.command == "stats":
            return statistics.run(given, os.environ)
        return _run(given.command, getattr(given, "process", ""))
    except ConfigurationError as exc:
        print(f"trunkline: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(command: str, process: str) -> int:
    if command == "config":
        for line in describe(os.environ):
            print(line)
        sys.stdout.flush()
    elif command == "health":
        problem = (daphne_problem if process == "daphne" else worker_problem)(os.environ)
        if problem:
            print(problem)
            return 1
    else:
        {"migrate": migrate, "daphne": daphne, "worker": worker}[command](os.environ)
    return 0


def describe(environ: Mapping[str, str]) -> Iterator[str]:
    """Lines that show the configured channel layer to a person, without secrets.

    :raises ConfigurationError: when the environment doesn't describe a channel layer.
    """
    layer = channel_layers_from_env(environ)["default"]
    backend, config = str(layer["BACKEND"]), layer["CONFIG"]
    assert isinstance(config, Mapping)
    yield f"backend: {backend}"
    if backend in JUDGES:
        yield from _options(JUDGES[backend](config))
    else:
        # What another layer's options mean isn't known here, so none of their values is shown.
        yield f"options: {', '.join(sorted(map(str, config))) or 'none'} (another package's layer; values not shown)"


def _options(options: RedisOptions | LocalOptions | IPCOptions) -> Iterator[str]:
    parts = (options.redis, options.ipc) if isinstance(options, LocalOptions) else (options,)
    for part in parts:
        if isinstance(part, RedisOptions):
            yield from _servers(part)
    for part in (*parts, options.common):
        for field in fields(part):
            if field.name not in ("hosts", "discover", "common", "notes", "warnings"):
                yield f"{field.name}: {_shown(field.name, getattr(part, field.name))}"
    for note in (*options.notes, *options.common.warnings):
        yield f"note: {note}"


def _servers(options: RedisOptions) -> Iterator[str]:
    for position, host in enumerate(options.hosts):
        if isinstance(host, SentinelService):
            yield f"hosts[{position}]: {_place(host)}, refreshed after {host.refresh_interval:g} s"
        else:
            yield f"hosts[{position}]: {_place(host)}"
    if options.discover is not None:
        nameless = options.discover
        yield f"hosts: all services of {_place(nameless)}, refreshed after {nameless.refresh_interval:g} s"


def _place(host: Endpoint | SentinelService) -> str:
    return repr(host).partition(" ")[2].removesuffix(">")


def _shown(name: str, value: object) -> str:
    if name == "mode" and isinstance(value, int):
        return f"{value:04o}"
    if name == "channel_capacity" and isinstance(value, tuple):
        return ", ".join(f"re:{pattern.pattern} = {capacity}" for pattern, capacity in value) or "none"
    return "default" if value is None else str(value)
