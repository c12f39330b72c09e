"""The dead letters of all servers: messages that were given as often as they may be, until somebody decides."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import NamedTuple

from trunkline.errors import LayerUnavailable
from trunkline.redis.connections import Wire
from trunkline.redis.greeting import PATIENCE, greet
from trunkline.redis.process import Process
from trunkline.redis.reliable import Caller, shown_reason
from trunkline.redis.replies import NotNow, ServerAway
from trunkline.redis.ring import VIRTUAL_SHARDS

PAGE = 200  # letters in one reply
_ID = re.compile(r"([0-9]{1,2})\.([0-9]{1,20}-[0-9]{1,20})", re.ASCII)


class Letter(NamedTuple):
    """A dead letter as it lies on its server.

    :ivar id: ``<virtual shard>.<entry>``; no two letters have the same.
    :ivar deliveries: how often it was given to a reader.
    :ivar first: milliseconds since 1970 when it was first given.
    :ivar last: the same for the last time.
    :ivar data: its record.
    """

    id: str
    channel: str
    deliveries: int
    first: int
    last: int
    reason: str
    data: bytes


async def read_letters(process: Process) -> list[Letter]:
    """All dead letters, the oldest first.

    :raises LayerUnavailable: if a server can't be reached.
    """
    letters: list[Letter] = []
    for server in process.servers:
        wire = Wire(server.target)
        try:
            await greet(process, server, wire)
            for shard in process.ring.owned[server.position]:
                letters += await _of_shard(process, wire, shard)
        except (ServerAway, NotNow) as error:
            raise LayerUnavailable(f"The dead letters can't be read: {error}") from error
        finally:
            await wire.close()
    return sorted(letters, key=lambda letter: (letter.last, letter.id))


async def _of_shard(process: Process, wire: Wire, shard: int) -> list[Letter]:
    key, start, letters = process.keys.key(shard, "dead"), "-", []
    while True:
        (page,) = await wire.call([[b"XRANGE", key, start, "+", "COUNT", PAGE]], PATIENCE)
        if isinstance(page, Exception):
            raise NotNow(str(page))
        for entry, fields in page:
            of = dict(zip(fields[::2], fields[1::2], strict=True))
            letters.append(
                Letter(
                    f"{shard}.{entry.decode()}",
                    of[b"c"].decode(),
                    int(of[b"n"]),
                    int(of[b"f"]),
                    int(of[b"l"]),
                    shown_reason(process.records, of[b"c"].decode(), of[b"w"]),
                    of[b"r"],
                )
            )
        if len(page) < PAGE:
            return letters
        milliseconds, _, sequence = page[-1][0].decode().partition("-")
        start = f"{milliseconds}-{int(sequence) + 1}"


async def change_letters(caller: Caller, script: str, ids: Iterable[str]) -> list[str]:
    """Requeue or drop letters; returns the ids of those that there weren't (any more).

    :param script: ``requeue`` or ``drop``.
    :raises ValueError: if an id is none; then nothing was done.
    :raises LayerUnavailable: if a server is away for longer than the retry time.
    """
    wanted = list(dict.fromkeys(ids))
    places = [_place(letter) for letter in wanted]
    calls = [caller.call(script, shard, "dead", "", (), (entry,)) for shard, entry in places]
    answers = await asyncio.gather(*calls)
    return [letter for letter, answer in zip(wanted, answers, strict=True) if answer != "k"]


def _place(letter: str) -> tuple[int, str]:
    found = _ID.fullmatch(letter)
    if not found or int(found[1]) >= VIRTUAL_SHARDS:
        raise ValueError(f"{letter[:60]!r} is no id of a dead letter; they look like 3.1700000000000-0.")
    return int(found[1]), found[2]
