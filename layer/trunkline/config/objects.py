"""The typed, frozen objects that a judged configuration becomes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "MASK",
    "CommonOptions",
    "Endpoint",
    "IPCOptions",
    "LocalOptions",
    "Masked",
    "RedisOptions",
    "Secrets",
    "SentinelService",
    "is_secret",
]

MASK = "***"  # what stands for a secret in every repr

SerializerFormat = Literal["msgpack", "json"]

_SECRET_NAME = re.compile(r"pass|secret|token|credential|ssl_ca_data|key(?!file)", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether an option of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


class Masked(Mapping[str, object]):
    """A read-only mapping of options whose ``repr`` shows ``***`` where a value is a secret."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, object]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> object:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        shown = (f"{name!r}: {MASK if is_secret(name) else repr(value)}" for name, value in self._items.items())
        return "{" + ", ".join(shown) + "}"


class Secrets(tuple[bytes, ...]):
    """Secrets that print as ``***``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK if self else "none"


NO_SECRETS = Secrets()


@dataclass(frozen=True)
class CommonOptions:
    """What every channel layer of ours is told.

    :ivar prefix: begins every key or file name; two layers with different prefixes never meet.
    :ivar expiry: seconds after which an unread message is gone.
    :ivar group_expiry: seconds after its last ``group_add`` that a membership ends.
    :ivar capacity: unread messages that a channel may hold.
    :ivar channel_capacity: (compiled pattern, capacity) pairs in the order given; the first match wins.
    :ivar serializer_format: how messages become bytes; both formats are read.
    :ivar symmetric_encryption_keys: the SHA-256 of each: the first encrypts, all decrypt; empty for the clear.
    :ivar warnings: sentences to be logged once.
    """

    prefix: str = "trunkline"
    expiry: float = 60
    group_expiry: float = 86400
    capacity: int = 100
    channel_capacity: tuple[tuple[re.Pattern[str], int], ...] = ()
    serializer_format: SerializerFormat = "msgpack"
    symmetric_encryption_keys: Secrets = NO_SECRETS
    warnings: tuple[str, ...] = ()

    def capacity_of(self, channel: str) -> int:
        """Return how many unread messages ``channel`` (a full channel name) may hold.

        Patterns are matched from the name's beginning, as Channels does: globs cover the whole name, a compiled
        regular expression only what it says.
        """
        for pattern, capacity in self.channel_capacity:
            if pattern.match(channel):
                return capacity
        return self.capacity


@dataclass(frozen=True)
class Endpoint:
    """One Redis server and how to connect to it.

    :ivar transport: ``tcp``, ``tls`` or ``unix``.
    :ivar host: name or address, empty for ``unix``.
    :ivar port: 1 to 65535, 0 for ``unix``.
    :ivar path: absolute path of the socket, empty unless ``unix``.
    :ivar db: number of the database.
    :ivar options: further keyword arguments for redis-py's connection classes, checked; ``ssl_…`` only with ``tls``.
    """

    transport: Literal["tcp", "tls", "unix"] = "tcp"
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, object] = field(default_factory=lambda: Masked({}), hash=False)

    @property
    def label(self) -> str:
        """A URL for log lines and errors, such as ``redis://cache:6379/0``; it never holds a secret."""
        if self.transport == "unix":
            return f"unix://{self.path}?db={self.db}"
        scheme = "rediss" if self.transport == "tls" else "redis"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{self.db}"

    def __repr__(self) -> str:
        # A user name without a password is often a password in the wrong place (redis://secret@host).
        username = self.username if self.username is None or self.password is not None else MASK
        pieces = [self.label]
        if self.username is not None:
            pieces.append(f"username={username}")
        if self.password is not None:
            pieces.append(f"password={MASK}")
        if self.options:
            pieces.append(f"options={Masked(self.options)!r}")
        return f"<Endpoint {' '.join(pieces)}>"


@dataclass(frozen=True)
class SentinelService:
    """One Redis server under whatever address its Sentinels name at the moment.

    :ivar name: of the service (Sentinel's "master name"); empty where the services are still to be asked for.
    :ivar sentinels: the Sentinels and how to connect to them.
    :ivar primary: how to connect to the primary; its host and port say nothing.
    :ivar refresh_interval: seconds for which an address is used without asking again.
    """

    name: str
    sentinels: tuple[Endpoint, ...]
    primary: Endpoint = field(default_factory=Endpoint)
    refresh_interval: float = 5.0

    @property
    def label(self) -> str:
        """A URL for log lines and errors, such as ``sentinel://s1:26379,s2:26379/main``; it never holds a secret."""
        places = ",".join(sentinel.label.partition("://")[2].rpartition("/")[0] for sentinel in self.sentinels)
        return f"sentinel://{places}/{self.name}"

    def __repr__(self) -> str:
        primary = repr(self.primary).removeprefix("<Endpoint ").removesuffix(">").partition(" ")[2]
        pieces = [self.label, *(repr(sentinel) for sentinel in self.sentinels if sentinel.password is not None)]
        return f"<SentinelService {' '.join(pieces)}{' primary ' + primary if primary else ''}>"


@dataclass(frozen=True)
class RedisOptions:
    """The judged ``CONFIG`` of :class:`trunkline.RedisChannelLayer` and :class:`trunkline.RedisSentinelChannelLayer`.

    :ivar hosts: the servers in the order given, 1 to 12; none where ``discover`` is given.
    :ivar discover: the Sentinels that are to be asked which services there are.
    :ivar wait_replicas: how many replicas must have a message before its send returns.
    :ivar retry_time: seconds, counted from an outage's start, for which sends are retried.
    :ivar notes: sentences about options that were accepted without an effect; to be logged once.
    """

    common: CommonOptions = field(default_factory=CommonOptions)
    hosts: tuple[Endpoint | SentinelService, ...] = field(default_factory=lambda: (Endpoint(),))
    retry_time: float = 10.0
    notes: tuple[str, ...] = ()
    discover: SentinelService | None = None
    wait_replicas: int = 0


@dataclass(frozen=True)
class IPCOptions:
    """The judged ``CONFIG`` of :class:`trunkline.IPCChannelLayer`.

    :ivar directory: absolute path, or ``None`` for the layer's own default.
    :ivar size: bytes that the store may grow to.
    :ivar mode: permission bits of the directory; the owner always has all of them.
    :ivar group: name or number of the group that the directory belongs to, or ``None`` for the process's own.
    :ivar notes: as in :class:`RedisOptions`.
    """

    common: CommonOptions = field(default_factory=CommonOptions)
    directory: str | None = None
    size: int = 256 * 1024 * 1024
    mode: int = 0o700
    group: str | int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalOptions:
    """The judged ``CONFIG`` of :class:`trunkline.RedisLocalChannelLayer`.

    :ivar redis: of process-specific channels and groups.
    :ivar ipc: of normal channels.
    :ivar notes: as in :class:`RedisOptions`, of both.
    """

    redis: RedisOptions
    ipc: IPCOptions
    notes: tuple[str, ...] = ()

    @property
    def common(self) -> CommonOptions:
        """What both are told."""
        return self.redis.common
