"""``trunkline migrate | daphne | worker``: one process of the graph, as process 1 of its container.

They run in this process and start no other, so that signals reach what they are meant for; and they react to SIGTERM
from their first moment, which process 1 would otherwise ignore until somebody sets a handler.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import MutableMapping
from types import FrameType
from typing import NoReturn

from trunkline.serve.deployment import deployment_from, pool_of
from trunkline.serve.graph import daphne_arguments, migrate_arguments, worker_arguments

__all__ = ["daphne", "migrate", "worker"]


def migrate(environ: MutableMapping[str, str]) -> None:
    """Bring the database up to date.

    :raises ConfigurationError: when the environment names no project.
    """
    _prepare(environ, stopped=1)
    _manage(migrate_arguments())


def daphne(environ: MutableMapping[str, str]) -> None:
    """Serve HTTP and WebSocket until SIGTERM.

    :raises ConfigurationError: when the environment doesn't describe a deployment.
    """
    _prepare(environ)
    arguments = daphne_arguments(deployment_from(environ))
    from daphne.cli import CommandLineInterface

    sys.argv[:] = ["daphne", *arguments]  # as the project would see it otherwise
    CommandLineInterface().run(arguments)


def worker(environ: MutableMapping[str, str]) -> None:
    """Serve the channels of one pool until SIGTERM.

    :raises ConfigurationError: when the environment doesn't describe a deployment, or not which pool this is.
    """
    _prepare(environ)
    _manage(worker_arguments(pool_of(environ)))


def _prepare(environ: MutableMapping[str, str], stopped: int = 0) -> None:
    """:param stopped: exit code after SIGTERM, until whatever runs sets a handler of its own."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(stopped)

    signal.signal(signal.SIGTERM, end)
    environ["DJANGO_SETTINGS_MODULE"] = deployment_from(environ).settings
    # As `python -m` and manage.py have it: the project lies in the working directory.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _manage(arguments: list[str]) -> None:
    from django.core.management import execute_from_command_line

    sys.argv[:] = ["manage.py", *arguments]  # projects look there to know which process they are
    execute_from_command_line(sys.argv)
