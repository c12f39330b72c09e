"""One Redis server while its parts come together from a URL, a pair or a dict, and the check of the whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from trunkline.config import values
from trunkline.config.connection import connection_option
from trunkline.config.objects import Endpoint, Masked
from trunkline.errors import ConfigurationError

__all__ = ["Draft", "Transport", "check_host", "check_port", "check_socket_path", "finish", "transport_of"]

Transport = Literal["tcp", "tls", "unix"]


_HOST = re.compile(r"[^\s/@?#\\'\"\[\]{},:]{1,253}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.\-]+)?")


@dataclass
class Draft:
    """One host while its parts come together; what is set first wins."""

    where: str
    transport: Transport | None = None  # None: decided by the option 'ssl'
    default_port: int = 6379
    host: str | None = None
    port: int | None = None
    path: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: object, value: object, where: str | None = None, *, places: tuple[str, ...] = ()) -> None:
        """Judge a connection option and keep it, unless a stronger source has given it."""
        known, checked, note = connection_option(where or self.where, name, value, places=places)
        if note is not None:
            self.notes.append(note)
        elif checked is not None:
            self.options.setdefault(known, checked)


def check_host(where: str, value: object) -> str:
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


def check_port(where: str, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 8:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"The port of {where} must be a number from 1 to 65535, not {values.given(value)}.")
    if not 1 <= value <= 65535:
        raise ConfigurationError(
            f"The port of {where} is out of range: it must be from 1 to 65535, not {values.given(value)}."
        )
    return value


def check_socket_path(option: str, value: object) -> str:
    text = values.plain_text(option, str(value) if isinstance(value, PurePath) else value, what="a path")
    if not text.startswith("/") or not text.isprintable():
        raise ConfigurationError(f"Option {option!r} must be the absolute path of a socket: it begins with '/'.")
    return text


def transport_of(draft: Draft, shared: Mapping[str, object] | None = None) -> Transport:
    if draft.transport is not None:
        return draft.transport
    return "tls" if draft.options.get("ssl", (shared or {}).get("ssl")) else "tcp"


def finish(draft: Draft) -> Endpoint:
    where, options = draft.where, draft.options
    transport = transport_of(draft)
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
        port=0 if transport == "unix" else (draft.port or draft.default_port),
        path=draft.path or "",
        db=database if isinstance(database, int) else 0,
        username=username if isinstance(username, str) else None,
        password=password if isinstance(password, str) else None,
        options=Masked(options),
    )
