"""The judgement of a whole ``CONFIG``: plain mapping in, typed frozen object or one sentence out."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from trunkline.config import values
from trunkline.config.encryption import encryption_keys
from trunkline.config.hosts import decode_hosts
from trunkline.config.mangled import refuse_mangled
from trunkline.config.objects import CommonOptions, IPCOptions, RedisOptions
from trunkline.config.table import LAYERS, OPTIONS, Option
from trunkline.errors import ConfigurationError

__all__ = ["ipc_options", "redis_options"]

LONGEST_RETRY_TIME = 60  # seconds; a third of the time for which a server keeps its answers


def redis_options(config: Mapping[str, object]) -> RedisOptions:
    """Judge the ``CONFIG`` of :class:`trunkline.RedisChannelLayer`.

    :param config: what stands in ``CHANNEL_LAYERS["default"]["CONFIG"]``.
    :raises ConfigurationError: one sentence that names the option, what was given, and what is accepted; never a
        secret.
    """
    notes = _screen("redis", config)
    common = _common(config)
    hosts, host_notes = decode_hosts(config.get("hosts"), config.get("connection_kwargs"))
    wanted = config.get("retry_time", RedisOptions.retry_time)
    retry_time = values.duration("retry_time", wanted, maximum=LONGEST_RETRY_TIME)
    return RedisOptions(common, hosts, retry_time, (*notes, *host_notes))


def ipc_options(config: Mapping[str, object]) -> IPCOptions:
    """Judge the ``CONFIG`` of :class:`trunkline.IPCChannelLayer`.

    :param config: what stands in ``CHANNEL_LAYERS["default"]["CONFIG"]``.
    :raises ConfigurationError: one sentence that names the option, what was given, and what is accepted.
    """
    notes = _screen("ipc", config)
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
    elsewhere = {option.name: option for option in OPTIONS if layer not in option.layers}
    notes = []
    for name, value in config.items():
        option = known.get(name) if isinstance(name, str) else None
        if option is None:
            raise _unknown(layer, name, known, elsewhere)
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


def _unknown(
    layer: str, name: object, known: Mapping[str, Option], elsewhere: Mapping[str, Option]
) -> ConfigurationError:
    accepted = [option.name for option in known.values() if option.fate == "accepted"]
    listed = f"accepted are: {', '.join(accepted)}"
    if isinstance(name, str) and name in elsewhere:
        other = LAYERS[elsewhere[name].layers[0]]
        return ConfigurationError(f"Option {name!r} belongs to {other}, not to {LAYERS[layer]}; {listed}.")
    close = get_close_matches(name, accepted, 1) if isinstance(name, str) and len(name) <= 60 else []
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ConfigurationError(f"Unknown option {values.named(name)} for {LAYERS[layer]}; {hint}{listed}.")
