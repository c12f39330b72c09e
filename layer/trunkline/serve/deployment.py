"""What the environment says about the processes of a deployment, judged; pure.

:func:`deployment_from` reads the same variables for supervisord, for a container of one process and for a chart's pod.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from trunkline.errors import ConfigurationError
from trunkline.names import check_channel
from trunkline.serve.lifecycle import drain_timeout, stop_grace

__all__ = [
    "AT_LEAST_ONCE",
    "DELIVERIES",
    "MOST_PROCESSES",
    "Deployment",
    "Pool",
    "deployment_from",
    "flag",
    "pool_of",
    "pools_from",
    "refuse",
    "worker_delivery",
]

MOST_PROCESSES = 256  # of one kind: more is a slip of the keyboard on any machine of today

AT_LEAST_ONCE = "at-least-once"
DELIVERIES = ("at-most-once", AT_LEAST_ONCE)  # the first is what a worker does that isn't told

_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,40}")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9\-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9\-]*[A-Za-z0-9])?)*"
)
_APPLICATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True)
class Pool:
    """Workers that serve the same channels.

    :ivar name: part of the processes' names, ``worker-<name>``.
    :ivar count: how many processes, where one dress starts them all; elsewhere its replicas say.
    """

    name: str
    count: int
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Deployment:
    """See :func:`deployment_from`.

    :ivar application: ``module:attribute`` of the ASGI application.
    :ivar settings: the module of Django's settings.
    :ivar processes: Daphne processes for each machine or container.
    :ivar drain_s: seconds that work in flight may take at stop.
    :ivar websocket_timeout_s: seconds after which Daphne closes any WebSocket; ``None`` for its own default.
    :ivar proxy_headers: whether Daphne believes the ``X-Forwarded-`` headers, as a proxy of ours writes them.
    """

    bind: str
    port: int
    application: str
    settings: str
    processes: int
    pools: tuple[Pool, ...]
    drain_s: float
    websocket_timeout_s: int | None
    proxy_headers: bool


def deployment_from(environ: Mapping[str, str]) -> Deployment:
    """Judge the environment.

    Of ``DJANGO_SETTINGS_MODULE`` and ``ASGI_APPLICATION`` one is enough: the other is taken to lie beside it, as
    ``django-admin startproject`` writes them.

    :raises ConfigurationError: one sentence that names the variable, what was given, and what is accepted.
    """
    mode = environ.get("TRUNKLINE_MODE", "").strip() or "in-process"
    if mode == "split":
        raise ConfigurationError("TRUNKLINE_MODE=split is not in this version; leave it out, or write in-process.")
    if mode != "in-process":
        refuse("TRUNKLINE_MODE", mode, "in-process")
    application, settings = _project(environ)
    _check_grace(environ)
    worker_delivery(environ)
    timeout = environ.get("TRUNKLINE_WEBSOCKET_TIMEOUT", "").strip()
    return Deployment(
        bind=_bind(environ),
        port=_whole_number(environ, "TRUNKLINE_PORT", 8000, 65535),
        application=application,
        settings=settings,
        processes=_whole_number(environ, "ASGI_PROCESSES", 1, MOST_PROCESSES),
        pools=pools_from(environ.get("TRUNKLINE_WORKER_CHANNELS", "")),
        drain_s=drain_timeout(environ),
        websocket_timeout_s=_whole_number(environ, "TRUNKLINE_WEBSOCKET_TIMEOUT", 86400, 10**9) if timeout else None,
        proxy_headers=flag(environ, "TRUNKLINE_PROXY_HEADERS"),
    )


def _check_grace(environ: Mapping[str, str]) -> None:
    """``TRUNKLINE_STOP_GRACE`` is what a dress waits before it kills; here is the one place that checks it."""
    text, least = environ.get("TRUNKLINE_STOP_GRACE", "").strip(), stop_grace(drain_timeout(environ))
    if not text:
        return
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or int(text) < least:
        refuse(
            "TRUNKLINE_STOP_GRACE",
            text,
            f"at least {least} seconds: TRUNKLINE_DRAIN_TIMEOUT and 10 more (or raise it together with that)",
        )


def _project(environ: Mapping[str, str]) -> tuple[str, str]:
    settings = environ.get("DJANGO_SETTINGS_MODULE", "").strip()
    application = environ.get("ASGI_APPLICATION", "").strip()
    if application and not _APPLICATION.fullmatch(application):
        refuse("ASGI_APPLICATION", application, "module:attribute such as mysite.asgi:application")
    if not settings and application:
        package, dot, module = application.partition(":")[0].rpartition(".")
        if not dot or module != "asgi":
            refuse("DJANGO_SETTINGS_MODULE", settings, "a module such as mysite.settings")
        settings = f"{package}.settings"
    if not _MODULE.fullmatch(settings):
        refuse("DJANGO_SETTINGS_MODULE", settings, "a module such as mysite.settings")
    return application or f"{settings.split('.')[0]}.asgi:application", settings


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
            refuse(variable, part, "at most one '=' in a pool, as in pictures*2=thumbnail resize")
        name, star, number = (piece.strip() for piece in head.partition("*"))
        channels = tuple(dict.fromkeys(tail.replace(",", " ").split()))
        if not channels:
            refuse(variable, part, "at least one channel behind '='")
        for channel in channels:
            try:
                check_channel(channel, receive=True)
            except TypeError as exc:
                hint = " A number of processes needs a '=' behind it: *2=thumbnail." if "*" in channel else ""
                raise ConfigurationError(f"{variable}: {exc}{hint}") from exc
        if star and not re.fullmatch(r"[0-9]{1,9}", number):
            refuse(variable, part, "a number of processes behind '*', as in pictures*2=thumbnail")
        count = int(number) if star else 1
        if not 1 <= count <= MOST_PROCESSES:
            refuse(variable, part, f"1 to {MOST_PROCESSES} processes in a pool")
        if not name:
            name = re.sub(r"[^A-Za-z0-9_.\-]", "-", channels[0])[:40].lstrip("._-") or "pool"
        elif not _POOL_NAME.fullmatch(name):
            refuse(variable, name, "a pool's name of up to 41 ASCII letters, digits, '_', '.' and '-'")
        if name in {pool.name for pool in pools}:
            refuse(variable, name, "another name for the second pool, as in second=thumbnail")
        pools.append(Pool(name, count, channels))
    return tuple(pools)


def pool_of(environ: Mapping[str, str]) -> Pool:
    """The pool that one worker process serves: the only one, or the one that ``TRUNKLINE_WORKER_POOL`` names.

    :raises ConfigurationError: one sentence.
    """
    pools = pools_from(environ.get("TRUNKLINE_WORKER_CHANNELS", ""))
    if not pools:
        raise ConfigurationError("TRUNKLINE_WORKER_CHANNELS is empty; a worker needs a channel, such as thumbnail.")
    wanted = environ.get("TRUNKLINE_WORKER_POOL", "").strip()
    known = ", ".join(pool.name for pool in pools)
    if not wanted:
        if len(pools) == 1:
            return pools[0]
        raise ConfigurationError(f"TRUNKLINE_WORKER_CHANNELS has several pools: TRUNKLINE_WORKER_POOL takes {known}.")
    found = [pool for pool in pools if pool.name == wanted]
    if not found:
        refuse("TRUNKLINE_WORKER_POOL", wanted, f"a pool of TRUNKLINE_WORKER_CHANNELS: {known}")
    return found[0]


def worker_delivery(environ: Mapping[str, str]) -> str:
    """How ``TRUNKLINE_WORKER_DELIVERY`` wants messages to be delivered: one of ``DELIVERIES``.

    :raises ConfigurationError: for anything else.
    """
    name = "TRUNKLINE_WORKER_DELIVERY"
    text = environ.get(name, "").strip() or DELIVERIES[0]
    if text not in DELIVERIES:
        refuse(name, text, " or ".join(DELIVERIES))
    return text


def flag(environ: Mapping[str, str], name: str) -> bool:
    """Whether a variable says yes; an empty or missing one is a no.

    :raises ConfigurationError: for anything else.
    """
    text = environ.get(name, "").strip().lower()
    if text in ("", "0", "false", "no", "off"):
        return False
    if text not in ("1", "true", "yes", "on"):
        refuse(name, text, "1 or 0")
    return True


def refuse(name: str, given: str, accepted: str) -> NoReturn:
    """:raises ConfigurationError: always, with the one sentence for a variable's value."""
    shown = repr(given if len(given) <= 80 else given[:79] + "…") if given else "empty"
    raise ConfigurationError(f"{name} is {shown}; it takes {accepted}.")


def _bind(environ: Mapping[str, str]) -> str:
    bind = environ.get("TRUNKLINE_BIND", "").strip() or "127.0.0.1"
    try:
        address = ipaddress.ip_address(bind.strip("[]"))
    except ValueError:
        if not _HOST_NAME.fullmatch(bind) or bind.replace(".", "").isdigit():
            refuse("TRUNKLINE_BIND", bind, "an IPv4 address or a host name")
        return bind
    if address.version == 6:
        # supervisord opens the shared socket and knows no other family.
        refuse("TRUNKLINE_BIND", bind, "an IPv4 address (a proxy in front may speak IPv6)")
    return bind


def _whole_number(environ: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not 1 <= int(text) <= most:
        refuse(name, text, f"a whole number from 1 to {most}")
    return int(text)
