"""Channels: push, pop and who waits, each one operation inside a write transaction.

A wake-up is never lost: whoever finds a channel empty registers its doorbell in the same transaction; whoever brings a
message takes one doorbell out and rings it *before* the commit (the woken one then waits a moment for the store).
So a sender killed at any point has rung for what it left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from trunkline.errors import ChannelFull
from trunkline.ipc.doorbell import BELL_BYTES
from trunkline.ipc.keys import CHANNEL, NUMBER, OWNER_BYTES, Place, pack_number, process_key

Ring = Callable[[bytes, bytes], bool]  # doorbell, line -> whether its owner lives
Txn = Any  # lmdb.Transaction


class Popped(NamedTuple):
    """What ``pop`` found.

    :ivar body: the message, or ``None``.
    :ivar expired: how many messages were dropped on the way.
    :ivar unread: how many are left.
    :ivar deadline: when ``body`` expires.
    """

    body: bytes | None
    expired: int
    unread: int
    deadline: int = 0


def push(
    txn: Txn, place: Place, body: bytes, now: int, deadline: int, capacity: int, ring: Ring, *, drop: bool = False
) -> bool:
    """Append a message and wake one receiver; returns whether the channel took it.

    :param drop: return ``False`` where the channel is full, instead of raising.
    :raises ChannelFull: if it holds ``capacity`` messages that have not expired.
    """
    if place.owner is not None and txn.get(process_key(place.owner)) is None:
        return True  # the process is gone, and nobody else could ever receive it
    value = txn.get(place.key)
    if value is None:
        unread, number, bells = 0, 0, b""
    else:
        unread, number = CHANNEL.unpack_from(value)
        bells = value[CHANNEL.size :]
        if unread >= capacity:
            trimmed = _trim(txn, place.key, unread, now)
            unread -= trimmed
            if unread >= capacity:  # still, as another process takes more than this one would
                if drop:
                    if trimmed:
                        txn.put(place.key, CHANNEL.pack(unread, number) + bells)
                    return False
                raise ChannelFull(place.name.decode("ascii"), capacity)
    txn.put(place.key + pack_number(number), pack_number(deadline) + body)
    if bells:
        bells, rung = _ring_one(bells, place.name, ring)
    else:
        rung = False
    txn.put(place.key, CHANNEL.pack(unread + 1, number + 1) + bells)
    if not rung and place.owner is not None:
        _wake(txn, place.head, place.head[1 + OWNER_BYTES : -1], ring)
    return True


def pop(
    txn: Txn,
    place: Place,
    now: int,
    bell: bytes,
    others: Collection[bytes],
    before: int | None = None,
    *,
    keep: bool = False,
) -> Popped:
    """Take the first message that has not expired.

    :param bell: doorbell to register if there is none; empty for nobody.
    :param before: leave messages that expire later than that.
    :param others: doorbells of further receivers that wait, to be registered if nothing is left for them.
    :param keep: register ``bell`` and ``others``, in place of all that were, whenever nothing is left; for a channel
        of this process, which so need not look again before it is rung for.
    """
    cursor = txn.cursor()
    if not cursor.set_key(place.key):
        if bell:
            txn.put(place.key, CHANNEL.pack(0, 0) + bell + b"".join(other for other in others if other != bell))
        return Popped(None, 0, 0)
    head = cursor.value()
    unread, number = CHANNEL.unpack_from(head)
    bells = head[CHANNEL.size :]
    body = None
    expired = deadline = 0
    if unread and cursor.next():
        while unread and body is None:
            value = cursor.value()
            if before is not None and NUMBER.unpack_from(value)[0] > before:
                break
            unread -= 1
            (deadline,) = NUMBER.unpack_from(value)
            if deadline > now:
                body = value[NUMBER.size :]
            else:
                expired += 1
            cursor.delete()  # goes on to the next
    if not unread:
        if keep:
            bells = b""
        for each in (bell, *others) if bell and (keep or body is None) else others:
            if each not in _each(bells):
                bells += each
    _write_head(txn, place.key, head, unread, number, bells)
    return Popped(body, expired, unread, deadline)


def pop_each(txn: Txn, places: Collection[tuple[Place, Collection[bytes]]], now: int, bell: bytes) -> list[Popped]:
    """``pop`` one message of each of this process' channels, with the doorbells of who waits there."""
    return [pop(txn, place, now, bell, others, keep=True) for place, others in places]


