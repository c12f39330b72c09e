"""The process graph: every process of a deployment, its command and the variables that it reads, in one table.

supervisord, Compose and the chart start these and no others; a test renders all three and compares them with this
table. In a container each process is started as ``trunkline <name>`` and is process 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.serve.deployment import Deployment, Pool

__all__ = ["GRAPH", "LAYER_VARIABLES", "Process", "daphne_arguments", "migrate_arguments", "worker_arguments"]

# What configures the channel layer; the same in every process that runs the project's code.
LAYER_VARIABLES = (
    "CHANNEL_LAYERS_BACKEND",
    "CHANNEL_LAYERS_CONFIG",
    "CHANNEL_LAYERS_CONFIG_FILE",
    "REDIS_URL",
    "REDIS_PASSWORD_FILE",
)
_PROJECT = ("ASGI_APPLICATION", "DJANGO_SETTINGS_MODULE", "TRUNKLINE_MODE", "TRUNKLINE_RELEASE", *LAYER_VARIABLES)


@dataclass(frozen=True)
class Process:
    """One kind of process.

    :ivar name: of the service in Compose, the component in the chart, the program under supervisord.
    :ivar module: the Python module that runs in the end, with its first arguments.
    :ivar variables: names of the variables that it reads, the project's own aside.
    :ivar after: kinds that have to be there, or to have ended well, before it starts.
    :ivar step: whether it ends by itself before the others start.
    :ivar drains: whether it finishes work at stop, so that its stop grace is derived from the drain time.
    """

    name: str
    module: tuple[str, ...]
    variables: tuple[str, ...]
    after: tuple[str, ...]
    step: bool = False
    drains: bool = False


GRAPH: tuple[Process, ...] = (
    Process("migrate", ("django", "migrate"), _PROJECT, after=("redis",), step=True),
    Process(
        "daphne",
        ("daphne",),
        (
            *_PROJECT,
            "TRUNKLINE_BIND",
            "TRUNKLINE_PORT",
            "TRUNKLINE_WEBSOCKET_TIMEOUT",
            "TRUNKLINE_PROXY_HEADERS",
            "TRUNKLINE_DRAIN_TIMEOUT",
            "TRUNKLINE_STOP_GRACE",
        ),
        after=("redis", "migrate"),
        drains=True,
    ),
    Process(
        "worker",
        ("django", "runworker"),
        (
            *_PROJECT,
            "TRUNKLINE_WORKER_CHANNELS",
            "TRUNKLINE_WORKER_POOL",
            "TRUNKLINE_WORKER_DELIVERY",
            "TRUNKLINE_DRAIN_TIMEOUT",
            "TRUNKLINE_STOP_GRACE",
            "TRUNKLINE_HEALTH_FILE",
        ),
        after=("redis", "migrate"),
        drains=True,
    ),
)


def daphne_arguments(deployment: Deployment, *, inherited_socket: bool = False) -> list[str]:
    """Daphne's arguments.

    :param inherited_socket: it serves the listening socket that it inherits as descriptor 0, and opens none.
    """
    arguments = ["--fd", "0"] if inherited_socket else ["-b", deployment.bind, "-p", str(deployment.port)]
    if deployment.websocket_timeout_s is not None:
        arguments += ["--websocket_timeout", str(deployment.websocket_timeout_s)]
    if deployment.proxy_headers:
        arguments.append("--proxy-headers")
    return [*arguments, deployment.application]


def worker_arguments(pool: Pool) -> list[str]:
    """Arguments of ``manage.py`` for one process of a pool."""
    return ["runworker", *pool.channels]


def migrate_arguments() -> list[str]:
    """Arguments of ``manage.py`` for the step that brings the database up to date."""
    return ["migrate", "--noinput"]
