"""The judgement of a whole ``CONFIG``: plain mapping in, typed frozen object or one sentence out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from trunkline.config import values
from trunkline.config.encryption import encryption_keys
from trunkline.config.hosts import decode_hosts, decode_services
from trunkline.config.mangled import refuse_mangled
from trunkline.config.objects import CommonOptions, IPCOptions, LocalOptions, RedisOptions, SentinelService
from trunkline.config.table import LAYERS, OPTIONS, Option
from trunkline.errors import ConfigurationError

__all__ = ["JUDGES", "ipc_options", "local_options", "redis_options", "sentinel_options"]

MOST_REPLICAS = 100  # beyond all sense
LONGEST_RETRY_TIME = 60  # seconds; a third of the time for which a server keeps its answers


def redis_options(config: Mapping[str, object]) -> RedisOptions:
    """Judge the ``CONFIG`` of :class:`trunkline.RedisChannelLayer`.

    :param config: what stands in ``CHANNEL_LAYERS["default"]["CONFIG"]``.
    :raises ConfigurationError: one sentence that names the option, what was given, and what is accepted; never a
        secret.
    """
    return _of_hosts(config, _screen("redis", config))


def sentinel_options(config: Mapping[str, object]) -> RedisOptions:
    """Judge the ``CONFIG`` of :class:`trunkline.RedisSentinelChannelLayer`.

    :param config: what stands in ``CHANNEL_LAYERS["default"]["CONFIG"]``.
    :raises ConfigurationError: as :func:`redis_options`.
    """
    return _of_services(config, _screen("sentinel", config))


def local_options(config: Mapping[str, object]) -> LocalOptions:
    """Judge the ``CONFIG`` of :class:`trunkline.RedisLocalChannelLayer`, which holds the options of both its halves.

    :param config: what stands in ``CHANNEL_LAYERS["default"]["CONFIG"]``.
    :raises ConfigurationError: as :func:`redis_options`.
    """
    notes = _screen("local", config)
    if config.get("services") is not None:
        redis = _of_services(config, notes)
    else:
        for name in ("sentinel_kwargs", "sentinel_refresh_interval"):
            if config.get(name):
                raise ConfigurationError(
                    f"Option {name!r} is for Sentinels, and 'hosts' are Sentinels only where 'services' is given: add "
                    "'services', a list of names or an empty one for all."
                )
        redis = _of_hosts(config, notes)
    return LocalOptions(redis, _ipc(config, ()), redis.notes)


def ipc_options(config: Mapping[str, object]) -> IPCOptions:
    """Judge the ``CONFIG`` of :class:`trunkline.IPCChannelLayer`.

    :param config: what stands in ``CHANNEL_LAYERS["default"]["CONFIG"]``.
    :raises ConfigurationError: one sentence that names the option, what was given, and what is accepted.
    """
    return _ipc(config, _screen("ipc", config))


def _of_hosts(config: Mapping[str, object], notes: tuple[str, ...]) -> RedisOptions:
    hosts, more = decode_hosts(config.get("hosts"), config.get("connection_kwargs"))
    return RedisOptions(
        _common(config), hosts, _retry_time(config), (*notes, *more), wait_replicas=_wait_replicas(config)
    )


def _of_services(config: Mapping[str, object], notes: tuple[str, ...]) -> RedisOptions:
    services, nameless, more = decode_services(
        config.get("hosts"),
        config.get("services"),
        _refresh_interval(config),
        config.get("connection_kwargs"),
        config.get("sentinel_kwargs"),
    )
    return RedisOptions(
        _common(config),
        services,
        _retry_time(config),
        (*notes, *more),
        discover=None if services else nameless,
        wait_replicas=_wait_replicas(config),
    )


def _retry_time(config: Mapping[str, object]) -> float:
    wanted = config.get("retry_time", RedisOptions.retry_time)
    return values.duration("retry_time", wanted, maximum=LONGEST_RETRY_TIME)


def _wait_replicas(config: Mapping[str, object]) -> int:
    wanted = config.get("wait_replicas")
    return values.whole_number(
        "wait_replicas", 0 if wanted is None else wanted, minimum=0, maximum=MOST_REPLICAS, unit="replicas"
    )


def _refresh_interval(config: Mapping[str, object]) -> float:
    wanted = config.get("sentinel_refresh_interval")
    if wanted is None:
        return SentinelService.refresh_interval
    if wanted == 0 and not isinstance(wanted, bool):
        return 0.0  # asgi_redis' default: ask every time
    return values.duration("sentinel_refresh_interval", wanted, maximum=86400)


def _ipc(config: Mapping[str, object], notes: tuple[str, ...]) -> IPCOptions:
    common = _common(config)
    group = values.group("group", config.get("group"))
    default_mode = IPCOptions.mode if group is None else 0o770
    mode = values.mode("mode", config.get("mode", default_mode))
    if group is not None and mode == 0o700:
        raise ConfigurationError("Option 'mode' must be '0770' or '0777' where 'group' is given, not '0700'.")
    size = values.whole_number("size", config.get("size", IPCOptions.size), minimum=65536, maximum=2**40, unit="bytes")
    return IPCOptions(common, values.directory("directory", config.get("directory")), size, mode, group, notes)


def _common(config: Mapping[str, object]) -> CommonOptions:
    default = CommonOptions()
    keys, warnings = encryption_keys("symmetric_encryption_keys", config.get("symmetric_encryption_keys"))
    return CommonOptions(
        values.prefix("prefix", config.get("prefix", default.prefix)),
        values.duration("expiry", config.get("expiry", default.expiry)),
        values.duration("group_expiry", config.get("group_expiry", default.group_expiry)),
        values.whole_number("capacity", config.get("capacity", default.capacity)),
        values.channel_capacity("channel_capacity", config.get("channel_capacity")),
        values.serializer_format("serializer_format", config.get("serializer_format")),
        keys,
        warnings,
    )


def _screen(layer: str, config: object) -> tuple[str, ...]:
    """Look at the names: refuse what is no option, collect notes on what has no effect."""
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"The CONFIG of {LAYERS[layer]} must be a dict, not {values.given(config)}.")
    refuse_mangled(config)
    known = {option.name: option for option in OPTIONS if layer in option.layers}
    notes = []
    for name, value in config.items():
        option = known.get(name) if isinstance(name, str) else None
        if option is None:
            raise _unknown(layer, name, known)
        note = _judge_name(option, value)
        if note:
            notes.append(note)
    return tuple(notes)


def _judge_name(option: Option, value: object) -> str | None:
    if option.fate == "accepted":
        return None
    nothing = value is None or (isinstance(value, str | bytes | list | tuple | set | Mapping) and not value)
    if nothing:
        return None  # As good as left out: no key, no server, no callback.
    if option.fate == "noted":
        return f"Option {option.name!r} has no effect: {option.help}."
    verb = "is not in this version" if option.fate == "later" else "is not accepted here"
    raise ConfigurationError(f"Option {option.name!r} {verb}: {option.help}.")


def _unknown(layer: str, name: object, known: Mapping[str, Option]) -> ConfigurationError:
    accepted = [option.name for option in known.values() if option.fate == "accepted"]
    listed = f"accepted are: {', '.join(accepted)}"
    owners = {key for option in OPTIONS for key in option.layers if option.name == name and option.fate == "accepted"}
    if owners:
        others = " and ".join(", ".join(path for key, path in LAYERS.items() if key in owners).rsplit(", ", 1))
        return ConfigurationError(f"Option {name!r} belongs to {others}, not to {LAYERS[layer]}; {listed}.")
    close = get_close_matches(name, accepted, 1) if isinstance(name, str) and len(name) <= 60 else []
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ConfigurationError(f"Unknown option {values.named(name)} for {LAYERS[layer]}; {hint}{listed}.")


JUDGES: Mapping[str, Callable[[Mapping[str, object]], RedisOptions | LocalOptions | IPCOptions]] = {
    LAYERS["redis"]: redis_options,
    LAYERS["sentinel"]: sentinel_options,
    LAYERS["local"]: local_options,
    LAYERS["ipc"]: ipc_options,
}
