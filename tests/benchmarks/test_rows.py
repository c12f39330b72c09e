"""Every row runs with a handful of messages against real servers, and fills its tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from benchmarks.load import Load
from benchmarks.measure import Measurement, measure
from benchmarks.plan import ROWS, Row
from benchmarks.targets import TARGETS, Target
from support.servers import RedisServer

AT_ONCE = 3  # measurements at the same time, each on a server of its own

LAYERS = {target.name: target for target in TARGETS}
# The rows differ and the layers don't, as both are driven by the same code; the bare loops have code of their own.
OTHERS = {"queue": ("core", "redis-py", "hiredis"), "latency": ("hiredis",), "answers": ("hiredis",)}
OTHERS |= {"groups": ("pubsub", "hiredis"), "members": ("ipc",)}
OTHERS |= {"distinct": ("redis-py", "hiredis"), "threads": ("redis-py", "hiredis")}
CASES = [(row, LAYERS[name]) for row in ROWS for name in ("redis", *OTHERS.get(row.name, ()))]


def measure_all(cases: list[tuple[Row, Target]], urls: list[str]) -> dict[tuple[str, str], Measurement]:
    found = {}
    left = list(cases)

    async def work(url: str) -> None:
        while left:
            row, target = left.pop()
            found[row.name, target.name] = await measure(row, target, Load(5, 0.002, url))

    async def work_all() -> None:
        await asyncio.gather(*map(work, urls))

    asyncio.run(work_all())
    return found


@pytest.mark.redis
def test_every_row_counts_every_message_and_gives_every_value(start_redis: Callable[..., RedisServer]) -> None:
    found = measure_all(CASES, [start_redis().url for _ in range(AT_ONCE)])
    assert {case: run.failure for case, run in found.items() if run.failure} == {}
    assert all(run.sent == run.received > 0 for run in found.values())
    for row, target in CASES:
        keys = {key for table in row.tables for way in table.ways for key in way.keys}
        if target.bare:  # a plain thread's loop has one way to send
            keys.discard("async_to_sync")
        if not target.on_redis:
            keys = {key for key in keys if not key.startswith(("server_", "commands_"))}
        assert keys <= set(found[row.name, target.name].values)
