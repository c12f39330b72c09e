"""Keys and values of the store, as pure functions.

Every key of the one LMDB database begins with a letter:

======================================= ==================================================================
``c`` channel ``\\0``                     head of a channel that any process may receive from: unread, next number,
                                        and the doorbells of who waits
``c`` channel ``\\0`` number             one message of it: deadline, body
``o`` owner channel ``\\0`` [number]     the same for a process' own channel
``p`` owner                             a process: its inbox' unread and bytes, next number, until when a closed one is
                                        kept, and its doorbells
``i`` owner number                      one group message to a process: deadline, length of the group's name, name,
                                        body; or, with ``NEVER`` for the deadline, what another process did: a join
                                        or a leave of one of its channels, or a flush
``g`` group ``\\0`` owner                a process has members in the group: until when at most
``g`` group ``\\0`` ``NOBODY`` channel    a member that any process may receive from: when the membership ends
``j`` owner group                       the groups in which the process has members
``s`` ``m``                             when the dead are looked for next; which boot wrote the store
======================================= ==================================================================

Numbers are 8 bytes, big-endian, so that the keys of a channel's messages are in their order. Times are nanoseconds of
the machine's monotonic clock, which all processes share and nobody sets.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from trunkline.names import address_of

OWNER_BYTES = 12
NOBODY = bytes(OWNER_BYTES)
SWEEP = b"s"
BOOT = b"m"
NEVER = (1 << 64) - 1  # a deadline

NUMBER = Struct(">Q")
CHANNEL = Struct(">IQ")  # unread messages, next number; doorbells of 8 bytes follow
PROCESS = Struct(">IQQQ")  # unread and bytes of the inbox, next number, kept until; doorbells follow, the home first

pack_number = NUMBER.pack


class Place(NamedTuple):
    """Where a channel lies.

    :ivar key: of its head; a message's key is this and the number.
    :ivar owner: the process that receives from it, or ``None`` where any may.
    :ivar head: key of what waits for any channel of the same head (``"prefix!"``), for owned channels.
    :ivar name: the channel's name.
    """

    key: bytes
    owner: bytes | None
    head: bytes
    name: bytes


@lru_cache(maxsize=8192)
def place_of(channel: str) -> Place:
    """The one function that decides where a legal channel name lies."""
    name = channel.encode("ascii")
    address = address_of(channel)
    if address is None or address.process is None:
        return Place(b"c" + name + b"\0", None, b"", name)
    owner = bytes.fromhex(address.process)
    return Place(b"o" + owner + name + b"\0", owner, b"o" + owner + address.head.encode("ascii") + b"\0", name)


def process_key(owner: bytes) -> bytes:
    return b"p" + owner


def inbox_key(owner: bytes) -> bytes:
    """What the keys of an inbox begin with."""
    return b"i" + owner


def group_key(group: str) -> bytes:
    """What the keys of a group's memberships begin with."""
    return b"g" + group.encode("ascii") + b"\0"


def joined_key(owner: bytes, group: str) -> bytes:
    return b"j" + owner + group.encode("ascii")


def head_of(channel: str) -> str:
    """A process-specific name up to and with its ``!``; empty for others."""
    return channel[: channel.find("!") + 1]


def head_place(owner: bytes, head: str) -> Place:
    """Where those wait who receive from any channel under ``head`` (``"prefix!"``)."""
    name = head.encode("ascii")
    key = b"o" + owner + name + b"\0"
    return Place(key, owner, key, name)
