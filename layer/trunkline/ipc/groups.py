"""Groups as the store has them: the processes with members, and the members that no process owns.

Which of its channels are members a process keeps to itself (``trunkline.ipc.memberships``). Operations inside a write
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from trunkline.codec import DIRECT, GROUP
from trunkline.ipc import presence, queues
from trunkline.ipc.keys import NOBODY, NUMBER, OWNER_BYTES, group_key, joined_key, pack_number, place_of
from trunkline.ipc.queues import Ring, Txn

REFRESHED = 10  # one part in so many of its life: how old an entry of a process may get before a join renews it

Wrap = Callable[[int, str, bytes], bytes]  # see trunkline.codec.Records


class Sent(NamedTuple):
    """What became of a group message.

    :ivar dropped: members (channels, or processes with members) that had no room.
    :ivar dead: processes that turned out to be dead; nothing of them is left in this group.
    """

    dropped: int
    dead: list[bytes]


def enter(txn: Txn, group: str, owner: bytes, end: int) -> None:
    """Have a process in a group until ``end`` at least."""
    key = group_key(group) + owner
    found = txn.get(key)
    if found is None or NUMBER.unpack(found)[0] < end:
        txn.put(key, pack_number(end))
        txn.put(joined_key(owner, group), b"")


def enter_each(txn: Txn, owner: bytes, ends: Mapping[str, int]) -> None:
    """``enter`` several groups, each until a time of its own."""
    for group, end in ends.items():
        enter(txn, group, owner, end)


def leave(txn: Txn, group: str, owner: bytes) -> None:
    """Take a process out of a group."""
    txn.delete(group_key(group) + owner)
    txn.delete(joined_key(owner, group))


def add(txn: Txn, group: str, channel: str, now: int, lifetime: int, room: int, ring: Ring) -> bool:
    """Make a member of a channel that is not this process' own; returns whether its owner's inbox had room for it.

    :param lifetime: nanoseconds.
    :param room: bytes that an inbox may hold.
    :raises LookupError: if the owner does not live any more.
    """
    place = place_of(channel)
    if place.owner is None:
        txn.put(group_key(group) + NOBODY + place.name, pack_number(now + lifetime))
        return True
    if not presence.tell(txn, place.owner, group, presence.JOIN + pack_number(now + lifetime) + place.name, room, ring):
        return False
    enter(txn, group, place.owner, now + lifetime + lifetime // REFRESHED)
    return True


def discard(txn: Txn, group: str, channel: str, room: int, ring: Ring) -> bool:
    """End such a channel's membership; result and errors as for ``add``."""
    place = place_of(channel)
    if place.owner is None:
        txn.delete(group_key(group) + NOBODY + place.name)
        return True
    return presence.tell(txn, place.owner, group, presence.LEAVE + place.name, room, ring)


def send(
    txn: Txn,
    group: str,
    body: bytes,
    wrap: Wrap,
    now: int,
    deadline: int,
    capacity_of: Callable[[str], int],
    room: int,
    ring: Ring,
) -> Sent:
    """Post a message once to each process with members, and push it to the members that no process owns.

    :param wrap: makes what is stored of ``body``, for each place that it goes to.
    :param room: bytes that an inbox may hold.
    """
    prefix = group_key(group)
    start = len(prefix)
    owners: list[bytes] = []
    channels: list[str] = []
    ended: list[bytes] = []
    cursor = txn.cursor()
    found = cursor.set_range(prefix)
    while found:
        key = cursor.key()
        if not key.startswith(prefix):
            break
        owner = key[start : start + OWNER_BYTES]
        if NUMBER.unpack(cursor.value())[0] <= now:
            ended.append(key)
        elif owner == NOBODY:
            channels.append(key[start + OWNER_BYTES :].decode("ascii"))
        else:
            owners.append(owner)
        found = cursor.next()
    for key in ended:
        _end(txn, group, key)
    dropped = 0
    dead: list[bytes] = []
    name = group.encode("ascii")
    for channel in channels:
        data = wrap(DIRECT, channel, body)
        if not queues.push(txn, place_of(channel), data, now, deadline, capacity_of(channel), ring, drop=True):
            dropped += 1
    data = wrap(GROUP, group, body) if owners else b""
    for owner in owners:
        try:
            if not presence.post(txn, owner, name, data, now, deadline, room, ring):
                dropped += 1
        except LookupError:
            dead.append(owner)
            leave(txn, group, owner)
    return Sent(dropped, dead)


def end_all(txn: Txn) -> None:
    """End every membership of everybody."""
    for prefix in (b"g", b"j"):
        while presence.delete_range(txn, prefix, presence.REMOVE_AT_ONCE):
            pass


def drop_ended(txn: Txn, start: bytes, now: int, limit: int) -> bytes | None:
    """Go through at most ``limit`` memberships from key ``start`` and remove the ended ones.

    :returns: the key to go on from, or ``None`` at the end.
    """
    cursor = txn.cursor()
    found = cursor.set_range(max(start, b"g"))
    while found and limit:
        key = cursor.key()
        if key[:1] != b"g":
            return None
        limit -= 1
        if NUMBER.unpack(cursor.value())[0] > now:
            found = cursor.next()
            continue
        _end(txn, key[1 : key.index(b"\0")].decode("ascii"), key)
        found = cursor.set_range(key)
    return cursor.key() if found else None


def _end(txn: Txn, group: str, key: bytes) -> None:
    """Remove an entry whose time has come."""
    txn.delete(key)
    owner = key[len(group_key(group)) :]
    if len(owner) == OWNER_BYTES:
        txn.delete(joined_key(owner, group))
