"""One message as it lies in a server's queue or inbox: when it expires, whose it is, and its body.

Layout: deadline (13 ASCII digits, milliseconds of the server's clock), version byte, kind byte, length of the name,
name, body. The deadline stands first and in the clear because scripts on the server read and write it.
"""

from __future__ import annotations

from typing import NamedTuple

VERSION = 1  # of the record's layout; readers skip and count versions that they don't know

DIRECT = ord("d")  # name is a channel
GROUP = ord("g")  # name is a group
CONTROL = ord("c")  # name is the control's subject; the body says what to do

DEADLINE_DIGITS = 13  # milliseconds since 1970 until the year 2286


class Record(NamedTuple):
    """A record taken apart.

    :ivar deadline: milliseconds of the clock of the server that wrote it.
    """

    deadline: int
    kind: int
    name: str
    body: bytes


def pack_record(kind: int, name: str, body: bytes) -> bytes:
    """Everything of a record after its deadline, which the server writes with its own clock."""
    encoded = name.encode("ascii")
    return bytes((VERSION, kind, len(encoded))) + encoded + body


def unpack_record(data: bytes) -> Record:
    """Take a record apart.

    :raises ValueError: if it is none, or of a version that this release does not know.
    """
    try:
        deadline = int(data[:DEADLINE_DIGITS])
        version, kind, length = data[DEADLINE_DIGITS : DEADLINE_DIGITS + 3]
        start = DEADLINE_DIGITS + 3
        name = data[start : start + length].decode("ascii")
    except (ValueError, IndexError) as error:
        raise ValueError("not a record") from error
    if version != VERSION:
        raise ValueError(f"a record of version {version}; this release reads version {VERSION}")
    if kind not in (DIRECT, GROUP, CONTROL) or len(name) != length:
        raise ValueError("not a record")
    return Record(deadline, kind, name, data[start + length :])
