"""What supervisord is to run, as a pure function of the environment.

:func:`plan_from` judges the variables, :meth:`Plan.config` writes supervisord's configuration.
"""

from __future__ import annotations

import ipaddress
import os.path
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from trunkline.errors import ConfigurationError
from trunkline.names import check_channel
from trunkline.serve.lifecycle import drain_timeout, stop_grace

__all__ = ["Plan", "Pool", "plan_from", "pools_from"]

MOST_PROCESSES = 256  # of one kind: more is a slip of the keyboard on any machine of today
LONGEST_SOCKET_PATH = 107  # bytes, Linux
LISTEN_BACKLOG = 1024  # connections that wait while every Daphne process is busy
START_S = 3  # a process that lived this long has started; what fails sooner is tried three times more

_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,40}")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9\-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9\-]*[A-Za-z0-9])?)*"
)
_APPLICATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True)
class Pool:
    """Workers that serve the same channels.

    :ivar name: part of the processes' names in supervisord, ``worker-<name>``.
    :ivar count: how many processes.
    """

    name: str
    count: int
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that runs, judged; see :func:`plan_from`."""

    bind: str
    port: int
    application: str
    settings: str
    processes: int
    pools: tuple[Pool, ...]
    drain_s: float
    websocket_timeout_s: int | None
    local_redis: bool
    control_socket: str | None

    def environment(self, state: str) -> dict[str, str]:
        """Variables that the processes need beside the ones that were given.

        :param state: the absolute path of a private directory for sockets and the like.
        """
        variables = {"DJANGO_SETTINGS_MODULE": self.settings, "PYTHONUNBUFFERED": "1"}
        if self.local_redis:
            variables["REDIS_URL"] = f"unix://{_redis_socket(state)}?db=0"
        return variables

    def config(self, state: str, *, python: str = sys.executable, root: bool = False) -> str:
        """The text of supervisord's configuration file.

        :param state: as for :meth:`environment`.
        :param python: absolute path of the interpreter that runs everything.
        :param root: whether supervisord runs as root, which it wants to be told.
        """
        grace = stop_grace(self.drain_s)
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
            "socket": f"tcp://{self.bind}:{self.port}",
            "socket_backlog": str(LISTEN_BACKLOG),
            **_program(self._daphne_command(python), self.processes, grace),
            "priority": "20",
        }
        sections.append(("fcgi-program:daphne", daphne))
        for pool in self.pools:
            command = [python, "-m", "django", "runworker", *pool.channels]
            section = {**_program(command, pool.count, grace), "priority": "30"}
            sections.append((f"program:worker-{pool.name}", section))
        listener = _program([python, "-m", "trunkline_supervisor.fatal", state], 1, 5)
        # Its standard output is its line to supervisord.
        del listener["stdout_logfile"], listener["stdout_logfile_maxbytes"], listener["redirect_stderr"]
        listener |= {"events": "PROCESS_STATE_FATAL", "stderr_logfile": "/dev/fd/1", "stderr_logfile_maxbytes": "0"}
        sections.append(("eventlistener:fatal", listener))
        return "\n".join(_section(name, options) for name, options in sections)

    def _daphne_command(self, python: str) -> list[str]:
        command = [python, "-m", "daphne", "--fd", "0"]
        if self.websocket_timeout_s is not None:
            command += ["--websocket_timeout", str(self.websocket_timeout_s)]
        return [*command, self.application]


_RPC = "supervisor.rpcinterface:make_main_rpcinterface"


def plan_from(environ: Mapping[str, str]) -> Plan:
    """Judge the environment.

    :raises ConfigurationError: one sentence that names the variable, what was given, and what is accepted.
    """
    settings = environ.get("DJANGO_SETTINGS_MODULE", "").strip()
    if not _MODULE.fullmatch(settings):
        _refuse("DJANGO_SETTINGS_MODULE", settings, "a module such as mysite.settings")
    application = environ.get("ASGI_APPLICATION", "").strip() or f"{settings.split('.')[0]}.asgi:application"
    if not _APPLICATION.fullmatch(application):
        _refuse("ASGI_APPLICATION", application, "module:attribute such as mysite.asgi:application")
    mode = environ.get("TRUNKLINE_MODE", "").strip() or "in-process"
    if mode == "split":
        raise ConfigurationError("TRUNKLINE_MODE=split is not in this version; leave it out, or write in-process.")
    if mode != "in-process":
        _refuse("TRUNKLINE_MODE", mode, "in-process")
    control_socket = environ.get("TRUNKLINE_SUPERVISOR_SOCKET", "").strip() or None
    if control_socket is not None:
        _check_socket_path("TRUNKLINE_SUPERVISOR_SOCKET", control_socket)
    return Plan(
        bind=_bind(environ),
        port=_whole_number(environ, "TRUNKLINE_PORT", 8000, 65535),
        application=application,
        settings=settings,
        processes=_whole_number(environ, "ASGI_PROCESSES", 1, MOST_PROCESSES),
        pools=pools_from(environ.get("TRUNKLINE_WORKER_CHANNELS", "")),
        drain_s=drain_timeout(environ),
        websocket_timeout_s=(
            _whole_number(environ, "TRUNKLINE_WEBSOCKET_TIMEOUT", 86400, 10**9)
            if environ.get("TRUNKLINE_WEBSOCKET_TIMEOUT", "").strip()
            else None
        ),
        local_redis=_local_redis(environ),
        control_socket=control_socket,
    )


def pools_from(text: str) -> tuple[Pool, ...]:
    """The worker pools that ``TRUNKLINE_WORKER_CHANNELS`` describes.

    Pools stand apart by ``;`` or line breaks, the channels of a pool by blanks or commas. Before the channels may
    stand a name, a number of processes, or both, with ``=`` behind: ``pictures*2=thumbnail resize; mail``. A pool
    without a name has its first channel's, one without a number has one process.

    :raises ConfigurationError: one sentence.
    """
    variable = "TRUNKLINE_WORKER_CHANNELS"
    pools: list[Pool] = []
    for part in filter(None, (piece.strip() for piece in re.split(r"[;\n]", text))):
        head, _, tail = part.rpartition("=")
        if "=" in head:
            _refuse(variable, part, "at most one '=' in a pool, as in pictures*2=thumbnail resize")
        name, star, number = (piece.strip() for piece in head.partition("*"))
        channels = tuple(dict.fromkeys(tail.replace(",", " ").split()))
        if not channels:
            _refuse(variable, part, "at least one channel behind '='")
        for channel in channels:
            try:
                check_channel(channel, receive=True)
            except TypeError as exc:
                hint = " A number of processes needs a '=' behind it: *2=thumbnail." if "*" in channel else ""
                raise ConfigurationError(f"{variable}: {exc}{hint}") from exc
        if star and not re.fullmatch(r"[0-9]{1,9}", number):
            _refuse(variable, part, "a number of processes behind '*', as in pictures*2=thumbnail")
        count = int(number) if star else 1
        if not 1 <= count <= MOST_PROCESSES:
            _refuse(variable, part, f"1 to {MOST_PROCESSES} processes in a pool")
        if not name:
            name = re.sub(r"[^A-Za-z0-9_.\-]", "-", channels[0])[:40].lstrip("._-") or "pool"
        elif not _POOL_NAME.fullmatch(name):
            _refuse(variable, name, "a pool's name of up to 41 ASCII letters, digits, '_', '.' and '-'")
        if name in {pool.name for pool in pools}:
            _refuse(variable, name, "another name for the second pool, as in second=thumbnail")
        pools.append(Pool(name, count, channels))
    return tuple(pools)


def _bind(environ: Mapping[str, str]) -> str:
    bind = environ.get("TRUNKLINE_BIND", "").strip() or "127.0.0.1"
    try:
        address = ipaddress.ip_address(bind.strip("[]"))
    except ValueError:
        if not _HOST_NAME.fullmatch(bind) or bind.replace(".", "").isdigit():
            _refuse("TRUNKLINE_BIND", bind, "an IPv4 address or a host name")
        return bind
    if address.version == 6:
        # supervisord opens the shared socket and knows no other family.
        _refuse("TRUNKLINE_BIND", bind, "an IPv4 address (a proxy in front may speak IPv6)")
    return bind


def _local_redis(environ: Mapping[str, str]) -> bool:
    text = environ.get("TRUNKLINE_LOCAL_REDIS", "").strip().lower()
    if text in ("", "0", "false", "no", "off"):
        return False
    if text not in ("1", "true", "yes", "on"):
        _refuse("TRUNKLINE_LOCAL_REDIS", text, "1 or 0")
    if environ.get("REDIS_URL", "").strip():
        raise ConfigurationError("TRUNKLINE_LOCAL_REDIS and REDIS_URL are both set: remove one of them.")
    return True


def _whole_number(environ: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not 1 <= int(text) <= most:
        _refuse(name, text, f"a whole number from 1 to {most}")
    return int(text)


def _refuse(name: str, given: str, accepted: str) -> NoReturn:
    shown = repr(given if len(given) <= 80 else given[:79] + "…") if given else "empty"
    raise ConfigurationError(f"{name} is {shown}; it takes {accepted}.")


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
        _refuse(name, path, f"an absolute path of at most {LONGEST_SOCKET_PATH} bytes for its socket")


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
