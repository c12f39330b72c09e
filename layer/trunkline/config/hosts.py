"""``hosts`` in every form that asgi_redis and channels_redis take, turned into endpoints.

Forms and defaults come from the READMEs of asgi_redis 1.4 and channels_redis 4.3; the parts of a dict are
those of redis-py's connection classes. No message repeats a text out of ``hosts``, because a
badly encoded password can end up in any part of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trunkline.config import values
from trunkline.config.connection import connection_option
from trunkline.config.draft import Draft, Transport, check_host, check_port, check_socket_path, finish, transport_of
from trunkline.config.objects import Endpoint
from trunkline.config.url import read_url
from trunkline.errors import ConfigurationError

__all__ = ["MAX_HOSTS", "decode_hosts"]

MAX_HOSTS = 12  # one for each virtual shard of key schema 1

_ACCEPTED = "a URL (redis://, rediss://, unix://), a (host, port) pair, a dict or a host's name"
_EXAMPLE = "hosts=['redis://redis:6379/0']"
_BARE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-]+)(?::(?P<port>\d{1,8}))?")
_PLACES = ("address", "host", "port", "unix_socket_path")
_SENTINEL_KEYS = ("sentinels", "master_name", "sentinel_kwargs", "service_name")


def decode_hosts(
    hosts: object, connection_kwargs: object = None, *, source: str = "hosts"
) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """Turn ``hosts`` and ``connection_kwargs`` into endpoints, in the order given.

    :param source: what the servers are called in messages.
    :returns: the endpoints, and notes about connection options without an effect.
    :raises ConfigurationError: one sentence for each kind of wrong value, never with a text out of ``hosts``.
    """
    shared = _shared(connection_kwargs)
    entries = _entries(hosts, source)
    if any(name.startswith("ssl_") for name in shared):
        used = [_draft(entry, f"{source}[{position}]") for position, entry in enumerate(entries)]
        if not shared.get("ssl") and not any(transport_of(draft) == "tls" for draft in used):
            raise ConfigurationError(
                "Option 'connection_kwargs' holds options of TLS (ssl_…), but no host uses TLS: write rediss:// in its "
                "URL or 'ssl': True in its dict."
            )
    endpoints: list[Endpoint] = []
    notes: dict[str, None] = {}  # in order and without repetition
    for position, entry in enumerate(entries):
        draft = _draft(entry, f"{source}[{position}]")
        for name, value in shared.items():
            if name.startswith("ssl_") and transport_of(draft, shared) != "tls":
                continue  # for the other hosts, which do use TLS
            draft.add(name, value, "'connection_kwargs'")
        endpoint = finish(draft)
        notes.update(dict.fromkeys(draft.notes))
        for earlier, other in enumerate(endpoints):
            if endpoint.label.partition("://")[2] == other.label.partition("://")[2]:
                raise ConfigurationError(
                    f"Option {source!r} must name each server once, but {source}[{position}] is the same as "
                    f"{source}[{earlier}]."
                )
        endpoints.append(endpoint)
    return tuple(endpoints), tuple(notes)


def _entries(hosts: object, source: str) -> list[object]:
    if hosts is None:
        return ["redis://localhost:6379"]
    if isinstance(hosts, str | bytes):
        kind = "a single text" if isinstance(hosts, str) else "bytes"
        raise ConfigurationError(f"Option 'hosts' must be a list, even of one server, not {kind}: write {_EXAMPLE}.")
    if isinstance(hosts, Mapping):
        raise ConfigurationError(
            "Option 'hosts' must be a list, even of one server, not a dict: put the dict into square brackets."
        )
    if isinstance(hosts, set | frozenset):
        raise ConfigurationError(
            "Option 'hosts' must be a list, not a set, because the order of the servers counts: write square brackets."
        )
    if not isinstance(hosts, list | tuple):
        raise ConfigurationError(
            f"Option 'hosts' must be a list of servers, not {values.given(hosts)}: write {_EXAMPLE}."
        )
    if len(hosts) == 2 and isinstance(hosts[0], str) and "://" not in hosts[0] and _is_port(hosts[1]):
        raise ConfigurationError(
            "Option 'hosts' must be a list of servers, not one (host, port) pair: write the pair inside a list, "
            "hosts=[('redis', 6379)]."
        )
    if len(hosts) > MAX_HOSTS:
        raise ConfigurationError(f"Option {source!r} must name 1 to {MAX_HOSTS} servers, not {len(hosts)}.")
    return list(hosts) or ["redis://localhost:6379"]


def _is_port(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdecimal()
    return isinstance(value, int)


def _shared(connection_kwargs: object) -> dict[str, object]:
    if connection_kwargs is None:
        return {}
    if not isinstance(connection_kwargs, Mapping):
        raise ConfigurationError(
            f"Option 'connection_kwargs' must be a dict of connection options, not {values.given(connection_kwargs)}."
        )
    shared: dict[str, object] = {}
    for name, value in connection_kwargs.items():
        if name in ("host", "port", "path", "unix_socket_path", "address", "url", "connection_class"):
            raise ConfigurationError(
                f"Connection option {name!r} in 'connection_kwargs' belongs to one server: write it into 'hosts'."
            )
        # Judged here already, because perhaps no host takes it up.
        known, checked, note = connection_option("'connection_kwargs'", name, value)
        if checked is not None or note is not None:
            shared[known] = value
    return shared


def _draft(entry: object, where: str) -> Draft:
    draft = Draft(where)
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
    for name in _SENTINEL_KEYS:
        if rest.get(name) is not None:
            raise ConfigurationError(
                f"Option {where!r} describes Redis Sentinel ({name!r}), which is not in this version; name each server "
                "itself."
            )
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
