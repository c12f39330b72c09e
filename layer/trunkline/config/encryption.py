"""The judgement of ``symmetric_encryption_keys``; no message shows anything of a key."""

from __future__ import annotations

from hashlib import sha256

from trunkline.config.objects import Secrets
from trunkline.config.values import given
from trunkline.errors import ConfigurationError

__all__ = ["encryption_keys"]

LEAST_LENGTH = 16  # characters or bytes; whoever has one record can try all shorter texts that people think of


def encryption_keys(option: str, value: object) -> tuple[Secrets, tuple[str, ...]]:
    """Return each key's SHA-256 (as asgi_redis and channels_redis have it), and warnings of weak keys.

    :param value: a list of texts or bytes; ``None`` and an empty list mean that nothing is encrypted.
    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = "a list of keys (texts or bytes)"
    if value is None:
        return Secrets(), ()
    if isinstance(value, str | bytes | bytearray):
        what = "bytes" if not isinstance(value, str) else "a text" if value else "an empty text"
        raise ConfigurationError(f"Option {option!r} must be {accepted}, not {what}; write brackets around the key.")
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f"Option {option!r} must be {accepted}, not {given(value)}.")
    keys: list[bytes] = []
    warnings: list[str] = []
    for position, key in enumerate(value):
        if not isinstance(key, str | bytes | bytearray):
            raise ConfigurationError(
                f"Option {option!r} must be {accepted}, not one with {_kind(key)} at position {position}."
            )
        if not key.strip():
            raise ConfigurationError(f"Option {option!r} must be {accepted}, not one with an empty key at {position}.")
        try:
            encoded = key.encode() if isinstance(key, str) else bytes(key)
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"Option {option!r} must be {accepted}, not one with a text that can't be encoded at {position}."
            ) from None
        if len(key) < LEAST_LENGTH:
            warnings.append(
                f"Key {position + 1} of option {option!r} is weak: it has fewer than {LEAST_LENGTH} characters; take "
                "a random one, such as `openssl rand -base64 32` prints."
            )
        keys.append(sha256(encoded).digest())
    return Secrets(dict.fromkeys(keys)), tuple(warnings)


def _kind(value: object) -> str:
    """What a key is that is none; not even a number is repeated."""
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else given(value)