def put_back(txn: Txn, place: Place, deadline: int, body: bytes) -> None:
    """Make a message that was taken out of one of this process' channels the first again; nobody is rung."""
    head = txn.get(place.key)
    unread, number = CHANNEL.unpack_from(head) if head else (0, 0)
    if number == unread:  # there is no number before the first one: the others move up
        cursor = txn.cursor()
        for each in range(number - 1, -1, -1):
            cursor.set_key(place.key + pack_number(each))
            txn.put(place.key + pack_number(each + 1), cursor.value())
        number += 1
    txn.put(place.key + pack_number(number - unread - 1), pack_number(deadline) + body)
    txn.put(place.key, CHANNEL.pack(unread + 1, number) + (head[CHANNEL.size :] if head else b""))


def pop_any(
    txn: Txn,
    head: Place,
    now: int,
    waited: Callable[[str], bool],
    after: bytes,
    bell: bytes,
    others: Collection[bytes],
) -> tuple[Place, Popped] | None:
    """Take a message of any channel under ``head``; channels take turns.

    :param head: the place of ``"prefix!"``.
    :param waited: whether a channel has a receiver of its own, and is left to that one.
    :param after: key of the channel that was served last.
    """
    begin = head.key[:-1]
    cursor = txn.cursor()
    for start, stop in ((max(begin, after[:-1] + b"\1"), None), (begin, after)):
        found = cursor.set_range(start)
        while found:
            key = cursor.key()
            if not key.startswith(begin) or (stop and key > stop):
                break
            end = key.index(b"\0", 1 + OWNER_BYTES)
            name = key[1 + OWNER_BYTES : end]
            if len(name) > len(head.name) and CHANNEL.unpack_from(cursor.value())[0]:
                channel = name.decode("ascii")
                if not waited(channel):
                    place = Place(key[: end + 1], head.owner, head.key, name)
                    popped = pop(txn, place, now, b"", ())
                    if popped.body is not None:
                        return place, popped
            found = cursor.set_range(key[:end] + b"\1")
        if not after:
            break
    pop(txn, head, now, bell, others)
    return None


def withdraw(txn: Txn, place: Place, bells: Collection[bytes], ring: Ring) -> None:
    """Nobody waits behind ``bells`` any more; if they were rung already, the wake-up belongs to the next one."""
    head = txn.get(place.key)
    if head is None:
        return
    unread, number = CHANNEL.unpack_from(head)
    kept = b"".join(bell for bell in _each(head[CHANNEL.size :]) if bell not in bells)
    if unread and kept:
        kept, _ = _ring_one(kept, place.name, ring)
    _write_head(txn, place.key, head, unread, number, kept)


def withdraw_each(txn: Txn, places: Collection[Place], bells: Collection[bytes], ring: Ring) -> None:
    """``withdraw`` from several channels."""
    for place in places:
        withdraw(txn, place, bells, ring)


class Backlog(NamedTuple):
    """What lies in a channel.

    :ivar unread: messages, expired ones included.
    :ivar first: number of the first of them; it stays the same while nobody takes one.
    :ivar waiting: whether a receiver waits.
    """

    unread: int
    first: int
    waiting: bool


def backlog_of(txn: Txn, place: Place) -> Backlog:
    """What lies in a channel, and whether somebody waits for more."""
    head = txn.get(place.key)
    if head is None:
        return Backlog(0, 0, False)
    unread, number = CHANNEL.unpack_from(head)
    return Backlog(unread, number - unread, len(head) > CHANNEL.size)


