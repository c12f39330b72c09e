"""The environment and its files, read into the plain mappings that :mod:`trunkline.config` judges.

A Django settings file says::

    from trunkline.env import channel_layers_from_env

    CHANNEL_LAYERS = channel_layers_from_env()

Which variables there are, is in the table :data:`trunkline.config.VARIABLES` and in docs/reference/configuration.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from urllib.parse import urlsplit, urlunsplit

from trunkline.config import JUDGES, LAYERS, Endpoint, decode_hosts, parse_config_text
from trunkline.errors import ConfigurationError

__all__ = ["channel_layers_from_env", "inside_container", "read_secret"]

LARGEST_FILE = 65536  # bytes; a secret or a CONFIG has a few hundred

_REDIS = LAYERS["redis"]
_IPC = LAYERS["ipc"]
_SENTINEL = LAYERS["sentinel"]
_LOCAL = LAYERS["local"]
_OURS = tuple(LAYERS.values())
_ALIASES = {f"trunkline.layers.{name}.{path.rpartition('.')[2]}": path for name, path in LAYERS.items()}
_TAKE_HOSTS = (_REDIS, _LOCAL, "channels_redis.core.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer")
_TAKE_NONE = (_IPC, "channels.layers.InMemoryChannelLayer")
_OF_CHANNELS_1 = {"asgi_redis": _REDIS, "asgi_ipc": _IPC}
_OF_ASGI_REDIS = {path.rpartition(".")[2]: path for path in (_REDIS, _SENTINEL, _LOCAL)}

_DOTTED_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")
_NEXT_URL = re.compile(r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.\-]*://)")


def channel_layers_from_env(
    environ: Mapping[str, str] | None = None, *, container: Callable[[], bool] | None = None
) -> dict[str, dict[str, object]]:
    """Return what ``CHANNEL_LAYERS`` in a Django settings file should be.

    A layer of Trunkline is judged here already, so that importing the settings gives the sentence; the ``CONFIG`` of
    any other layer is passed on as it is.

    :param environ: variables by name; ``os.environ`` by default.
    :param container: says whether this process runs in a container; :func:`inside_container` by default.
    :returns: ``{"default": {"BACKEND": dotted path, "CONFIG": dict}}``.
    :raises ConfigurationError: one sentence, never with a secret.
    """
    variables = os.environ if environ is None else environ
    config, source = _config(variables)
    urls = _variable(variables, "REDIS_URL")
    chosen = _variable(variables, "CHANNEL_LAYERS_BACKEND")
    if chosen:
        backend = _backend(chosen)
    elif urls or config.get("hosts"):
        backend = _REDIS
    elif (container or (lambda: inside_container(variables)))():
        raise ConfigurationError(
            "This process runs in a container and no Redis server is configured: set REDIS_URL, or "
            f"CHANNEL_LAYERS_BACKEND={_IPC} if no process of another container belongs to this site."
        )
    else:
        # An empty list of hosts is the local server, to us as to channels_redis.
        backend = _REDIS if "hosts" in config else _IPC
    if urls:
        if "hosts" in config:
            raise ConfigurationError(f"The servers are given twice, in REDIS_URL and in {source}: remove one of them.")
        config["hosts"] = _hosts(variables, urls, backend)
    elif _variable(variables, "REDIS_PASSWORD_FILE"):
        raise ConfigurationError(
            "REDIS_PASSWORD_FILE is given without REDIS_URL, whose servers' password it holds: set REDIS_URL, or put "
            "the password into the hosts of the CONFIG."
        )
    if backend in (_IPC, _LOCAL):
        _add_directory(variables, config, source)
    _judge(backend, config, source)
    return {"default": {"BACKEND": backend, "CONFIG": config}}


def read_secret(environ: Mapping[str, str], name: str) -> str | None:
    """Return the value of the variable ``name``, or the contents of the file that ``<name>_FILE`` names.

    An empty variable counts as not set. Line breaks at the file's end don't belong to the secret.

    :returns: the secret, or ``None`` where neither variable is set.
    :raises ConfigurationError: when both are set, or the file can't be read or is empty.
    """
    value, path = environ.get(name) or None, environ.get(f"{name}_FILE") or None
    if value is not None and path is not None:
        raise ConfigurationError(f"{name} and {name}_FILE are both set: remove one of them.")
    return value if path is None else _read(f"{name}_FILE", path)


def inside_container(
    environ: Mapping[str, str] | None = None, *, exists: Callable[[str], bool] = os.path.exists
) -> bool:
    """Say whether this process runs in a container of Docker, Podman or Kubernetes."""
    variables = os.environ if environ is None else environ
    if variables.get("KUBERNETES_SERVICE_HOST"):
        return True
    return exists("/.dockerenv") or exists("/run/.containerenv")


def _variable(environ: Mapping[str, str], name: str) -> str:
    """A variable's text without the quotes that ``docker run --env-file`` leaves around it; empty if not set."""
    text = environ.get(name, "").strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def _config(environ: Mapping[str, str]) -> tuple[dict[str, object], str]:
    """The parsed ``CONFIG``, and the name of the variable that it came from."""
    name, file_name = "CHANNEL_LAYERS_CONFIG", "CHANNEL_LAYERS_CONFIG_FILE"
    text, path = environ.get(name, "").strip(), _variable(environ, file_name)
    if text and path:
        raise ConfigurationError(f"{name} and {file_name} are both set: remove one of them.")
    if path:
        return parse_config_text(_read(file_name, path), source=f"The file of {file_name}"), file_name
    return (parse_config_text(text, source=name) if text else {}), name


