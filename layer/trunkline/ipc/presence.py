"""Processes: who lives, what waits in their inboxes, what remains of the dead; inside a write transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from trunkline.ipc.doorbell import BELL_BYTES
from trunkline.ipc.keys import (
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

FLUSHED = ""  # in place of a group's name: forget what you have


class GroupItem(NamedTuple):
    """A group message out of the inbox."""

    number: int
    deadline: int
    group: str
    body: bytes


def register(txn: Txn, owner: bytes, home: bytes, loops: Collection[bytes]) -> None:
    """Say that a process lives and which doorbells to ring for its inbox; what it has in the store stays."""
    found = txn.get(process_key(owner))
    unread, size, number, _ = PROCESS.unpack_from(found) if found else (0, 0, 0, 0)
    txn.put(process_key(owner), PROCESS.pack(unread, size, number, 0) + home + b"".join(loops))


def registered(txn: Txn, owner: bytes) -> bool:
    """Whether the store knows the process."""
    return txn.get(process_key(owner)) is not None


def close(txn: Txn, owner: bytes, until: int) -> None:
    """Keep what a process has in the store until then, although nobody can be rung for it."""
    found = txn.get(process_key(owner))
    if found:
        unread, size, number, _ = PROCESS.unpack_from(found)
        txn.put(process_key(owner), PROCESS.pack(unread, size, number, until) + found[PROCESS.size :][:BELL_BYTES])


def next_number(txn: Txn, owner: bytes) -> int | None:
    """The number that the next message in the process' inbox will have; ``None`` if there is no such process."""
    found = txn.get(process_key(owner))
    return PROCESS.unpack_from(found)[2] if found else None


def post(txn: Txn, owner: bytes, group: bytes, body: bytes, now: int, deadline: int, room: int, ring: Ring) -> bool:
    """Put a group message into an inbox; returns whether there was room.

    :param room: bytes that an inbox may hold.
    :raises LookupError: if the process does not live any more.
    """
    key = process_key(owner)
    found = txn.get(key)
    if found is None:
        raise LookupError
    unread, size, number, until = PROCESS.unpack_from(found)
    bells = found[PROCESS.size :]
    value = pack_number(deadline) + bytes((len(group),)) + group + body
    if unread >= INBOX_MESSAGES or size + len(value) > room:
        dropped, freed = _trim(txn, owner, now)
        unread -= dropped
        size -= freed
        if unread >= INBOX_MESSAGES or size + len(value) > room:
            return False
    txn.put(inbox_key(owner) + pack_number(number), value)
    if unread == 0 and not until:  # else its owner has been rung and has not looked yet
        rung = [ring(bells[i : i + BELL_BYTES], b"") for i in range(BELL_BYTES, len(bells), BELL_BYTES)]
        if rung and not any(rung):
            raise LookupError
    txn.put(key, PROCESS.pack(unread + 1, size + len(value), number + 1, until) + bells)
    return True


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
                NUMBER.unpack_from(key, len(prefix))[0],
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
        group = cursor.key()[1 + OWNER_BYTES :].decode("ascii")
        left -= delete_range(txn, group_key(group) + owner, left)
        if left > 0:
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


def flush_inboxes(txn: Txn, now: int, deadline: int, ring: Ring) -> None:
    """Remove every group message that waits in an inbox, and tell each process to forget the ones it has read."""
    for owner, _, _ in processes(txn):
        while delete_range(txn, inbox_key(owner), REMOVE_AT_ONCE):
            pass
        value = txn.get(process_key(owner))
        _, _, number, until = PROCESS.unpack_from(value)
        txn.put(process_key(owner), PROCESS.pack(0, 0, number, until) + value[PROCESS.size :])
        try:
            post(txn, owner, FLUSHED.encode("ascii"), b"", now, deadline, 1 << 20, ring)
        except LookupError:
            continue


def _trim(txn: Txn, owner: bytes, now: int) -> tuple[int, int]:
    prefix = inbox_key(owner)
    cursor = txn.cursor()
    found = cursor.set_range(prefix)
    dropped = freed = 0
    while found and cursor.key().startswith(prefix):
        value = cursor.value()
        if NUMBER.unpack_from(value)[0] > now:
            break
        dropped += 1
        freed += len(value)
        found = cursor.delete()
    return dropped, freed