def unread_of(txn: Txn, place: Place) -> int:
    """How many messages the channel holds, expired ones included."""
    head = txn.get(place.key)
    return CHANNEL.unpack_from(head)[0] if head else 0


def drop_expired(txn: Txn, start: bytes, now: int, limit: int, lives: Callable[[bytes], bool]) -> bytes | None:
    """Go through at most ``limit`` channels from key ``start``: drop expired messages and the doorbells of the dead.

    :returns: the key to go on from, or ``None`` at the end.
    """
    cursor = txn.cursor()
    found = cursor.set_range(max(start, b"c"))
    while found and limit:
        key = cursor.key()
        if key[:1] == b"c":
            end = key.index(b"\0")
        elif key[:1] == b"o":
            end = key.index(b"\0", 1 + OWNER_BYTES)
        else:
            if key > b"o":
                return None
            found = cursor.set_range(b"o")
            continue
        if len(key) == end + 1:
            head = cursor.value()
            unread, number = CHANNEL.unpack_from(head)
            bells = head[CHANNEL.size :]
            left = unread - _trim(txn, key, unread, now) if unread else 0
            if key[:1] == b"c":
                bells = b"".join(bell for bell in _each(bells) if lives(bell))
            _write_head(txn, key, head, left, number, bells)
        limit -= 1
        found = cursor.set_range(key[:end] + b"\1")
    return cursor.key() if found else None


def empty_all(txn: Txn) -> None:
    """Remove every message of every channel; who waits goes on waiting."""
    cursor = txn.cursor()
    for letter in (b"c", b"o"):
        found = cursor.set_range(letter)
        while found:
            key = cursor.key()
            if key[:1] != letter:
                break
            end = key.index(b"\0", 1 + (OWNER_BYTES if letter == b"o" else 0))
            bells = cursor.value()[CHANNEL.size :] if len(key) == end + 1 else b""
            if bells:
                txn.put(key, CHANNEL.pack(0, 0) + bells)
                found = cursor.set_range(key + b"\0")
            else:
                found = cursor.delete() and bool(cursor.key())


def _wake(txn: Txn, key: bytes, line: bytes, ring: Ring) -> None:
    """Ring one of the doorbells registered at ``key``, if there are any."""
    head = txn.get(key)
    if head is None or len(head) <= CHANNEL.size:
        return
    unread, number = CHANNEL.unpack_from(head)
    bells, _ = _ring_one(head[CHANNEL.size :], line, ring)
    _write_head(txn, key, head, unread, number, bells)


def _ring_one(bells: bytes, line: bytes, ring: Ring) -> tuple[bytes, bool]:
    """Take doorbells out until one was rung whose owner lives; returns the ones that are left."""
    while bells:
        bell, bells = bells[:BELL_BYTES], bells[BELL_BYTES:]
        if ring(bell, line):
            return bells, True
    return bells, False


def _write_head(txn: Txn, key: bytes, old: bytes, unread: int, number: int, bells: bytes) -> None:
    if not unread and not bells:
        txn.delete(key)
        return
    new = CHANNEL.pack(unread, number) + bells
    if new != old:
        txn.put(key, new)


def _trim(txn: Txn, key: bytes, unread: int, now: int) -> int:
    """Drop the expired messages at the front; returns how many."""
    cursor = txn.cursor()
    trimmed = 0
    found = cursor.set_range(key + bytes(NUMBER.size))
    while found and trimmed < unread and NUMBER.unpack_from(cursor.value())[0] <= now:
        found = cursor.delete()
        trimmed += 1
    return trimmed


def _each(bells: bytes) -> list[bytes]:
    return [bells[i : i + BELL_BYTES] for i in range(0, len(bells), BELL_BYTES)]
