"""The parts of a Redis URL, as redis-py's ``from_url`` understands them.

No message repeats a part of the URL, because a badly encoded password can end up in any of them.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from trunkline.config.connection import from_url_text, refuse_unknown
from trunkline.config.draft import Draft, Transport, check_host, check_port, check_socket_path
from trunkline.errors import ConfigurationError

__all__ = ["read_url"]

_ENCODE = "characters such as / ? # @ : in a name or password must be percent-encoded (%2F %3F %23 %40 %3A)"


def read_url(draft: Draft, url: str) -> None:
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
    draft.transport = _of_scheme(where, parts.scheme)
    if parts.fragment or url.endswith("#"):
        raise ConfigurationError(f"The URL of {where} has a '#' in it, which no Redis URL has; {_ENCODE}.")
    if draft.transport == "unix":
        if hostname:
            raise ConfigurationError(
                f"The URL of {where} must hold an absolute path: write unix:///path, three slashes."
            )
        draft.path = check_socket_path(where, unquote(parts.path))
    else:
        draft.host = "localhost" if hostname is None else check_host(where, unquote(hostname))
        draft.port = draft.default_port if port is None else check_port(where, port)
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


def _read_query(draft: Draft, parts: SplitResult) -> None:
    where = draft.where
    try:
        parameters = parse_qsl(parts.query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise ConfigurationError(f"The URL of {where} has parameters that can't be read; {_ENCODE}.") from None
    seen = set()
    for name, text in parameters:
        if "@" in parts.query or not text:
            raise ConfigurationError(f"The URL of {where} has a parameter without a value after its '?'; {_ENCODE}.")
        if name in ("host", "port", "path"):
            raise ConfigurationError(f"The URL of {where} must hold the {name} before its '?', not as a parameter.")
        refuse_unknown(where, name)
        if name in seen:
            raise ConfigurationError(f"The URL of {where} gives parameter {name!r} twice.")
        seen.add(name)
        draft.add(name, from_url_text(where, name, text))


def _of_scheme(where: str, scheme: str) -> Transport:
    known: dict[str, Transport] = {"redis": "tcp", "rediss": "tls", "unix": "unix"}
    if scheme in known:
        return known[scheme]
    if "sentinel" in scheme:
        raise ConfigurationError(
            f"The URL of {where} must begin with redis://, rediss:// or unix://; a service of Sentinels is a dict: "
            "{'sentinels': [('sentinel', 26379)], 'master_name': 'mymaster'}."
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
