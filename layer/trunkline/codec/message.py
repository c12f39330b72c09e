"""A message (a dict) to bytes and back, as MessagePack.

MessagePack keeps bytes apart from text and has the types of the Channels channel layer specification: byte strings,
Unicode strings, integers of 64 bits, floats, lists, dicts with string keys, booleans and None. Tuples travel as lists.
"""

from __future__ import annotations

from typing import Any

import ormsgpack

from trunkline.errors import MessageTooLarge

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # encoded; far above the 1 MB that Channels asks for, far below Redis' 512 MB

# Only what the specification names travels: a dataclass or a datetime would arrive as something else than it left.
_STRICT = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


def _tuple_subclass(value: object) -> object:
    if isinstance(value, tuple):  # a named tuple is a tuple, and tuples travel as lists
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot travel in a message")


def encode(message: object) -> bytes:
    """Return ``message`` as bytes.

    :param message: a dict with string keys; values as the specification names them, nested to any reasonable depth.
    :raises TypeError: if it is no dict or holds something that cannot travel; nothing was sent.
    :raises MessageTooLarge: above ``MAX_MESSAGE_BYTES`` bytes.
    """
    if not isinstance(message, dict):
        raise TypeError(f"A message must be a dict, not a {type(message).__name__}.")
    try:
        body = ormsgpack.packb(message, default=_tuple_subclass, option=_STRICT)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "A message holds byte strings, strings, integers of up to 64 bits, floats, lists, dicts with string keys, "
            f"booleans and None; this one does not: {error}."
        ) from error
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(len(body), MAX_MESSAGE_BYTES)
    return body


def decode(body: bytes) -> dict[str, Any]:
    """Return the message that ``encode`` made into ``body``: a new object on every call.

    :raises ValueError: if the bytes are no encoded message.
    """
    message = ormsgpack.unpackb(body)
    if not isinstance(message, dict):
        raise ValueError("not an encoded message")
    return message
