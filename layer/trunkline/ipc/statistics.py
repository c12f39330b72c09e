"""What lies unread in the store, counted by name."""

from __future__ import annotations

from typing import Any

from trunkline.ipc.keys import CHANNEL, NUMBER, OWNER_BYTES
from trunkline.stats import counted_name

VISITED_CHANNELS = 200  # in one transaction, so that others come in between

Unread = dict[str, tuple[int, int]]  # name -> messages, and when the first of them expires (ns)


def unread(txn: Any, start: bytes, found: Unread) -> bytes | None:
    """Add what the channels from key ``start`` hold, expired messages included; returns where to go on, if at all."""
    cursor = txn.cursor()
    more, limit = cursor.set_range(max(start, b"c")), VISITED_CHANNELS
    while more and limit:
        key = cursor.key()
        if key[:1] == b"c":
            end = key.index(b"\0")
            name = key[1:end]
        elif key[:1] == b"o":
            end = key.index(b"\0", 1 + OWNER_BYTES)
            name = key[1 + OWNER_BYTES : end]
        elif key < b"o":
            more = cursor.set_range(b"o")
            continue
        else:
            return None
        messages, _ = CHANNEL.unpack_from(cursor.value()) if len(key) == end + 1 else (0, 0)
        if messages and cursor.next() and cursor.key().startswith(key):
            (deadline,) = NUMBER.unpack_from(cursor.value())
            counted = counted_name(name.decode("ascii"))
            before, first = found.get(counted, (0, deadline))
            found[counted] = (before + messages, min(first, deadline))
        limit -= 1
        more = cursor.set_range(key[:end] + b"\1")
    return bytes(cursor.key()) if more else None
