"""Groups: memberships lie in the store, so that any process may change any of them at once, and each process reads
its own when it fans a message out. Operations inside a write transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trunkline.codec import DIRECT, GROUP
from trunkline.ipc import presence, queues
from trunkline.ipc.keys import (
    AFTER_ANY_NAME,
    MEMBER,
    NOBODY,
    OWNER_BYTES,
    group_key,
    joined_key,
    member_key,
    pack_number,
    place_of,
)
from trunkline.ipc.queues import Ring, Txn

Wrap = Callable[[int, str, bytes], bytes]  # see trunkline.codec.Records


class Member(NamedTuple):
    """One of a process' channels in a group.

    :ivar end: when the membership ends.
    :ivar begin: the first number in the process' inbox that it hears.
    """

    channel: str
    end: int
    begin: int


class Sent(NamedTuple):
    """What became of a group message.

    :ivar dropped: members (channels, or processes with members) that had no room.
    :ivar dead: processes that turned out to be dead; nothing of them is left in this group.
    """

    dropped: int
    dead: list[bytes]


def add(txn: Txn, group: str, channel: str, now: int, end: int) -> None:
    """Make ``channel`` a member until ``end``; a channel of a process that has gone can't become one."""
    owner = place_of(channel).owner
    key = member_key(group, channel)
    begin = 0
    if owner is not None:
        number = presence.next_number(txn, owner)
        if number is None:
            return
        found = txn.get(key)
        begin = number
        if found is not None:
            old_end, old_begin = MEMBER.unpack(found)
            if old_end > now:
                begin = old_begin
        txn.put(joined_key(owner, group), pack_number(now))
    txn.put(key, MEMBER.pack(end, begin))


def discard(txn: Txn, group: str, channel: str, now: int) -> None:
    """End a membership."""
    if not txn.delete(member_key(group, channel)):
        return
    owner = place_of(channel).owner
    if owner is not None:
        _members_changed(txn, group, owner, now)


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
        if owner == NOBODY:
            if MEMBER.unpack(cursor.value())[0] > now:
                channels.append(key[start + OWNER_BYTES :].decode("ascii"))
            else:
                ended.append(key)
            found = cursor.next()
        else:
            owners.append(owner)
            found = cursor.set_range(prefix + owner + AFTER_ANY_NAME)
    for key in ended:
        txn.delete(key)
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
            presence.delete_range(txn, prefix + owner, presence.REMOVE_AT_ONCE)
    return Sent(dropped, dead)


def version(txn: Txn, group: str, owner: bytes) -> bytes | None:
    """Changes whenever the process' members of the group change; ``None`` if there are none."""
    value: bytes | None = txn.get(joined_key(owner, group))
    return value


def members(txn: Txn, group: str, owner: bytes, now: int) -> list[Member]:
    """The process' members of a group; ended memberships are removed."""
    prefix = group_key(group) + owner
    result: list[Member] = []
    cursor = txn.cursor()
    ended = False
    found = cursor.set_range(prefix)
    while found:
        key, value = cursor.item()
        if not key.startswith(prefix):
            break
        end, begin = MEMBER.unpack(value)
        if end > now:
            result.append(Member(key[len(prefix) :].decode("ascii"), end, begin))
            found = cursor.next()
        else:
            ended = True
            found = cursor.delete()
    if ended:
        _members_changed(txn, group, owner, now)
    return result


def leave_all(txn: Txn, channel: str, now: int) -> None:
    """End every membership of a process' own channel."""
    owner = place_of(channel).owner
    if owner is None:
        return
    for group in _groups_of(txn, owner):
        discard(txn, group, channel, now)


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
        if MEMBER.unpack(cursor.value())[0] > now:
            found = cursor.next()
            continue
        found = cursor.delete()
        end = key.index(b"\0")
        owner = key[end + 1 : end + 1 + OWNER_BYTES]
        if owner != NOBODY:
            _members_changed(txn, key[1:end].decode("ascii"), owner, now)
            found = cursor.set_range(key)
    return cursor.key() if found else None


def _groups_of(txn: Txn, owner: bytes) -> list[str]:
    prefix = b"j" + owner
    result = []
    cursor = txn.cursor()
    found = cursor.set_range(prefix)
    while found and cursor.key().startswith(prefix):
        result.append(cursor.key()[len(prefix) :].decode("ascii"))
        found = cursor.next()
    return result


def _members_changed(txn: Txn, group: str, owner: bytes, now: int) -> None:
    """Note a new version, or that nobody is left."""
    prefix = group_key(group) + owner
    cursor = txn.cursor()
    if cursor.set_range(prefix) and cursor.key().startswith(prefix):
        txn.put(joined_key(owner, group), pack_number(now))
    else:
        txn.delete(joined_key(owner, group))
