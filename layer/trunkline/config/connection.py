"""The check of connection options: those for redis-py's connection classes, those that the layer pins, the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import PurePath

from trunkline.config import values
from trunkline.config.table import CONNECTION_OPTIONS
from trunkline.errors import ConfigurationError

__all__ = ["VERIFY_FLAGS", "connection_option", "from_url_text", "refuse_unknown"]

_TABLE = {option.name: option for option in CONNECTION_OPTIONS}
_ACCEPTED = [option.name for option in CONNECTION_OPTIONS if option.fate == "accepted"]

_CERT_REQS = {"none": "none", "optional": "optional", "required": "required", 0: "none", 1: "optional", 2: "required"}

# Numbers of OpenSSL, as in ssl.VerifyFlags; importing ssl would import sockets.
VERIFY_FLAGS = {
    "VERIFY_DEFAULT": 0,
    "VERIFY_CRL_CHECK_LEAF": 0x4,
    "VERIFY_CRL_CHECK_CHAIN": 0xC,
    "VERIFY_X509_STRICT": 0x20,
    "VERIFY_ALLOW_PROXY_CERTS": 0x40,
    "VERIFY_X509_TRUSTED_FIRST": 0x8000,
    "VERIFY_X509_PARTIAL_CHAIN": 0x80000,
}

_FALSE = ("0", "f", "false", "n", "no")  # as redis-py reads flags in a URL


def refuse_unknown(where: str, name: str) -> None:
    """Refuse a URL's parameter that is no connection option, without its name: it may be a piece of a password.

    :raises ConfigurationError: one sentence.
    """
    if name not in _TABLE:
        close = get_close_matches(name, _TABLE, 1) if len(name) <= 60 else []
        hint = f"; did you mean {close[0]!r}?" if close else f"; accepted are: {', '.join(_ACCEPTED)}."
        raise ConfigurationError(f"The URL of {where} has a parameter that is no connection option{hint}")


def connection_option(
    where: str, name: object, value: object, *, places: tuple[str, ...] = ()
) -> tuple[str, object, str | None]:
    """Judge one connection option.

    :param where: the place for messages, such as ``hosts[0]``.
    :param places: names that are accepted beside the connection options.
    :returns: the name, the checked value, and a note where the option has no effect (the value is then ``None``).
    :raises ConfigurationError: one sentence; it never holds the value of a text.
    """
    option = _TABLE.get(name) if isinstance(name, str) else None
    if option is None:
        close = get_close_matches(name, (*places, *_TABLE), 1) if isinstance(name, str) and len(name) <= 60 else []
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        accepted = ", ".join((*places, *_ACCEPTED))
        raise ConfigurationError(
            f"Unknown connection option {values.named(name)} in {where}{hint} accepted are: {accepted}."
        )
    if option.fate == "noted":
        return option.name, None, f"Connection option {option.name!r} has no effect: {option.help}."
    if option.fate != "accepted":
        if value is None:
            return option.name, None, None
        verb = "is not in this version" if option.fate == "later" else "is not accepted"
        raise ConfigurationError(f"Connection option {option.name!r} in {where} {verb}: {option.help}.")
    return option.name, _CHECKS[option.kind](f"{where}.{option.name}", value), None


def from_url_text(where: str, name: str, text: str) -> object:
    """Turn the text of a URL's query parameter into what :func:`connection_option` takes, as redis-py would."""
    option = _TABLE.get(name)
    kind = option.kind if option is not None and option.fate == "accepted" else "any"
    if kind in ("seconds", "bytes", "database", "tls version"):
        try:
            if len(text) <= 20:
                return float(text) if kind == "seconds" else int(text)
            raise ValueError
        except ValueError:
            raise ConfigurationError(f"Parameter {name!r} in the URL of {where} must be a number.") from None
    if kind == "flag":
        return text.lower() not in _FALSE
    if kind == "verify flags":
        return [piece.strip() for piece in text.strip("[]").split(",")]
    return text


