"""Removing everything of a prefix: close the virtual shards, delete, open them anew, wait for the other processes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from trunkline.errors import ConfigurationError, LayerUnavailable
from trunkline.redis.connections import Wire
from trunkline.redis.greeting import PATIENCE, greet, greet_shards, load_scripts
from trunkline.redis.process import Process, Server, new_id
from trunkline.redis.replies import Arg, NotNow, ServerAway, Unfit
from trunkline.redis.scripts import script

KEPT = (b"epoch", b"layout", b"run", b"procs", b"grace", b"graced")  # what tells processes of each other stays
WAIT_FOR_OTHERS = 5.0  # seconds; a process that has not adopted the flush by then is blocked or dead


async def flush(process: Process) -> None:
    """Remove all messages and memberships of the prefix on all servers.

    Returns when each live process has dropped what it held, or after ``WAIT_FOR_OTHERS`` seconds.

    :raises LayerUnavailable: if a server can't be reached; what it holds is then still there.
    :raises ConfigurationError: if a server can't carry the layer at all.
    """
    epoch = new_id()
    wires = [Wire(server.target) for server in process.servers]
    closed: list[tuple[Server, Wire]] = []
    try:
        for server, wire in zip(process.servers, wires, strict=True):
            await greet(process, server, wire)  # all of them before anything is closed
            await load_scripts(wire, {"flush"})
        for server, wire in zip(process.servers, wires, strict=True):
            closed.append((server, wire))
            await _set(process, server, wire, new_id(), "flushing")
        for wire in wires:
            await _delete(process, wire)
        waiting: dict[int, set[bytes]] = {}
        for server, wire in zip(process.servers, wires, strict=True):
            replies = await _set(process, server, wire, epoch, "flush")
            closed.remove((server, wire))
            for shard, reply in zip(process.ring.owned[server.position], replies, strict=True):
                waiting[shard] = set(reply[1:]) - {process.id.encode()}
        for server, wire in zip(process.servers, wires, strict=True):
            await greet_shards(process, server, wire)  # adopts the epoch, and drops what this process holds
        deadline = time.monotonic() + WAIT_FOR_OTHERS
        for server, wire in zip(process.servers, wires, strict=True):
            await _wait(process, server, wire, epoch, waiting, deadline)
    except Unfit as error:
        raise ConfigurationError(str(error)) from error
    except (ServerAway, NotNow) as error:
        raise LayerUnavailable(f"The layer could not be flushed: {error}") from error
    finally:
        for server, wire in closed:
            await _open(process, server, wire, epoch)
        for wire in wires:
            await wire.close()


async def _open(process: Process, server: Server, wire: Wire, epoch: str) -> None:
    """Open what an interrupted flush left closed; if that fails too, the server opens it after 15 s."""
    try:
        if not wire.connected:
            await wire.connect()
        await _set(process, server, wire, epoch, "flush")
    except (ServerAway, NotNow):
        pass


async def _set(process: Process, server: Server, wire: Wire, epoch: str, kind: str) -> list[Any]:
    keys = process.keys
    commands: list[list[Arg]] = [
        [b"EVALSHA", script("flush").sha, 2, keys.key(shard, "epoch"), keys.canary(shard), epoch, kind]
        for shard in process.ring.owned[server.position]
    ]
    replies = await wire.call(commands, PATIENCE)
    for reply in replies:
        if isinstance(reply, Exception):
            raise NotNow(str(reply))
    return replies


async def _delete(process: Process, wire: Wire) -> None:
    cursor: bytes = b"0"
    while True:
        (reply,) = await wire.call([[b"SCAN", cursor, b"MATCH", process.keys.pattern, b"COUNT", 1000]], PATIENCE)
        if isinstance(reply, Exception):
            raise NotNow(str(reply))
        cursor, found = reply
        doomed = [key for key in found if key.rpartition(b"}:")[2] not in KEPT]
        if doomed:
            await wire.call([[b"DEL", *doomed]], PATIENCE)
        if cursor == b"0":
            return


async def _wait(
    process: Process, server: Server, wire: Wire, epoch: str, waiting: dict[int, set[bytes]], deadline: float
) -> None:
    for shard in process.ring.owned[server.position]:
        while waiting[shard] and time.monotonic() < deadline:
            (reply,) = await wire.call([[b"HGETALL", process.keys.key(shard, "adopted")]], PATIENCE)
            if isinstance(reply, Exception):
                raise NotNow(str(reply))
            adopted = dict(zip(reply[::2], reply[1::2], strict=True))
            waiting[shard] -= {who for who, known in adopted.items() if known == epoch.encode()}
            if waiting[shard]:
                await asyncio.sleep(0.05)
