"""A message to bytes as JSON: for those who want to read what lies on their servers.

What may travel is what may travel as MessagePack, but for byte strings. Infinity and "not a number" are written as
Python's json module writes them.
"""

from __future__ import annotations

import json

from trunkline.codec.message import MAX_MESSAGE_BYTES, encode
from trunkline.errors import MessageTooLarge

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def encode_json(message: object) -> bytes:
    """Return ``message`` as bytes, which ``decode`` reads.

    :param message: as for ``encode``, without byte strings.
    :raises TypeError: if it is no dict or holds something that cannot travel; nothing was sent.
    :raises MessageTooLarge: above ``MAX_MESSAGE_BYTES`` bytes.
    """
    encode(message)  # the one judgement of what may travel; json would make texts of keys that are numbers
    try:
        body = _encoder.encode(message).encode()
    except TypeError as error:
        raise TypeError(
            "A message in JSON holds no byte strings, and this one does; encode them as text, or set option "
            "'serializer_format' to 'msgpack'."
        ) from error
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(len(body), MAX_MESSAGE_BYTES)
    return body
