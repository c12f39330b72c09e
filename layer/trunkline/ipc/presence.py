"""Processes: who lives, what waits in their inboxes, what remains of the dead; inside a write transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from trunkline.ipc.doorbell import BELL_BYTES
from trunkline.ipc.keys import (
    NEVER,
    NUMBER,
    OWNER_BYTES,
    PROCESS,
    SWEEP,
    group_key,
    inbox_key,
    pack_number,
    process_key,
)
from trunkline.ipc.queues import Ring, Txn

INBOX_MESSAGES = 10_000  # group messages that wait for a process that doesn't listen: some seconds of a busy site
SWEEP_EVERY = 1_000_000_000  # ns; one process of the machine looks for the dead, so they are gone within about a second
REMOVE_AT_ONCE = 5_000  # records of a dead process in one transaction: some milliseconds, so that nobody waits long

FLUSH_BYTES = 100  # more than one record of a flush takes, in an inbox that was emptied
FLUSHED = ""  # in place of a group's name: forget what you have
JOIN, LEAVE = b"+", b"-"  # what another process did: the membership's end (ns) and the channel follow, or the channel


class GroupItem(NamedTuple):
    """A group message out of the inbox, or, where its deadline is ``NEVER``, what another process did.

    :ivar body: of what another process did: ``JOIN`` or ``LEAVE`` and what follows, nothing for ``FLUSHED``.
    """

    deadline: int
    group: str
    body: bytes


def register(txn: Txn, owner: bytes, home: bytes, loops: Collection[bytes]) -> bool:
    """Say that a process lives and which doorbells to ring for its inbox; returns whether the store knew it.

    Then what it has in the store stays.

    :param home: shows that it lives, and is rung too: so that the process can see whether its inbox may hold something.
    """
    found = txn.get(process_key(owner))
    unread, size, number, _ = PROCESS.unpack_from(found) if found else (0, 0, 0, 0)
    txn.put(process_key(owner), PROCESS.pack(unread, size, number, 0) + home + b"".join(set(loops) - {home}))
    return found is not None


def registered(txn: Txn, owner: bytes) -> bool:
    """Whether the store knows the process."""
    return txn.get(process_key(owner)) is not None


def close(txn: Txn, owner: bytes, until: int) -> None:
    """Keep what a process has in the store until then, although nobody can be rung for it."""
    found = txn.get(process_key(owner))
    if found:
        unread, size, number, _ = PROCESS.unpack_from(found)
        txn.put(process_key(owner), PROCESS.pack(unread, size, number, until) + found[PROCESS.size :][:BELL_BYTES])


def post(txn: Txn, owner: bytes, group: bytes, body: bytes, now: int, deadline: int, room: int, ring: Ring) -> bool:
    """Put a group message into an inbox; returns whether there was room.

    :param room: bytes that an inbox may hold; there may be twice as much in it for what must not be missed (``tell``).
    :raises LookupError: if the process does not live any more.
    """
    key = process_key(owner)
    found = txn.get(key)
    if found is None:
        raise LookupError
    unread, size, number, until = PROCESS.unpack_from(found)
    bells = found[PROCESS.size :]
    value = pack_number(deadline) + bytes((len(group),)) + group + body
    most = INBOX_MESSAGES
    if deadline == NEVER:
        most, room = 2 * most, 2 * room
    if unread >= most or size + len(value) > room:
        dropped, freed = _trim(txn, owner, now)
        unread -= dropped
        size -= freed
        if unread >= most or size + len(value) > room:
            return False
    txn.put(inbox_key(owner) + pack_number(number), value)
    if unread == 0 and not until:  # else its owner has been rung and has not looked yet
        rung = [ring(bells[i : i + BELL_BYTES], b"") for i in range(0, len(bells), BELL_BYTES)]
        if not any(rung):
            raise LookupError
    txn.put(key, PROCESS.pack(unread + 1, size + len(value), number + 1, until) + bells)
    return True


def tell(txn: Txn, owner: bytes, group: str, what: bytes, room: int, ring: Ring) -> bool:
    """Tell a process what was done to its channels, in order with its group messages; as ``post``."""
    return post(txn, owner, group.encode("ascii"), what, 0, NEVER, room, ring)


def joined(item: GroupItem) -> tuple[str, int]:
    """The channel that another process made a member, and when its membership ends."""
    return item.body[1 + NUMBER.size :].decode("ascii"), NUMBER.unpack_from(item.body, 1)[0]


def unposted(txn: Txn, owner: bytes) -> bool:
    """Whether the inbox holds something."""
    found = txn.get(process_key(owner))
    return bool(found) and PROCESS.unpack_from(found)[0] > 0


def collect(txn: Txn, owner: bytes, messages: int, size: int) -> tuple[list[GroupItem], bool]:
    """Take group messages out of the inbox, at least one; returns them and whether there are more.

    :param messages: at most so many.
    :param size: stop after so many bytes.
    """
    found = txn.get(process_key(owner))
    if found is None:
        return [], False
    unread, held, number, until = PROCESS.unpack_from(found)
    items: list[GroupItem] = []
    if not unread:
        return items, False
    prefix = inbox_key(owner)
    cursor = txn.cursor()
    more = cursor.set_range(prefix)
    while more and len(items) < messages and size > 0:
        key = cursor.key()
        if not key.startswith(prefix):
            break
        value = cursor.value()
        start = NUMBER.size + 1
        end = start + value[NUMBER.size]
        items.append(
            GroupItem(
                NUMBER.unpack_from(value)[0],
                value[start:end].decode("ascii"),
                value[end:],
            )
        )
        unread -= 1
        held -= len(value)
        size -= len(value)
        more = cursor.delete()
    txn.put(process_key(owner), PROCESS.pack(unread, held, number, until) + found[PROCESS.size :])
    return items, unread > 0


def claim_sweep(txn: Txn, now: int) -> bool:
    """Whether it is this process' turn to look for the dead; of all processes one is told so about once a second."""
    found = txn.get(SWEEP)
    if found and now < NUMBER.unpack(found)[0] <= now + SWEEP_EVERY:
        return False
    txn.put(SWEEP, pack_number(now + SWEEP_EVERY))
    return True