def _optional(check: Callable[[str, object], object]) -> Callable[[str, object], object]:
    return lambda option, value: None if value is None else check(option, value)


def _seconds(option: str, value: object) -> object:
    return values.duration(option, value, maximum=86400)


def _bytes(option: str, value: object) -> object:
    return values.whole_number(option, value, maximum=2**30, unit="bytes")


def _database(option: str, value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 9:
        value = int(value)
    return values.whole_number(option, value, minimum=0, maximum=2**31 - 1, unit="the database")


def _secret(option: str, value: object) -> object:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ConfigurationError(f"Option {option!r} must be a text, not bytes that are not UTF-8.") from None
    if not isinstance(value, str):
        kind = "a number" if isinstance(value, int | float) else values.given(value)
        raise ConfigurationError(f"Option {option!r} must be a text, not {kind}; write it in quotes.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigurationError(f"Option {option!r} must be a text that can be encoded as UTF-8.")
    return str(value) or None  # An empty one, as an unset variable leaves it, is none.


def _provider(option: str, value: object) -> object:
    if not callable(getattr(value, "get_credentials", None)):
        raise ConfigurationError(
            f"Option {option!r} must be an object with get_credentials(), not {values.given(value)}."
        )
    return value


def _client_name(option: str, value: object) -> object:
    text = values.plain_text(option, value)
    if any(character.isspace() for character in text):
        raise ConfigurationError(f"Option {option!r} must be a text without spaces, which Redis refuses.")
    return text


def _path_or_text(option: str, value: object) -> object:
    return values.plain_text(option, str(value) if isinstance(value, PurePath) else value)


def _pem(option: str, value: object) -> object:
    if not isinstance(value, str | bytes) or not value:
        raise ConfigurationError(f"Option {option!r} must be a text (PEM) or bytes (DER), not {values.given(value)}.")
    return value


def _keepalive(option: str, value: object) -> object:
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"Option {option!r} must be a dict from numbers to numbers, not {values.given(value)}."
        )
    for key, number in value.items():
        for item in (key, number):
            if isinstance(item, bool) or not isinstance(item, int):
                raise ConfigurationError(f"Option {option!r} must hold whole numbers only, not {values.given(item)}.")
    return dict(value)


def _cert_reqs(option: str, value: object) -> object:
    if value is None:
        return "none"
    key: object = value
    if isinstance(value, str):
        key = value.lower().removeprefix("cert_")
    elif isinstance(value, bool) or not isinstance(value, int):
        key = None
    if not isinstance(key, str | int) or key not in _CERT_REQS:
        raise ConfigurationError(
            f"Option {option!r} must be 'required', 'optional' or 'none', not {values.given(value)}."
        )
    return _CERT_REQS[key]


def _tls_version(option: str, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or value not in (771, 772):
        raise ConfigurationError(
            f"Option {option!r} must be 771 (TLS 1.2) or 772 (TLS 1.3), not {values.given(value)}."
        )
    return value


def _verify_flags(option: str, value: object) -> object:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(f"Option {option!r} must be a list of flags, not {values.given(value)}.")
    flags: list[int] = []
    for flag in value:
        if isinstance(flag, str) and flag in VERIFY_FLAGS:
            flags.append(VERIFY_FLAGS[flag])
        elif isinstance(flag, int) and not isinstance(flag, bool):
            flags.append(flag)
        else:
            raise ConfigurationError(
                f"Option {option!r} must be a list of {', '.join(VERIFY_FLAGS)}, not one with {values.given(flag)}."
            )
    return flags


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "database": _optional(_database),
    "secret": _optional(_secret),
    "flag": _optional(values.boolean),
    "provider": _optional(_provider),
    "client name": _optional(_client_name),
    "seconds": _optional(_seconds),
    "keepalive": _optional(_keepalive),
    "bytes": _optional(_bytes),
    "text": _optional(_path_or_text),
    "cert_reqs": _cert_reqs,
    "pem": _optional(_pem),
    "tls version": _optional(_tls_version),
    "verify flags": _optional(_verify_flags),
}
