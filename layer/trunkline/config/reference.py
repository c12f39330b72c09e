"""The reference page of the configuration, made from the tables.

``python -m trunkline.config.reference > docs/reference/configuration.md`` writes it; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from trunkline.config.table import CONNECTION_OPTIONS, LAYERS, OPTIONS, VARIABLES, ConnectionOption, Option

__all__ = ["page"]

_INTRODUCTION = """\
# Configuration

<!-- Made from the tables of trunkline.config; don't edit: python -m trunkline.config.reference -->

A project names its channel layer in the Django setting `CHANNEL_LAYERS`, either by itself

```python
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "trunkline.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://redis:6379/0"]},
    },
}
```

or from the environment:

```python
from trunkline.env import channel_layers_from_env

CHANNEL_LAYERS = channel_layers_from_env()
```

Whatever is wrong is a `trunkline.ConfigurationError`: one sentence with the option, what was given and what is
accepted. Unknown options are errors. Passwords print as `***` and are never part of a message.
"""

_VARIABLES = """\
## Environment

An empty variable counts as not set. Two sources for one thing (`CHANNEL_LAYERS_CONFIG` with its `_FILE`, `hosts` with
`REDIS_URL`, `directory` with `TRUNKLINE_IPC_DIR`, a password in `REDIS_URL` with `REDIS_PASSWORD_FILE`) are an error.
With nothing set at all the processes of one machine talk through `trunkline.IPCChannelLayer`; inside a container that
is an error, because the processes of other containers would hear nothing.
"""

_TEXTS = """\
### The text of a CONFIG

A text is tried as JSON, then as a Python literal (tuples too), then as YAML in flow style. Quotes around the whole, a
comment behind it and backslashes before spaces are taken off, so that these all say the same:

```
{"hosts": [{"host": "redis", "port": 6379}]}
{'hosts': [('redis', 6379)]}
{hosts: [{host: redis, port: 6379}]}
"{'hosts':[{'host':\\ 'redis',\\ 'port':\\ 6379}]}"
"{'hosts':[{'host': 'redis', 'port': 6379}]}"
"\\"{'hosts':[{'host': 'redis', 'port': 6379}]}\\""  # Hostname is the name of the service
```

In a text a regular expression of `channel_capacity` is written after `re:`:

```
{"channel_capacity": {"re:websocket\\\\.send!.+": 20, "http.*": 200}}
```

Of a text that doesn't parse the message shows the length, a position and what was expected there, never its characters.
"""

_HOSTS = """\
## Forms of a host

| form | example |
|---|---|
| URL | `"redis://:password@redis:6379/0"`, `"rediss://redis:6380"`, `"unix:///run/redis.sock?db=1"` |
| URL with connection options | `"rediss://redis:6379/0?ssl_ca_certs=/etc/ssl/redis.pem"` |
| pair | `("redis", 6379)` |
| dict with a URL | `{"address": "redis://redis:6379/0", "password": "..."}` |
| dict | `{"host": "redis", "port": 6379, "db": 0, "username": "...", "password": "...", "ssl": True}` |
| dict of a socket | `{"unix_socket_path": "/run/redis.sock", "db": 1}` (or `path`) |
| host's name | `"redis"`, `"redis:6379"` |
| dict of a [service](../how-to/sentinel.md) | `{"sentinels": [("s1", 26379)], "master_name": "main", "db": 1}` |

In a name or password in a URL characters such as `/ ? # @ :` are percent-encoded. What stands in a URL wins over its
dict, and a host's own options over `connection_kwargs`. Each server may be named once.
"""


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [
        _INTRODUCTION,
        _VARIABLES,
        _table(("variable", "meaning", "default"), ((f"`{v.name}`", v.help, v.default) for v in VARIABLES)),
        _TEXTS,
    ]
    for layer, path in LAYERS.items():
        options = [option for option in OPTIONS if layer in option.layers]
        parts += [
            f"## `{path}`\n",
            _table(
                ("option", "unit", "default", "accepted", "meaning"),
                (
                    (f"`{o.name}`", o.unit, _written(o.default), _cell(o.accepted), o.help)
                    for o in options
                    if o.fate == "accepted"
                ),
            ),
            f"Options that a `CONFIG` written for {_forerunners(layer)} may hold besides:\n",
            _fates(options),
        ]
        if layer == "redis":
            parts += [
                _HOSTS,
                "## Connection options\n",
                "In `connection_kwargs`, in a host's dict or, but for dicts and objects, in a URL's query; named as in "
                "redis-py.\n",
                _table(
                    ("option", "accepted", "meaning"),
                    ((f"`{c.name}`", _cell(c.accepted), c.help) for c in CONNECTION_OPTIONS if c.fate == "accepted"),
                ),
                "Others:\n",
                _fates(CONNECTION_OPTIONS),
            ]
    return "\n".join(parts)


def _forerunners(layer: str) -> str:
    return "asgi_ipc or another layer" if layer == "ipc" else "asgi_redis or channels_redis"


def _fates(options: Iterable[Option | ConnectionOption]) -> str:
    """The options that are not simply accepted, those with the same answer in one row."""
    words = {"noted": "accepted without an effect", "answered": "refused", "later": "not in this version"}
    rows: dict[tuple[str, str], list[str]] = {}
    for option in options:
        if option.fate != "accepted":
            rows.setdefault((option.fate, option.help), []).append(f"`{option.name}`")
    return _table(
        ("option", "what happens", "why, or what to write"),
        ((", ".join(names), words[fate], _cell(help)) for (fate, help), names in rows.items()),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _written(value: object) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(), end="")
