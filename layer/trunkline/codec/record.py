"""One message as it lies in a server's queue or inbox: when it expires, whose it is, and its body.

Layout: deadline (13 ASCII digits, milliseconds of the server's clock), version byte, kind byte, length of the name,
name, body. The deadline stands first and in the clear because scripts on the server read and write it; kind and name
are in the clear too, as scripts count by them. Version 1 holds the body as it is, version 2 sealed (``sealed.py``).
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, NamedTuple

VERSION = 1  # of the record's layout; readers skip and count versions that they don't know
SEALED_VERSION = 2

DIRECT = ord("d")  # name is a channel
GROUP = ord("g")  # name is a group
CONTROL = ord("c")  # name is the control's subject; the body says what to do

REASON = ord("w")  # no record: why a message of the channel is a dead letter, sealed where messages are

DEADLINE_DIGITS = 13  # milliseconds since 1970 until the year 2286


class Unreadable(ValueError):
    """Not a record, or not an encoded message: it is skipped.

    :cvar counter: where it is counted, a field of ``trunkline.stats.Counters``.
    :ivar channel: the channel that it was sent to, if it was a direct message and that much can be told; else empty.
    """

    counter: ClassVar[str] = "garbage"
    channel = ""


class UnknownVersion(Unreadable):
    """A record of a version that this release does not know."""

    counter: ClassVar[str] = "unknown_version"

    def __init__(self, version: int) -> None:
        super().__init__(
            f"it is a record of version {version} and this release of trunkline reads versions {VERSION} and "
            f"{SEALED_VERSION}; bring this process up to the release that wrote it"
        )


class Undecryptable(Unreadable):
    """A record that can't be opened with the keys of this process."""

    counter: ClassVar[str] = "undecryptable"


class Record(NamedTuple):
    """A record taken apart.

    :ivar deadline: milliseconds of the clock of the server that wrote it.
    """

    deadline: int
    kind: int
    name: str
    body: bytes


_new_record = partial(tuple.__new__, Record)  # takes all of it as one tuple; a third of the time of the class itself


def pack_record(kind: int, name: str, body: bytes) -> bytes:
    """Everything of a record after its deadline, which the server writes with its own clock."""
    encoded = name.encode("ascii")
    return bytes((VERSION, kind, len(encoded))) + encoded + body


def other_version(version: int) -> Unreadable:
    """Why a record of ``version`` is not read by one who reads the other of the two versions."""
    if version == VERSION:
        return Undecryptable("it is not encrypted, and this process has keys and takes encrypted ones only")
    if version == SEALED_VERSION:
        return Undecryptable("it is encrypted, and this process has no keys; set 'symmetric_encryption_keys'")
    return UnknownVersion(version)


def unpack_record(data: bytes, readable: int = VERSION) -> Record:
    """Take a record apart; its body is what its version has there.

    :param readable: the one version that is wanted.
    :raises Unreadable: if it is no record, of the other version, or of one that this release does not know.
    """
    try:
        deadline = int(data[:DEADLINE_DIGITS])
        version, kind, length = data[DEADLINE_DIGITS : DEADLINE_DIGITS + 3]
        start = DEADLINE_DIGITS + 3
        name = data[start : start + length].decode("ascii")
    except (ValueError, IndexError) as error:
        raise Unreadable("not a record") from error
    if version != readable:
        refusal = other_version(version)
        if kind == DIRECT and len(name) == length:  # scripts count by them, so that every version has them here
            refusal.channel = name
        raise refusal
    if kind not in (DIRECT, GROUP, CONTROL) or len(name) != length:
        raise Unreadable("not a record")
    return _new_record((deadline, kind, name, data[start + length :]))
