"""``hosts`` and the options that all of them share, turned into endpoints and services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trunkline.config import values
from trunkline.config.connection import connection_option
from trunkline.config.draft import Draft, finish, transport_of
from trunkline.config.forms import read_form
from trunkline.config.objects import Endpoint, SentinelService
from trunkline.config.sentinels import decode_sentinels, is_service, service_draft, service_names
from trunkline.errors import ConfigurationError

__all__ = ["MAX_HOSTS", "decode_hosts", "decode_services"]

MAX_HOSTS = 12  # one for each virtual shard of key schema 1

_EXAMPLE = "hosts=['redis://redis:6379/0']"


def decode_hosts(
    hosts: object, connection_kwargs: object = None, *, source: str = "hosts"
) -> tuple[tuple[Endpoint | SentinelService, ...], tuple[str, ...]]:
    """Turn ``hosts`` and ``connection_kwargs`` into endpoints and services, in the order given.

    :param source: what the servers are called in messages.
    :returns: the hosts, and notes about connection options without an effect.
    :raises ConfigurationError: one sentence for each kind of wrong value, never with a text out of ``hosts``.
    """
    shared = _shared(connection_kwargs)
    entries = _entries(hosts, source)
    if any(name.startswith("ssl_") for name in shared) and not shared.get("ssl"):
        used = [_draft(entry, f"{source}[{position}]")[0] for position, entry in enumerate(entries)]
        if not any(transport_of(draft) == "tls" for draft in used):
            raise ConfigurationError(
                "Option 'connection_kwargs' holds options of TLS (ssl_…), but no host uses TLS: write rediss:// in its "
                "URL or 'ssl': True in its dict."
            )
    found: list[Endpoint | SentinelService] = []
    notes: dict[str, None] = {}  # in order and without repetition
    for position, entry in enumerate(entries):
        draft, service = _draft(entry, f"{source}[{position}]")
        endpoint = _share(draft, shared)
        notes.update(dict.fromkeys(draft.notes))
        host = endpoint if service is None else replace(service, primary=endpoint)
        for earlier, other in enumerate(found):
            if host.label.partition("://")[2] == other.label.partition("://")[2]:
                raise ConfigurationError(
                    f"Option {source!r} must name each server once, but {source}[{position}] is the same as "
                    f"{source}[{earlier}]."
                )
        found.append(host)
    return tuple(found), tuple(notes)


def decode_services(
    hosts: object, services: object, refresh_interval: float, connection_kwargs: object, sentinel_kwargs: object
) -> tuple[tuple[SentinelService, ...], SentinelService, tuple[str, ...]]:
    """Turn the Sentinels in ``hosts`` and the names in ``services`` into services, in the order given.

    :returns: the services, one without a name for others of these Sentinels, and notes as from ``decode_hosts``.
    :raises ConfigurationError: as ``decode_hosts``.
    """
    sentinels, sentinel_notes = decode_sentinels(hosts, sentinel_kwargs, "hosts", "'sentinel_kwargs'")
    shared = _shared(connection_kwargs)
    draft = Draft("connection_kwargs")
    if any(name.startswith("ssl_") for name in shared) and not shared.get("ssl"):
        raise ConfigurationError(
            "Option 'connection_kwargs' holds options of TLS (ssl_…), but the servers don't use TLS: add 'ssl': True."
        )
    nameless = SentinelService("", sentinels, _share(draft, shared), refresh_interval)
    names = service_names("services", services)
    if len(names) > MAX_HOSTS:
        raise ConfigurationError(f"Option 'services' must name at most {MAX_HOSTS} services, not {len(names)}.")
    notes = dict.fromkeys((*sentinel_notes, *draft.notes))
    return tuple(replace(nameless, name=name) for name in names), nameless, tuple(notes)


def _draft(entry: object, where: str) -> tuple[Draft, SentinelService | None]:
    return service_draft(entry, where) if is_service(entry) else (read_form(entry, where), None)


def _share(draft: Draft, shared: Mapping[str, object]) -> Endpoint:
    for name, value in shared.items():
        if name.startswith("ssl_") and transport_of(draft, shared) != "tls":
            continue  # for the other hosts, which do use TLS
        draft.add(name, value, "'connection_kwargs'")
    return finish(draft)


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
