"""One server in every form that asgi_redis and channels_redis take, turned into a draft.

Forms and defaults come from the READMEs of asgi_redis 1.4 and channels_redis 4.3; the parts of a dict are
those of redis-py's connection classes. No message repeats a text out of ``hosts``, because a
badly encoded password can end up in any part of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trunkline.config import values
from trunkline.config.draft import Draft, Transport, check_host, check_port, check_socket_path
from trunkline.config.url import read_url
from trunkline.errors import ConfigurationError

__all__ = ["read_form"]

_ACCEPTED = "a URL (redis://, rediss://, unix://), a (host, port) pair, a dict or a host's name"
_BARE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-]+)(?::(?P<port>\d{1,8}))?")
_PLACES = ("address", "host", "port", "unix_socket_path")


def read_form(entry: object, where: str, *, default_port: int = 6379) -> Draft:
    """Read one entry of ``hosts``, without the options that all hosts share.

    :param where: the entry's place for messages, such as ``hosts[0]``.
    :raises ConfigurationError: one sentence, never with a text out of the entry.
    """
    draft = Draft(where, default_port=default_port)
    if isinstance(entry, str):
        _read_text(draft, entry)
    elif isinstance(entry, Mapping):
        _read_dict(draft, entry)
    elif isinstance(entry, list | tuple):
        _read_pair(draft, entry)
    elif isinstance(entry, bytes):
        raise ConfigurationError(
            f"Option {where!r} must be a text, not bytes: write it without the b before the quotes."
        )
    else:
        raise ConfigurationError(f"Option {where!r} must be {_ACCEPTED}, not {values.given(entry)}.")
    return draft


def _read_text(draft: Draft, text: str) -> None:
    text = text.strip()
    if not text:
        raise ConfigurationError(f"Option {draft.where!r} must be {_ACCEPTED}, not an empty text.")
    if "://" in text or text.startswith("unix:/"):
        read_url(draft, text)
        return
    match = _BARE.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"Option {draft.where!r} must be {_ACCEPTED}, not another text; a URL begins with redis://, rediss:// or "
            "unix://."
        )
    if match["host"].isdecimal():
        raise ConfigurationError(
            f"Option {draft.where!r} is a number, not a host: a port stands beside its host, hosts=[('redis', 6379)]."
        )
    draft.transport = None
    draft.host = match["host"].strip("[]")
    if match["port"] is not None:
        draft.port = check_port(draft.where, match["port"])


def _read_pair(draft: Draft, pair: list[object] | tuple[object, ...]) -> None:
    if len(pair) != 2:
        raise ConfigurationError(
            f"Option {draft.where!r} must be a pair of host and port, not a sequence of {len(pair)}; a password or "
            "a database goes into a URL or a dict."
        )
    draft.host = check_host(draft.where, pair[0])
    draft.port = check_port(draft.where, pair[1])


def _read_dict(draft: Draft, entry: Mapping[object, object]) -> None:
    where = draft.where
    if not entry:
        raise ConfigurationError(f"Option {where!r} is an empty dict; name at least its 'host' or its 'address'.")
    rest = dict(entry)
    places = [name for name in ("address", "unix_socket_path", "path") if rest.get(name) is not None]
    if rest.get("host") is not None or (rest.get("port") is not None and places):
        places.append("host" if rest.get("host") is not None else "port")
    if len(places) > 1:
        raise ConfigurationError(f"Option {where!r} says twice where its server is: {places[0]!r} and {places[1]!r}.")
    address = rest.pop("address", None)
    if isinstance(address, str):
        _read_text(draft, address)
    elif isinstance(address, list | tuple):
        _read_pair(draft, address)
    elif address is not None:
        raise ConfigurationError(f"Option '{where}.address' must be a URL, not {values.given(address)}.")
    for name in ("unix_socket_path", "path"):
        path = rest.pop(name, None)
        if path is not None:
            draft.transport = "unix"
            draft.path = check_socket_path(f"{where}.{name}", path)
    host, port = rest.pop("host", None), rest.pop("port", None)
    if host is not None:
        draft.host = check_host(where, host)
    if port is not None:
        draft.port = check_port(where, port)
    if "url" in rest:
        raise ConfigurationError(f"Option {where!r} must name its URL 'address', not 'url'.")
    _read_class(draft, rest.pop("connection_class", None))
    for option, value in rest.items():
        draft.add(option, value, places=_PLACES)


def _read_class(draft: Draft, value: object) -> None:
    """redis-py chooses the transport by a class; ours is chosen by the class's name."""
    if value is None:
        return
    names: dict[str, Transport] = {"Connection": "tcp", "SSLConnection": "tls", "UnixDomainSocketConnection": "unix"}
    transport = names.get(value.__name__) if isinstance(value, type) else None
    if transport is None:
        raise ConfigurationError(
            f"Option '{draft.where}.connection_class' must be one of {', '.join(names)} of redis-py."
        )
    if draft.transport not in (None, transport) or (transport == "unix") != (draft.path is not None):
        raise ConfigurationError(
            f"Option '{draft.where}.connection_class' contradicts the rest of its dict; leave it out and write the URL."
        )
    draft.transport = transport
