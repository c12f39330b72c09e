"""A message (a dict) to bytes, as MessagePack, and back.

MessagePack keeps bytes apart from text and has the types of the Channels channel layer specification: byte strings,
Unicode strings, integers of 64 bits, floats, lists, dicts with string keys, booleans and None. Tuples travel as lists.
Reading takes JSON too (``jsontext.py``), so that processes with different serializers understand each other.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import ormsgpack

from trunkline.codec.record import Unreadable
from trunkline.errors import MessageTooLarge

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # encoded; far above the 1 MB that Channels asks for, far below Redis' 512 MB

_LARGEST = 2**63 - 1

# Only what the specification names travels: a dataclass or a datetime would arrive as something else than it left.
_STRICT = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


def _by_value(value: object) -> object:
    if isinstance(value, tuple):  # a named tuple is a tuple, and tuples travel as lists
        return list(value)
    if isinstance(value, Enum) and isinstance(value, (str, int, float, bytes)):  # the choices of a Django model
        return value.value
    raise TypeError(f"a {type(value).__name__} cannot travel in a message")


def _plain_keys(value: object) -> object:
    """Keys that are a subclass of ``str`` (Django's SafeString) as what they are worth; anything else unchanged."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a key is a {type(key).__name__}")
        return {str(key.value if isinstance(key, Enum) else key): _plain_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_keys(item) for item in value]
    return value


def _check_integers(value: object) -> None:
    """MessagePack has unsigned integers of 64 bits too; the specification's integers are signed."""
    if isinstance(value, dict):
        for item in value.values():
            _check_integers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_integers(item)
    elif isinstance(value, int) and value > _LARGEST:
        raise TypeError(f"An integer in a message has at most 64 bits with its sign; {value} has more.")


def _pack(message: object) -> bytes:
    try:
        return ormsgpack.packb(message, default=_by_value, option=_STRICT)
    except TypeError as error:
        if "key" not in str(error):
            raise
        return ormsgpack.packb(_plain_keys(message), default=_by_value, option=_STRICT)


def encode(message: object) -> bytes:
    """Return ``message`` as bytes.

    :param message: a dict with string keys; values as the specification names them, nested to any reasonable depth.
    :raises TypeError: if it is no dict or holds something that cannot travel; nothing was sent.
    :raises MessageTooLarge: above ``MAX_MESSAGE_BYTES`` bytes.
    """
    if not isinstance(message, dict):
        raise TypeError(f"A message must be a dict, not a {type(message).__name__}.")
    try:
        body = _pack(message)
    except (RecursionError, TypeError, ValueError) as error:
        raise TypeError(
            "A message holds byte strings, strings, integers of up to 64 bits, floats, lists, dicts with string keys, "
            f"booleans and None; this one does not: {error}."
        ) from error
    if b"\xcf" in body:  # perhaps an unsigned integer of 64 bits, perhaps a byte that looks like its mark
        _check_integers(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(len(body), MAX_MESSAGE_BYTES)
    return body


def decode(body: bytes) -> dict[str, Any]:
    """Return the message that ``encode`` or ``encode_json`` made into ``body``: a new object on every call.

    :raises Unreadable: if the bytes are no encoded message.
    """
    try:
        message = ormsgpack.unpackb(body)
        if not isinstance(message, dict) and body[:1] == b"{":  # a small integer to MessagePack, and so no message
            message = json.loads(body)
    except (RecursionError, ValueError) as error:
        raise Unreadable("not an encoded message") from error
    if not isinstance(message, dict):
        raise Unreadable("not an encoded message")
    return message
