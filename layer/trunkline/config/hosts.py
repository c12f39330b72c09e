"""``hosts`` in every form that asgi_redis and channels_redis take, turned into endpoints.

Forms and defaults come from the READMEs of asgi_redis 1.4 and channels_redis 4.3; the parts of a URL and of a dict
are those of redis-py's ``from_url`` and connection classes. No message repeats a text out of ``hosts``, because a
badly encoded password can end up in any part of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from trunkline.config import values
from trunkline.config.connection import connection_option, from_url_text
from trunkline.config.objects import Endpoint, Masked
from trunkline.errors import ConfigurationError

__all__ = ["MAX_HOSTS", "decode_hosts"]

MAX_HOSTS = 12  # one for each virtual shard of key schema 1

_ACCEPTED = "a URL (redis://, rediss://, unix://), a (host, port) pair, a dict or a host's name"
_EXAMPLE = "hosts=['redis://redis:6379/0']"
_BARE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-]+)(?::(?P<port>\d{1,8}))?")
_HOST = re.compile(r"[^\s/@?#\\'\"\[\]{},:]{1,253}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.\-]+)?")
_ENCODE = "characters such as / ? # @ : in a name or password must be percent-encoded (%2F %3F %23 %40 %3A)"
_SENTINEL_KEYS = ("sentinels", "master_name", "sentinel_kwargs", "service_name")

Transport = Literal["tcp", "tls", "unix"]


@dataclass
class _Draft:
    """One host while its parts come together; what is set first wins."""

    where: str
    transport: Transport | None = None
    from_url: bool = False
    host: str | None = None
    port: int | None = None
    path: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: object, value: object, where: str | None = None) -> None:
        """Judge a connection option and keep it, unless a stronger source has given it."""
        known, checked, note = connection_option(where or self.where, name, value)
        if note is not None:
            self.notes.append(note)
        elif checked is not None:
            self.options.setdefault(known, checked)


def decode_hosts(hosts: object, connection_kwargs: object = None) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """Turn ``hosts`` and ``connection_kwargs`` into endpoints, in the order given.

    :returns: the endpoints, and notes about connection options without an effect.
    :raises ConfigurationError: one sentence for each kind of wrong value, never with a text out of ``hosts``.
    """
    shared = _shared(connection_kwargs)
    entries = _entries(hosts)
    if any(name.startswith("ssl_") for name in shared):
        used = [_draft(entry, f"hosts[{position}]") for position, entry in enumerate(entries)]
        if not shared.get("ssl") and not any(_transport(draft) == "tls" for draft in used):
            raise ConfigurationError(
                "Option 'connection_kwargs' holds options of TLS (ssl_…), but no host uses TLS: write rediss:// in its "
                "URL or 'ssl': True in its dict."
            )
    endpoints: list[Endpoint] = []
    notes: dict[str, None] = {}  # in order and without repetition
    for position, entry in enumerate(entries):
        draft = _draft(entry, f"hosts[{position}]")
        for name, value in shared.items():
            if name.startswith("ssl_") and _transport(draft, shared) != "tls":
                continue  # for the other hosts, which do use TLS
            draft.add(name, value, "'connection_kwargs'")
        endpoint = _finish(draft)
        notes.update(dict.fromkeys(draft.notes))
        for earlier, other in enumerate(endpoints):
            if endpoint.label.partition("://")[2] == other.label.partition("://")[2]:
                raise ConfigurationError(
                    f"Option 'hosts' must name each server once, but hosts[{position}] is the same as hosts[{earlier}]."
                )
        endpoints.append(endpoint)
    return tuple(endpoints), tuple(notes)


def _entries(hosts: object) -> list[object]:
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
        raise ConfigurationError(f"Option 'hosts' must name 1 to {MAX_HOSTS} servers, not {len(hosts)}.")
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
        connection_option("'connection_kwargs'", name, value)  # even where no host takes it up
        shared[name] = value
    return shared


def _draft(entry: object, where: str) -> _Draft:
    draft = _Draft(where)
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


def _read_text(draft: _Draft, text: str) -> None:
    text = text.strip()
    if not text:
        raise ConfigurationError(f"Option {draft.where!r} must be {_ACCEPTED}, not an empty text.")
    if "://" in text or text.startswith("unix:/"):
        _read_url(draft, text)
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
        draft.port = _port(draft.where, match["port"])


def _read_pair(draft: _Draft, pair: list[object] | tuple[object, ...]) -> None:
    if len(pair) != 2:
        raise ConfigurationError(
            f"Option {draft.where!r} must be a pair of host and port, not a sequence of {len(pair)}; a password or "
            "a database goes into a URL or a dict."
        )
    draft.host = _host(draft.where, pair[0])
    draft.port = _port(draft.where, pair[1])


def _read_dict(draft: _Draft, entry: Mapping[object, object]) -> None:
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
            draft.path = _socket_path(f"{where}.{name}", path)
    host, port = rest.pop("host", None), rest.pop("port", None)
    if host is not None:
        draft.host = _host(where, host)
    if port is not None:
        draft.port = _port(where, port)
    if "url" in rest:
        raise ConfigurationError(f"Option {where!r} must name its URL 'address', not 'url'.")
    _read_class(draft, rest.pop("connection_class", None))
    for option, value in rest.items():
        draft.add(option, value)


def _read_class(draft: _Draft, value: object) -> None:
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


def _read_url(draft: _Draft, url: str) -> None:
    where = draft.where
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ConfigurationError(f"The URL of {where} has spaces or line breaks in it; percent-encode them (%20).")
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname, parts.port
    except ValueError:
        # The library's own message holds pieces of the URL, hence "from None".
        raise ConfigurationError(
            f"The URL of {where} has a part where its host and port should be that isn't one; {_ENCODE}."
        ) from None
    draft.transport = _transport_of_scheme(where, parts.scheme)
    draft.from_url = True
    if parts.fragment or url.endswith("#"):
        raise ConfigurationError(f"The URL of {where} has a '#' in it, which no Redis URL has; {_ENCODE}.")
    if draft.transport == "unix":
        if hostname:
            raise ConfigurationError(
                f"The URL of {where} must hold an absolute path: write unix:///path, three slashes."
            )
        draft.path = _socket_path(where, unquote(parts.path))
    else:
        draft.host = "localhost" if hostname is None else _host(where, unquote(hostname))
        draft.port = 6379 if port is None else _port(where, port)
    _read_query(draft, parts)
    for name, text in (("username", parts.username), ("password", parts.password)):
        if text:
            draft.options.pop(name, None)  # as in redis-py, what stands before the @ wins
            draft.add(name, unquote(text))
    database = parts.path.strip("/") if draft.transport != "unix" else ""
    if database and "db" not in draft.options:
        if not database.isascii() or not database.isdecimal() or len(database) > 9:
            raise ConfigurationError(
                f"The URL of {where} must end with the number of a database, such as /0, not another path; {_ENCODE}."
            )
        draft.add("db", database)


def _read_query(draft: _Draft, parts: SplitResult) -> None:
    where = draft.where
    try:
        parameters = parse_qsl(parts.query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise ConfigurationError(f"The URL of {where} has parameters that can't be read; {_ENCODE}.") from None
    seen = set()
    for name, text in parameters:
        if "@" in parts.query or not text:
            raise ConfigurationError(f"The URL of {where} has a parameter without a value after its '?'; {_ENCODE}.")
        if name in seen:
            raise ConfigurationError(f"The URL of {where} gives parameter {values.named(name)} twice.")
        seen.add(name)
        if name in ("host", "port", "path"):
            raise ConfigurationError(f"The URL of {where} must hold the {name} before its '?', not as a parameter.")
        draft.add(name, from_url_text(where, name, text))


def _transport_of_scheme(where: str, scheme: str) -> Transport:
    known: dict[str, Transport] = {"redis": "tcp", "rediss": "tls", "unix": "unix"}
    if scheme in known:
        return known[scheme]
    if "sentinel" in scheme:
        raise ConfigurationError(
            f"The URL of {where} asks for Redis Sentinel, which is not in this version; name each server itself."
        )
    if "cluster" in scheme:
        raise ConfigurationError(
            f"The URL of {where} asks for Redis Cluster, which is not in this version; name single servers."
        )
    hints = {
        "valkey": "; for Valkey write redis://",
        "valkeys": "; for Valkey write rediss://",
        "redis+socket": "; write unix://",
        "redis+unix": "; write unix://",
        "redis+ssl": "; write rediss://",
        "redis+tls": "; write rediss://",
        "http": "; Redis doesn't speak HTTP",
        "https": "; Redis doesn't speak HTTP",
    }
    raise ConfigurationError(
        f"The URL of {where} must begin with redis://, rediss:// or unix://, not with another scheme"
        f"{hints.get(scheme, '')}."
    )


def _host(where: str, value: object) -> str:
    if isinstance(value, bytes):
        raise ConfigurationError(f"The host of {where} must be a text, not bytes.")
    if not isinstance(value, str):
        raise ConfigurationError(f"The host of {where} must be a text, not {values.given(value)}.")
    text = value.strip()
    if not text:
        raise ConfigurationError(f"The host of {where} must be a name or an address, not an empty text.")
    if "://" in text:
        raise ConfigurationError(f"The host of {where} must be a name or an address, not a URL; write the URL alone.")
    if text.startswith("/"):
        raise ConfigurationError(f"The host of {where} must be a name or an address, not a path; write unix:///path.")
    if re.fullmatch(r"[^:\[\]]+:\d+", text):
        raise ConfigurationError(f"The host of {where} must be a name or an address alone; its port stands beside it.")
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if not _HOST.fullmatch(text) or not text.isprintable():
        raise ConfigurationError(
            f"The host of {where} must be a name or an address, not a text with characters that neither has."
        )
    return text


def _port(where: str, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 8:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"The port of {where} must be a number from 1 to 65535, not {values.given(value)}.")
    if not 1 <= value <= 65535:
        raise ConfigurationError(
            f"The port of {where} is out of range: it must be from 1 to 65535, not {values.given(value)}."
        )
    return value


def _socket_path(option: str, value: object) -> str:
    text = values.plain_text(option, str(value) if isinstance(value, PurePath) else value, what="a path")
    if not text.startswith("/") or not text.isprintable():
        raise ConfigurationError(f"Option {option!r} must be the absolute path of a socket: it begins with '/'.")
    return text


def _transport(draft: _Draft, shared: Mapping[str, object] | None = None) -> Transport:
    if draft.transport is not None:
        return draft.transport
    return "tls" if draft.options.get("ssl", (shared or {}).get("ssl")) else "tcp"


def _finish(draft: _Draft) -> Endpoint:
    where, options = draft.where, draft.options
    transport = _transport(draft)
    tls = options.pop("ssl", None)
    if tls is not None and tls is not (transport == "tls"):
        what = "'ssl': True, but a unix socket" if transport == "unix" else f"'ssl': {tls}, but a URL"
        if not (transport == "unix" and tls is False):
            remedy = "leave 'ssl' out" if transport == "unix" or not tls else "write rediss:// in the URL"
            raise ConfigurationError(f"Option {where!r} contradicts itself: {what} that says otherwise; {remedy}.")
    if transport != "tls":
        for name in options:
            if name.startswith("ssl_"):
                raise ConfigurationError(
                    f"Connection option {name!r} in {where} needs TLS: write rediss:// in the URL or 'ssl': True "
                    "beside 'host'."
                )
    if transport == "unix":
        for name in ("socket_keepalive", "socket_keepalive_options"):
            if options.pop(name, None) is not None:
                draft.notes.append(f"Connection option {name!r} has no effect on a unix socket.")
    username, password = options.pop("username", None), options.pop("password", None)
    if "credential_provider" in options and (username is not None or password is not None):
        raise ConfigurationError(f"Option {where!r} must give 'credential_provider' or a name and password, not both.")
    database = options.pop("db", 0)
    return Endpoint(
        transport=transport,
        host="" if transport == "unix" else (draft.host or "localhost"),
        port=0 if transport == "unix" else (draft.port or 6379),
        path=draft.path or "",
        db=database if isinstance(database, int) else 0,
        username=username if isinstance(username, str) else None,
        password=password if isinstance(password, str) else None,
        options=Masked(options),
    )
