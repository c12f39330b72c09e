"""Greeting a server: connecting, beating, the scripts that it lacks, its epochs, and whether it is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from trunkline.redis.connections import Wire
from trunkline.redis.fitness import judge_server
from trunkline.redis.process import Process, Server, new_id
from trunkline.redis.replies import NotNow, Unfit, UnknownScript
from trunkline.redis.scripts import script

LOOK_AGAIN = 5.0  # seconds between two looks at a server that can't carry the layer; somebody may mend it

PATIENCE = 3.0  # seconds in which nothing moves; then the connection counts as broken, and a new one is tried


async def load_scripts(wire: Wire, names: Iterable[str]) -> None:
    """Load scripts into the server that ``wire`` is connected to.

    :raises ServerAway: if the connection breaks.
    :raises NotNow: if the server doesn't take them.
    """
    for reply in await wire.call([[b"SCRIPT", b"LOAD", script(name).text] for name in names], PATIENCE):
        if isinstance(reply, Exception):
            raise NotNow(str(reply))


async def greet(process: Process, server: Server, wire: Wire) -> None:
    """Connect, load the scripts and learn the epochs; marks the server as back.

    :raises ServerAway: if it can't be reached.
    :raises Unfit: if it can't carry the layer at all; for a while without asking it again.
    :raises NotNow: if it can't serve at the moment.
    """
    if server.unfit and time.monotonic() < server.unfit_until:
        raise Unfit(server.unfit)
    await wire.connect()
    try:
        if not server.examined:
            await _examine(process, server, wire)
        await greet_shards(process, server, wire, new=True)
    except NotNow:
        await wire.close()  # a connection that wasn't greeted must not look like one that was
        raise


async def _examine(process: Process, server: Server, wire: Wire) -> None:
    """Ask a server what it is. Not asking for its settings, as few users may run CONFIG."""
    replies = await wire.call([[b"INFO", b"server"], [b"INFO", b"memory"]], PATIENCE)
    for reply in replies:
        if isinstance(reply, NotNow):
            raise reply
        if isinstance(reply, Exception):  # it keeps that to itself; then nothing is known against it
            process.warn("info", "What %s is could not be checked: %s", server.label, reply)
    told = "".join(reply.decode(errors="replace") for reply in replies if isinstance(reply, bytes))
    verdict = judge_server(server.label, told)
    server.unfit, server.unfit_until = verdict.refusal, time.monotonic() + LOOK_AGAIN
    process.unfit = next((each.unfit for each in process.servers if each.unfit), "")
    if verdict.refusal:
        process.warn("unfit", "%s", verdict.refusal, level=logging.ERROR)
        raise Unfit(verdict.refusal)
    if verdict.warning and verdict.warning != server.warned_of:
        process.warn(f"eviction {server.position}", "%s", verdict.warning)
    server.warned_of, server.examined = verdict.warning, True


async def greet_shards(process: Process, server: Server, wire: Wire, *, new: bool = False) -> None:
    """Beat on every virtual shard of a server: liveness, its clock, its epochs, its layout.

    :param new: whether the connection is new: then it may lead to another server than before.
    :raises ServerAway, NotNow: as ``greet``.
    """
    beat = script("beat")
    shards = process.ring.owned[server.position]
    ident = process.id if process.present else ""
    for _ in range(2):
        asked = time.monotonic()
        replies = await wire.call(
            [
                [
                    b"EVALSHA", beat.sha, 2, process.keys.key(shard, "procs"), process.keys.canary(shard),
                    process.epochs[shard], new_id(), ident, process.inbox_life, process.ring.fingerprint,
                    1 if new else 0,
                ]
                for shard in shards
            ],
            PATIENCE,
        )  # fmt: skip
        if not any(isinstance(reply, UnknownScript) for reply in replies):
            break
        await load_scripts(wire, {"beat"})  # the others when they are missed: a weak line gets one through
    answered = time.monotonic()
    for shard, reply in zip(shards, replies, strict=True):
        if isinstance(reply, NotNow):
            raise reply
        if isinstance(reply, Exception):
            raise NotNow(str(reply))
        server.offset = int(reply[1]) - (asked + answered) * 500
        before = process.epochs[shard]
        process.adopt(shard, reply[2].decode())
        if ident and before == process.epochs[shard] and not reply[3]:
            process.lost_memberships(shard)  # we were taken for dead meanwhile
        layout = reply[4].decode()
        if layout != process.ring.fingerprint and not server.layout_reported:
            server.layout_reported = True
            process.warn(
                "layout",
                "%s holds the names of a layer with another list of hosts (%s, here %s): processes with different "
                "`hosts` do not find each other's channels; give all of them the same list, in the same order.",
                server.label,
                layout,
                process.ring.fingerprint,
                level=40,
            )
    mark_back(server)


def mark_away(server: Server, problem: str) -> None:
    """Remember since when a server can't be used."""
    server.problem = problem
    server.examined = False  # its name may lead to another one when it is back
    if server.away_since is None:
        server.away_since = time.monotonic()


def mark_back(server: Server) -> None:
    """The server answers again."""
    server.away_since = None
    server.problem = ""
