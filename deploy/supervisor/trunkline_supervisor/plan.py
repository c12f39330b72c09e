"""What supervisord is to run, as a pure function of the environment.

:func:`plan_from` judges the variables, :meth:`Plan.config` writes supervisord's configuration.
"""

from __future__ import annotations

import os.path
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trunkline.errors import ConfigurationError
from trunkline.serve.deployment import Deployment, deployment_from, flag, refuse
from trunkline.serve.graph import daphne_arguments, worker_arguments
from trunkline.serve.lifecycle import stop_grace

__all__ = ["Plan", "plan_from"]

LONGEST_SOCKET_PATH = 107  # bytes, Linux
LISTEN_BACKLOG = 1024  # connections that wait while every Daphne process is busy
# A process that lived this long has started; what fails sooner is tried three times more. On a loaded machine a worker
# may need some seconds to find out that it can't start, and would else be started again for ever.
START_S = 10


@dataclass(frozen=True)
class Plan:
    """Everything that runs, judged; see :func:`plan_from`."""

    deployment: Deployment
    local_redis: bool
    control_socket: str | None

    def environment(self, state: str) -> dict[str, str]:
        """Variables that the processes need beside the ones that were given.

        :param state: the absolute path of a private directory for sockets and the like.
        """
        variables = {"DJANGO_SETTINGS_MODULE": self.deployment.settings, "PYTHONUNBUFFERED": "1"}
        if self.local_redis:
            variables["REDIS_URL"] = f"unix://{_redis_socket(state)}?db=0"
        return variables

    def config(self, state: str, *, python: str = sys.executable, root: bool = False) -> str:
        """The text of supervisord's configuration file.

        :param state: as for :meth:`environment`.
        :param python: absolute path of the interpreter that runs everything.
        :param root: whether supervisord runs as root, which it wants to be told.
        """
        deployment = self.deployment
        grace = stop_grace(deployment.drain_s)
        supervisord = {
            "nodaemon": "true",
            "logfile": "/dev/null",  # in the foreground it writes to its standard output as well
            "logfile_maxbytes": "0",
            "pidfile": os.path.join(state, "supervisord.pid"),
            "childlogdir": state,
        }
        if root:
            supervisord["user"] = "root"
        sections: list[tuple[str, dict[str, str]]] = [("supervisord", supervisord)]
        if self.control_socket is not None:
            sections += [
                ("unix_http_server", {"file": self.control_socket, "chmod": "0700"}),
                ("supervisorctl", {"serverurl": f"unix://{self.control_socket}"}),
                ("rpcinterface:supervisor", {"supervisor.rpcinterface_factory": _RPC}),
            ]
        if self.local_redis:
            sections.append(("program:redis", {**_program(_redis_command(state), 1, 10), "priority": "10"}))
        daphne = {
            # supervisord opens the socket once and hands it to each process as descriptor 0.
            "socket": f"tcp://{deployment.bind}:{deployment.port}",
            "socket_backlog": str(LISTEN_BACKLOG),
            **_program(
                [python, "-m", "daphne", *daphne_arguments(deployment, inherited_socket=True)],
                deployment.processes,
                grace,
            ),
            "priority": "20",
        }
        sections.append(("fcgi-program:daphne", daphne))
        for pool in deployment.pools:
            command = [python, "-m", "django", *worker_arguments(pool)]
            section = {**_program(command, pool.count, grace), "priority": "30"}
            sections.append((f"program:worker-{pool.name}", section))
        listener = _program([python, "-m", "trunkline_supervisor.fatal", state], 1, 5)
        # Its standard output is its line to supervisord.
        del listener["stdout_logfile"], listener["stdout_logfile_maxbytes"], listener["redirect_stderr"]
        listener |= {"events": "PROCESS_STATE_FATAL", "stderr_logfile": "/dev/fd/1", "stderr_logfile_maxbytes": "0"}
        sections.append(("eventlistener:fatal", listener))
        return "\n".join(_section(name, options) for name, options in sections)


_RPC = "supervisor.rpcinterface:make_main_rpcinterface"


def plan_from(environ: Mapping[str, str]) -> Plan:
    """Judge the environment.

    :raises ConfigurationError: one sentence that names the variable, what was given, and what is accepted.
    """
    control_socket = environ.get("TRUNKLINE_SUPERVISOR_SOCKET", "").strip() or None
    if control_socket is not None:
        _check_socket_path("TRUNKLINE_SUPERVISOR_SOCKET", control_socket)
    return Plan(deployment_from(environ), _local_redis(environ), control_socket)


def _local_redis(environ: Mapping[str, str]) -> bool:
    if not flag(environ, "TRUNKLINE_LOCAL_REDIS"):
        return False
    if environ.get("REDIS_URL", "").strip():
        raise ConfigurationError("TRUNKLINE_LOCAL_REDIS and REDIS_URL are both set: remove one of them.")
    return True


def _redis_socket(state: str) -> str:
    return os.path.join(state, "redis.sock")


def _redis_command(state: str) -> list[str]:
    socket = _redis_socket(state)
    _check_socket_path("TRUNKLINE_LOCAL_REDIS", socket)
    # No TCP port at all: only this user's processes reach the socket in the private directory. Nothing is kept on
    # disk: a channel layer's messages are worth nothing after a restart.
    return [
        "redis-server",
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--unixsocketperm",
        "700",
        "--save",
        "",
        "--dir",
        state,
    ]


def _check_socket_path(name: str, path: str) -> None:
    if not path.startswith("/") or len(path.encode()) > LONGEST_SOCKET_PATH:
        refuse(name, path, f"an absolute path of at most {LONGEST_SOCKET_PATH} bytes for its socket")


def _program(command: Iterable[str], count: int, grace: int) -> dict[str, str]:
    options = {
        "command": shlex.join(command),
        "numprocs": str(count),
        "autorestart": "true",
        "startsecs": str(START_S),
        "stopsignal": "TERM",
        "stopwaitsecs": str(grace),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": "/dev/fd/1",
        "stdout_logfile_maxbytes": "0",  # a pipe can't be rotated
    }
    if count > 1:
        options["process_name"] = "%(program_name)s_%(process_num)d"
    return options


def _section(name: str, options: Mapping[str, str]) -> str:
    lines = [f"[{name}]"]
    for option, value in options.items():
        # Line breaks and comment signs would end the value in the middle; nothing sensible contains them.
        if re.search(r"[\x00-\x1f\x7f]|\s[;#]", value):
            raise ConfigurationError(f"supervisord can't be told {value!r}: move the project to a plainer path.")
        if option != "process_name":
            value = value.replace("%", "%%")
        lines.append(f"{option} = {value}")
    return "\n".join(lines) + "\n"
