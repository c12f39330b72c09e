"""The tables of all options and variables: the checks, the messages and the reference page are made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CONNECTION_OPTIONS", "LAYERS", "OPTIONS", "VARIABLES", "ConnectionOption", "Option", "Variable"]

LAYERS = {
    "redis": "trunkline.RedisChannelLayer",
    "sentinel": "trunkline.RedisSentinelChannelLayer",
    "local": "trunkline.RedisLocalChannelLayer",
    "ipc": "trunkline.IPCChannelLayer",
}

_ALL = ("redis", "sentinel", "local", "ipc")
_REDIS = ("redis", "sentinel", "local")
_IPC = ("local", "ipc")
_SENTINEL = ("sentinel", "local")

Fate = Literal["accepted", "noted", "answered", "later"]


@dataclass(frozen=True)
class Option:
    """One option of a layer's ``CONFIG``.

    :ivar layers: keys of :data:`LAYERS` that know the option.
    :ivar unit: of the value; empty where there is none.
    :ivar default: in the form in which one would write it.
    :ivar accepted: what may be given.
    :ivar help: what the option does; for ``answered`` what to write instead, for ``later`` what it will do, for
        ``noted`` why it has no effect.
    :ivar fate: ``accepted``; ``noted``: accepted without an effect, which the layer logs once; ``answered``: refused
        with a sentence that says what to write; ``later``: refused because the feature is not in this version.
    """

    name: str
    layers: tuple[str, ...]
    unit: str
    default: object
    accepted: str
    help: str
    fate: Fate = "accepted"


def _legacy(fate: Fate, names: str, help: str, layers: tuple[str, ...] = _ALL) -> tuple[Option, ...]:
    return tuple(
        Option(name, layers, "", None, "None" if fate != "noted" else "anything", help, fate) for name in names.split()
    )


OPTIONS: tuple[Option, ...] = (
    Option(
        "hosts",
        ("redis", "local"),
        "",
        ["redis://localhost:6379"],
        "a list of 1 to 12 servers, each a URL (redis://, rediss://, unix://), a (host, port) pair, a dict or a host's "
        "name",
        "The Redis servers. Several share the channels and groups between them; the order counts and must be the same "
        "everywhere.",
    ),
    Option(
        "hosts",
        ("sentinel",),
        "",
        [["localhost", 26379]],
        "a list of Sentinels, each a (host, port) pair, a dict or a URL (redis://, rediss://)",
        "The Sentinels, all of one kind: each knows all services. They are asked side by side.",
    ),
    Option(
        "services",
        _SENTINEL,
        "",
        [],
        "a list of up to 12 names of services",
        "The services (what Sentinel calls masters), each of which is a shard; the order counts and must be the same "
        "everywhere. An empty list is all that the Sentinels know, sorted by name, at the layer's first use. "
        "`trunkline.RedisLocalChannelLayer` takes its `hosts` for Sentinels where this option is given.",
    ),
    Option(
        "sentinel_refresh_interval",
        _SENTINEL,
        "seconds",
        5.0,
        "a number from 0 to 86400",
        "How long a primary's address is used for new connections without asking the Sentinels again, and how often "
        "it is looked after that it didn't change (at most every second). A failover is noticed at once all the same, "
        "because every process listens to the Sentinels.",
    ),
    Option(
        "sentinel_kwargs",
        _SENTINEL,
        "",
        {},
        "a dict of connection options (below)",
        "Connection options for the Sentinels, such as a password of their own and TLS.",
    ),
    Option(
        "prefix",
        _ALL,
        "",
        "trunkline",
        "a text of 1 to 100 characters without braces and spaces",
        "Begins every key or file name. Layers with different prefixes never meet.",
    ),
    Option(
        "expiry",
        _ALL,
        "seconds",
        60,
        "a number from 0.001 to 3155760000",
        "How long an unread message lives.",
    ),
    Option(
        "group_expiry",
        _ALL,
        "seconds",
        86400,
        "a number from 0.001 to 3155760000",
        "How long a group membership lives after its last `group_add`. It should not be shorter than the longest "
        "connection of the interface server.",
    ),
    Option(
        "capacity",
        _ALL,
        "messages",
        100,
        "a whole number from 1 to 9223372036854775807",
        "How many unread messages a channel holds; one more raises `ChannelFull`.",
    ),
    Option(
        "channel_capacity",
        _ALL,
        "messages",
        {},
        "a dict, or a list of pairs, from a glob or a regular expression (compiled, or 're:' and its text) to a "
        "capacity",
        "Capacities of single channels by full name. The first match in the order given wins. A glob covers the whole "
        "name, a regular expression matches from the name's beginning as far as it goes.",
    ),
    Option(
        "serializer_format",
        _ALL,
        "",
        "msgpack",
        "'msgpack' or 'json'",
        "How messages become bytes. Both are read, so that processes may differ. JSON carries no byte strings: sending "
        "one is a TypeError.",
    ),
    Option(
        "symmetric_encryption_keys",
        _ALL,
        "",
        [],
        "a list of keys (texts or bytes), each of 32 random bytes at best",
        "Encrypts and authenticates every message. The first key encrypts, all decrypt; a process with keys refuses "
        "what is not encrypted. Needs `trunkline[encryption]`.",
    ),
    Option(
        "connection_kwargs",
        _REDIS,
        "",
        {},
        "a dict of connection options (below)",
        "Connection options for all hosts; a host's own win. Behind Sentinels those for the primaries.",
    ),
    Option(
        "retry_time",
        _REDIS,
        "seconds",
        10.0,
        "a number from 0.001 to 60",
        "How long sends are retried, counted from an outage's start.",
    ),
    Option(
        "wait_replicas",
        _REDIS,
        "replicas",
        0,
        "a whole number from 0 to 100",
        "How many replicas must have a message before its send returns. A send that so many did not confirm within "
        "`retry_time` raises `LayerUnavailable`; its message is stored all the same.",
    ),
    Option(
        "directory",
        _IPC,
        "",
        None,
        "an absolute path",
        "Where messages and groups live; a directory in memory is best. `None` is `/dev/shm/trunkline-<uid>`, else a "
        "directory in the temporary one.",
    ),
    Option(
        "size",
        _IPC,
        "bytes",
        256 * 1024 * 1024,
        "a whole number from 65536 to 1099511627776",
        "What the store may grow to. Space is taken when it is used.",
    ),
    Option(
        "mode",
        _IPC,
        "",
        "0700",
        "'0700' (owner only), '0770' (a group too) or '0777' (everybody), as text or as an octal number",
        "Who may use the directory. With `group` the default is '0770'.",
    ),
    Option(
        "group",
        _IPC,
        "",
        None,
        "a group's name or number",
        "The group that the directory belongs to; `None` is the process's own.",
    ),
    # What a CONFIG written for asgi_redis, asgi_ipc or channels_redis may hold besides.
    *_legacy("noted", "random_prefix_length", "messages are numbered and need no random prefix to be told apart"),
    *_legacy("noted", "stats_prefix", "statistics lie under 'prefix', as everything does"),
    *_legacy(
        "answered",
        "sentinels master_name service_name",
        "it belongs to a dict in 'hosts', such as hosts=[{'sentinels': [('sentinel', 26379)], 'master_name': "
        "'mymaster'}]",
        ("redis", "local"),
    ),
    *_legacy(
        "answered",
        "services sentinel_refresh_interval",
        "write trunkline.RedisSentinelChannelLayer, whose 'hosts' are Sentinels",
        ("redis",),
    ),
    *_legacy(
        "answered",
        "sentinel_kwargs",
        "write it into the dict of a service in 'hosts', or use trunkline.RedisSentinelChannelLayer",
        ("redis",),
    ),
    *_legacy("answered", "sentinels", "write 'hosts', which are the Sentinels of this layer", ("sentinel",)),
    *_legacy("answered", "master_name service_name", "write 'services', a list of names", ("sentinel",)),
    *_legacy("later", "startup_nodes", "Redis Cluster is not supported yet; name single servers in 'hosts'", _REDIS),
    *_legacy(
        "answered",
        "delivery",
        "whoever receives chooses how messages are delivered: leave the option out, and start the worker with "
        "'runworker --delivery at-least-once'",
    ),
    *_legacy(
        "answered",
        "on_disconnect on_reconnect",
        "an outage is a pause that loses no membership, so that no consumer is told of it; leave the option out",
    ),
    *_legacy("answered", "redis_kwargs connection_options", "write 'connection_kwargs'", _REDIS),
    *_legacy(
        "answered",
        "host port db username password address url path unix_socket_path ssl",
        "it belongs to a server in 'hosts', such as hosts=[{'host': 'redis', 'port': 6379, 'db': 0}]",
        _REDIS,
    ),
    *_legacy(
        "answered",
        "socket_timeout socket_connect_timeout socket_keepalive socket_keepalive_options",
        "write it into 'connection_kwargs'",
        _REDIS,
    ),
    *_legacy(
        "answered",
        "message_memory group_memory channel_memory",
        "write 'size', the bytes for messages and groups together",
        _IPC,
    ),
    *_legacy("answered", "channel_layer", "it is internal to another layer; leave it out"),
    *_legacy(
        "answered",
        "routing ROUTING",
        "routing belongs into asgi.py (ProtocolTypeRouter) since Channels 2; leave it out",
    ),
    *_legacy(
        "answered",
        "default BACKEND CONFIG TEST_CONFIG",
        "it belongs to the CHANNEL_LAYERS setting; give only what stands in its 'CONFIG'",
    ),
)


@dataclass(frozen=True)
class ConnectionOption:
    """One option of ``connection_kwargs``, of a host's dict or of a URL's query, named as in redis-py.

    :ivar kind: decides how a value is checked and how a text from a URL is read.
    :ivar fate: as for :class:`Option`; ``accepted`` ones reach redis-py's connection classes.
    """

    name: str
    kind: str
    accepted: str
    help: str
    fate: Fate = "accepted"


def _several(fate: Fate, names: str, help: str) -> tuple[ConnectionOption, ...]:
    accepted = "anything" if fate == "noted" else "None"
    return tuple(ConnectionOption(name, "any", accepted, help, fate) for name in names.split())


CONNECTION_OPTIONS: tuple[ConnectionOption, ...] = (
    ConnectionOption("db", "database", "a whole number, 0 or more", "Number of the database."),
    ConnectionOption("username", "secret", "a text", "Name of the user (Redis 6 and later)."),
    ConnectionOption("password", "secret", "a text", "Password of the user or of the server."),
    ConnectionOption("ssl", "flag", "True or False", "Connect by TLS; with a URL write `rediss://` instead."),
    ConnectionOption(
        "credential_provider",
        "provider",
        "an object with get_credentials(), as redis-py defines it",
        "Gives name and password instead of `username` and `password`.",
    ),
    ConnectionOption("client_name", "client name", "a text without spaces", "Shown by CLIENT LIST."),
    ConnectionOption("socket_connect_timeout", "seconds", "seconds above zero", "Deadline of a connection attempt."),
    ConnectionOption("socket_keepalive", "flag", "True or False", "TCP keepalive."),
    ConnectionOption(
        "socket_keepalive_options",
        "keepalive",
        "a dict from numbers of TCP options to numbers",
        "Details of TCP keepalive.",
    ),
    ConnectionOption("socket_read_size", "bytes", "a whole number of bytes", "Bytes taken by one read."),
    ConnectionOption("ssl_keyfile", "text", "a path", "The client's private key."),
    ConnectionOption("ssl_certfile", "text", "a path", "The client's certificate."),
    ConnectionOption("ssl_password", "secret", "a text", "Password of the private key."),
    ConnectionOption(
        "ssl_cert_reqs",
        "cert_reqs",
        "'required', 'optional' or 'none'",
        "Check of the server's certificate; `None` is 'none'.",
    ),
    ConnectionOption("ssl_ca_certs", "text", "a path", "File of certificate authorities."),
    ConnectionOption("ssl_ca_path", "text", "a path", "Directory of certificate authorities."),
    ConnectionOption("ssl_ca_data", "pem", "a text (PEM) or bytes (DER)", "Certificate authorities themselves."),
    ConnectionOption("ssl_check_hostname", "flag", "True or False", "Compare the certificate with the host's name."),
    ConnectionOption("ssl_min_version", "tls version", "771 (TLS 1.2) or 772 (TLS 1.3)", "Oldest version of TLS."),
    ConnectionOption("ssl_ciphers", "text", "a text", "Ciphers of TLS 1.2, as OpenSSL names them."),
    ConnectionOption(
        "ssl_include_verify_flags",
        "verify flags",
        "a list of ssl.VerifyFlags or their names",
        "Verification flags to set.",
    ),
    ConnectionOption(
        "ssl_exclude_verify_flags",
        "verify flags",
        "a list of ssl.VerifyFlags or their names",
        "Verification flags to clear.",
    ),
    *_several(
        "noted",
        "socket_timeout health_check_interval",
        "the layer bounds every wait itself, and another deadline would cut receives that wait",
    ),
    *_several(
        "noted",
        "retry retry_on_timeout retry_on_error",
        "the layer retries by itself without doubling a message; the option 'retry_time' says how long",
    ),
    *_several(
        "noted",
        "decode_responses encoding encoding_errors protocol legacy_responses parser_class reader parser",
        "the layer speaks to Redis in bytes by a protocol version of its own choice",
    ),
    *_several(
        "noted",
        "max_connections timeout minsize maxsize single_connection_client auto_close_connection_pool",
        "the layer keeps a small constant number of connections and no pool",
    ),
    *_several(
        "noted",
        "maint_notifications_config driver_info lib_name lib_version event_dispatcher socket_type loop",
        "it doesn't concern connections of the layer",
    ),
    *_several("answered", "redis_connect_func encoder_class connection_pool", "the layer opens its own connections"),
    *_several(
        "answered",
        "create_connection_timeout connect_timeout",
        "write 'socket_connect_timeout'",
    ),
    *_several("answered", "ssl_context", "write 'ssl_ca_certs', 'ssl_certfile' and their like"),
    *_several(
        "answered",
        "sentinels master_name sentinel_kwargs service_name",
        "write a dict with 'sentinels' and 'master_name' into 'hosts'",
    ),
    *_several("answered", "connection_pool_class", "the layer keeps no pool"),
    *_several("later", "cache cache_config", "there is no client-side caching"),
    *_several(
        "later",
        "ssl_validate_ocsp ssl_validate_ocsp_stapled ssl_ocsp_context ssl_ocsp_expected_cert",
        "certificates are not checked by OCSP",
    ),
)


@dataclass(frozen=True)
class Variable:
    """One environment variable that :func:`trunkline.env.channel_layers_from_env` reads."""

    name: str
    default: str
    help: str


VARIABLES: tuple[Variable, ...] = (
    Variable(
        "CHANNEL_LAYERS_BACKEND",
        "`trunkline.RedisChannelLayer` where hosts are given, else `trunkline.IPCChannelLayer`",
        "Dotted path of any channel layer. In a container without hosts it must be given.",
    ),
    Variable(
        "CHANNEL_LAYERS_CONFIG",
        "`{}`",
        "The layer's `CONFIG` as JSON, as a Python literal or as YAML in flow style, also inside quotes.",
    ),
    Variable(
        "CHANNEL_LAYERS_CONFIG_FILE",
        "",
        "Path of a file that holds the same (a Docker or Kubernetes secret); not together with "
        "`CHANNEL_LAYERS_CONFIG`.",
    ),
    Variable(
        "REDIS_URL",
        "",
        "One or more Redis URLs with commas between them, instead of `hosts` in the `CONFIG`.",
    ),
    Variable(
        "REDIS_PASSWORD_FILE",
        "",
        "Path of a file that holds the password for the servers of `REDIS_URL`.",
    ),
    Variable(
        "TRUNKLINE_IPC_DIR",
        "`/dev/shm/trunkline-<uid>`, else a directory in the temporary one",
        "Where `trunkline.IPCChannelLayer` and the local half of `trunkline.RedisLocalChannelLayer` live, instead of "
        "`directory` in the `CONFIG`.",
    ),
)
