"""Sentinels and the services that they look after, in the forms of asgi_redis and of channels_redis."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trunkline.config import values
from trunkline.config.connection import connection_option
from trunkline.config.draft import Draft, finish
from trunkline.config.forms import read_form
from trunkline.config.objects import Endpoint, SentinelService
from trunkline.errors import ConfigurationError

__all__ = ["decode_sentinels", "is_service", "service_draft", "service_names"]

MOST_SENTINELS = 100  # beyond all sense; each process keeps a connection to each
SENTINEL_PORT = 26379

_SERVICE_NAME = re.compile(r"[A-Za-z0-9._\-]{1,200}")  # what Sentinel itself accepts as a master's name
_KEYS = ("sentinels", "master_name", "service_name", "sentinel_kwargs")
_PLACES = ("address", "host", "port", "path", "unix_socket_path", "url")
_FORMS = "a (host, port) pair, a dict or a URL (redis://, rediss://)"


def is_service(entry: object) -> bool:
    """Whether an entry of ``hosts`` is channels_redis' dict of a service."""
    return isinstance(entry, Mapping) and any(entry.get(name) is not None for name in _KEYS)


def service_draft(entry: object, where: str) -> tuple[Draft, SentinelService]:
    """Read channels_redis' ``{"sentinels": [...], "master_name": ...}``, further keys being connection options.

    :returns: the draft of its primary, and the service without it.
    """
    assert isinstance(entry, Mapping)
    rest = dict(entry)
    if rest.get("sentinels") is None:
        raise ConfigurationError(
            f"Option {where!r} names a service of Redis Sentinel, but no Sentinels: add 'sentinels', a list of "
            "(host, port) pairs."
        )
    if rest.get("master_name") is not None and rest.get("service_name") is not None:
        raise ConfigurationError(f"Option {where!r} says twice which service it is: leave 'service_name' out.")
    name = rest.pop("master_name", None) or rest.pop("service_name", None)
    rest.pop("service_name", None)
    if name is None:
        raise ConfigurationError(
            f"Option {where!r} names Sentinels, but not their service: add 'master_name', such as 'mymaster'."
        )
    kwargs = rest.pop("sentinel_kwargs", None)
    if kwargs is None:  # as in redis-py, which then gives the socket's options to both
        kwargs = {key: value for key, value in rest.items() if str(key).startswith("socket_")}
    sentinels, notes = decode_sentinels(
        rest.pop("sentinels"), kwargs, f"{where}.sentinels", f"'{where}.sentinel_kwargs'"
    )
    for place in _PLACES:
        if rest.pop(place, None) is not None:
            raise ConfigurationError(
                f"Option {where!r} says twice where its server is: the Sentinels tell it, so leave {place!r} out."
            )
    if not rest.pop("is_master", True):
        raise ConfigurationError(f"Option '{where}.is_master' must be True: a channel layer writes, replicas don't.")
    rest.pop("check_connection", None)  # every connection is checked
    draft = Draft(where)
    draft.notes += notes
    for option, value in rest.items():
        draft.add(option, value)
    return draft, SentinelService(_service_name(f"{where}.master_name", name), sentinels)


def decode_sentinels(
    entries: object, sentinel_kwargs: object, source: str, kwargs_source: str
) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """Turn a list of Sentinels into endpoints.

    :param sentinel_kwargs: connection options for all of them; nothing of the primaries' is used for them.
    :param source: what the list is called in messages; ``kwargs_source`` likewise.
    :returns: the endpoints, and notes about connection options without an effect.
    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    shared = _shared(sentinel_kwargs, kwargs_source)
    found: list[Endpoint] = []
    notes: list[str] = []
    for position, entry in enumerate(_entries(entries, source)):
        where = f"{source}[{position}]"
        draft = _sentinel(entry, where)
        for name, value in shared.items():
            draft.add(name, value, kwargs_source)
        endpoint = finish(draft)
        notes += draft.notes
        if endpoint.transport == "unix" or endpoint.db:
            what = "a socket's path" if endpoint.transport == "unix" else "a database"
            raise ConfigurationError(f"Option {where!r} must be the host and port of a Sentinel, without {what}.")
        if any((endpoint.host, endpoint.port) == (other.host, other.port) for other in found):
            raise ConfigurationError(f"Option {source!r} must name each Sentinel once, but {where} comes twice.")
        found.append(endpoint)
    return tuple(found), tuple(dict.fromkeys(notes))


def service_names(option: str, services: object) -> tuple[str, ...]:
    """The names of services in the order given; none where there are none.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    if services is None:
        return ()
    if not isinstance(services, list | tuple):
        what = "a single text: write it into square brackets" if isinstance(services, str) else values.given(services)
        raise ConfigurationError(f"Option {option!r} must be a list of the names of services, not {what}.")
    names = [_service_name(f"{option}[{position}]", name) for position, name in enumerate(services)]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ConfigurationError(f"Option {option!r} must name each service once, but {name!r} comes twice.")
    return tuple(names)


def _service_name(option: str, value: object) -> str:
    text = values.plain_text(option, value, what="the name of a service as the Sentinels know it")
    if not _SERVICE_NAME.fullmatch(text):
        raise ConfigurationError(
            f"Option {option!r} must be the name of a service as the Sentinels know it: letters, digits, full stops, "
            "hyphens and underscores."
        )
    return text


def _entries(entries: object, source: str) -> list[object]:
    example = "[('sentinel', 26379)]"
    if entries is None:
        return [("localhost", SENTINEL_PORT)]
    if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, list | tuple):
        kind = "a single text" if isinstance(entries, str | bytes) else values.given(entries)
        raise ConfigurationError(
            f"Option {source!r} must be a list of Sentinels, even of one, not {kind}: write {example}."
        )
    if len(entries) == 2 and isinstance(entries[0], str) and "://" not in entries[0] and _is_port(entries[1]):
        raise ConfigurationError(
            f"Option {source!r} must be a list of Sentinels, not one (host, port) pair: write {example}."
        )
    if len(entries) > MOST_SENTINELS:
        raise ConfigurationError(f"Option {source!r} must name 1 to {MOST_SENTINELS} Sentinels, not {len(entries)}.")
    return list(entries) or [("localhost", SENTINEL_PORT)]


def _is_port(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isdecimal())


def _sentinel(entry: object, where: str) -> Draft:
    if isinstance(entry, str) and "://" not in entry:
        raise ConfigurationError(
            f"Option {where!r} must be {_FORMS} of a Sentinel, not another text: write ('sentinel', {SENTINEL_PORT})."
        )
    if is_service(entry):
        raise ConfigurationError(
            f"Option {where!r} must be {_FORMS} of a Sentinel, not a dict of a service; that belongs into the hosts of "
            "trunkline.RedisChannelLayer."
        )
    return read_form(entry, where, default_port=SENTINEL_PORT)


def _shared(kwargs: object, source: str) -> dict[str, object]:
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise ConfigurationError(f"Option {source} must be a dict of connection options, not {values.given(kwargs)}.")
    shared: dict[str, object] = {}
    for name, value in kwargs.items():
        known, checked, note = connection_option(source, name, value)
        if checked is not None or note is not None:
            shared[known] = value
    return shared
