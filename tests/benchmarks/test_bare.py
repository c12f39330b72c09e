"""The bare loops send the Redis layer's own calls: scripts, virtual shards, keys and numbers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
import redis

from benchmarks.load import Load
from benchmarks.measure import measure
from benchmarks.plan import ROWS
from benchmarks.targets import TARGETS
from support.servers import RedisServer
from trunkline.redis.scripts import script

Calls = set[tuple[bytes, ...]]

ROW = {row.name: row for row in ROWS}
LAYER = {target.name: target for target in TARGETS}

HEADS = {"enter": 2, "exit": 1, "group": 3}  # arguments before the groups, or before the records
MESSAGES = 130  # also joins: two full steps of 64, and a part of one
CALL = 9  # words of each: EVALSHA, digest, number of keys, both keys, epoch, sender, number, chain
PROCESS = re.compile(rb"\b[0-9a-f]{24}\b")


async def told(row: str, layer: str, server: RedisServer) -> Calls:
    """What a row tells the server about groups, one entry for each group, whichever calls they share."""
    with redis.Redis(port=server.port, socket_timeout=5, protocol=2) as client:
        client.config_set("slowlog-max-len", 1_000_000)
        client.config_set("slowlog-log-slower-than", 0)
        run = await measure(ROW[row], LAYER[layer], Load(MESSAGES, 1.0, server.url))
        commands = [entry["command"] for entry in client.slowlog_get(-1)]
    assert run.failure == ""
    return set().union(*map(_groups, commands))


def _groups(command: bytes) -> Calls:
    """The script, the key with its virtual shard, and the numbers, for each group that a call is about."""
    words = [PROCESS.sub(b"process", word) for word in command.split(b" ")]
    for name, head in HEADS.items():
        if words[:2] == [b"EVALSHA", script(name).sha]:
            first = CALL + head
            call = (name.encode(), words[3].partition(b":{")[2], *words[CALL:first])
            return {(*call, group) for group in words[first:]} if name != "group" else {call}
    return set()


@pytest.mark.redis
@pytest.mark.parametrize(
    ("row", "scripts"), [("distinct", ("enter", "exit", "group")), ("threads", ("enter", "group"))]
)
def test_a_bare_loop_tells_of_groups_as_the_layer_does(
    row: str, scripts: tuple[str, ...], start_redis: Callable[..., RedisServer]
) -> None:
    async def both() -> list[Calls]:
        return await asyncio.gather(*(told(row, name, start_redis()) for name in ("hiredis", "redis")))

    bare, layer = asyncio.run(both())
    assert {call[0].decode() for call in bare} == set(scripts)
    assert bare == layer