def processes(txn: Txn) -> list[tuple[bytes, bytes, int]]:
    """Each process' id, home doorbell, and the time until which it is kept if it has closed (else 0)."""
    result = []
    cursor = txn.cursor()
    found = cursor.set_range(b"p")
    while found:
        key, value = cursor.item()
        if key[:1] != b"p":
            break
        until = PROCESS.unpack_from(value)[3]
        result.append((key[1:], value[PROCESS.size : PROCESS.size + BELL_BYTES], until))
        found = cursor.next()
    return result


def remove(txn: Txn, owner: bytes) -> bool:
    """Remove what a dead process owned; returns whether that was all of it (else call again)."""
    left = REMOVE_AT_ONCE
    cursor = txn.cursor()
    joined = b"j" + owner
    found = cursor.set_range(joined)
    while found and cursor.key().startswith(joined) and left > 0:
        txn.delete(group_key(cursor.key()[1 + OWNER_BYTES :].decode("ascii")) + owner)
        found = cursor.set_range(joined) and cursor.delete()
        left -= 1
    for prefix in (b"i" + owner, b"o" + owner):
        left -= delete_range(txn, prefix, left)
    if left <= 0:
        return False
    txn.delete(process_key(owner))
    return True


def delete_range(txn: Txn, prefix: bytes, limit: int) -> int:
    """Delete at most ``limit`` records whose keys begin with ``prefix``; returns how many."""
    cursor = txn.cursor()
    found = cursor.set_range(prefix)
    deleted = 0
    while found and deleted < limit and cursor.key().startswith(prefix):
        found = cursor.delete()
        deleted += 1
    return deleted


def flush_inboxes(txn: Txn, ring: Ring) -> None:
    """Remove every group message that waits in an inbox, and tell each process to forget the ones it has read."""
    for owner, _, _ in processes(txn):
        while delete_range(txn, inbox_key(owner), REMOVE_AT_ONCE):
            pass
        value = txn.get(process_key(owner))
        _, _, number, until = PROCESS.unpack_from(value)
        txn.put(process_key(owner), PROCESS.pack(0, 0, number, until) + value[PROCESS.size :])
        try:
            tell(txn, owner, FLUSHED, b"", FLUSH_BYTES, ring)
        except LookupError:
            continue


def _trim(txn: Txn, owner: bytes, now: int) -> tuple[int, int]:
    """Drop the expired messages at the front; returns how many, and their bytes."""
    prefix = inbox_key(owner)
    cursor = txn.cursor()
    found = cursor.set_range(prefix)
    dropped = freed = 0
    while found and cursor.key().startswith(prefix):
        value = cursor.value()
        (deadline,) = NUMBER.unpack_from(value)
        if deadline == NEVER:
            found = cursor.next()
            continue
        if deadline > now:
            break
        dropped += 1
        freed += len(value)
        found = cursor.delete()
    return dropped, freed