def _backend(chosen: str) -> str:
    name = "CHANNEL_LAYERS_BACKEND"
    if not _DOTTED_PATH.fullmatch(chosen):
        hint = "; write a full stop before the class, not a colon" if re.fullmatch(r"[\w.]+:\w+", chosen) else ""
        raise ConfigurationError(
            f"{name} must be the dotted path of a channel layer, such as {_REDIS}, not a text of {len(chosen)} "
            f"characters that is none{hint}."
        )
    if chosen in _ALIASES:
        return _ALIASES[chosen]
    package = chosen.partition(".")[0]
    if package in _OF_CHANNELS_1:
        ours = _OF_ASGI_REDIS.get(chosen.rpartition(".")[2], _OF_CHANNELS_1[package])
        raise ConfigurationError(f"{name} is {chosen}, a layer for Channels 1; write {ours}, which takes its CONFIG.")
    if package == "trunkline" and chosen not in _OURS:
        close = get_close_matches(chosen, _OURS, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        there = f"{', '.join(_OURS[:-1])} and {_OURS[-1]}"
        raise ConfigurationError(f"{name} is {chosen}, which doesn't exist; {hint}there are {there}.")
    return chosen


def _hosts(environ: Mapping[str, str], urls: str, backend: str) -> list[object]:
    """The servers of ``REDIS_URL`` as ``hosts``; passwords stand apart, where Django's debug page masks them."""
    if backend in _TAKE_NONE:
        raise ConfigurationError(
            f"REDIS_URL is set, but {backend} uses no server: remove REDIS_URL, or set CHANNEL_LAYERS_BACKEND={_REDIS}."
        )
    if backend == _SENTINEL:
        raise ConfigurationError(
            f"REDIS_URL is set, but the hosts of {backend} are Sentinels: write them into CHANNEL_LAYERS_CONFIG, "
            "{'hosts': [('sentinel', 26379)]}."
        )
    if backend not in _TAKE_HOSTS:
        raise ConfigurationError(
            f"REDIS_URL is set, but it isn't known how {backend} takes servers: write them into CHANNEL_LAYERS_CONFIG."
        )
    pieces = [piece.strip() for piece in (_NEXT_URL.split(urls) if "://" in urls else urls.split(","))]
    if not all(pieces) or pieces[-1].endswith(","):
        raise ConfigurationError("REDIS_URL has a comma with no URL before or behind it.")
    found, _ = decode_hosts(pieces, source="REDIS_URL")
    endpoints = [host for host in found if isinstance(host, Endpoint)]  # a text never is a service
    path = _variable(environ, "REDIS_PASSWORD_FILE")
    password = _read("REDIS_PASSWORD_FILE", path) if path else None
    hosts: list[object] = []
    for position, (piece, endpoint) in enumerate(zip(pieces, endpoints, strict=True)):
        if password is not None and endpoint.password is not None:
            raise ConfigurationError(
                f"The password of REDIS_URL[{position}] is given twice, in the URL and by REDIS_PASSWORD_FILE: remove "
                "one of them."
            )
        # channels_redis takes a bare host's name only as a URL.
        url = piece if "://" in piece or piece.startswith("unix:") else f"redis://{piece}"
        secret = endpoint.password if password is None else password
        hosts.append(url if secret is None else {"address": _without_password(url), "password": secret})
    return hosts


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{name}{at}{place}" if name else place))


def _add_directory(environ: Mapping[str, str], config: dict[str, object], source: str) -> None:
    directory = _variable(environ, "TRUNKLINE_IPC_DIR")
    if not directory:
        return
    if config.get("directory") is not None:
        raise ConfigurationError(
            f"The directory is given twice, in TRUNKLINE_IPC_DIR and in {source}: remove one of them."
        )
    if not directory.startswith("/"):
        raise ConfigurationError("TRUNKLINE_IPC_DIR must be an absolute path, which a relative one is not.")
    config["directory"] = directory


def _judge(backend: str, config: dict[str, object], source: str) -> None:
    try:
        if backend in JUDGES:
            JUDGES[backend](config)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None


def _read(variable: str, path: str) -> str:
    """The text of the file that a variable names, without the line breaks at its end."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except ValueError:
        raise ConfigurationError(f"{variable} must be the path of a file, not a text that can't be one.") from None
    except OSError as error:
        # The path itself may be a secret that somebody wrote into the wrong variable.
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"The file that {variable} names can't be read: {reason}.") from None
    if len(data) > LARGEST_FILE:
        raise ConfigurationError(f"The file that {variable} names is larger than {LARGEST_FILE} bytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"The file that {variable} names is not text in UTF-8.") from None
    text = text.rstrip("\r\n")
    if not text.strip():
        raise ConfigurationError(f"The file that {variable} names is empty.")
    return text
