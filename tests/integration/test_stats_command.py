"""`trunkline stats` as a real process: what it shows, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from support.servers import RedisServer, free_port
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import numbered, within

pytestmark = [pytest.mark.redis, pytest.mark.asyncio]

DEADLINE_S = 40.0  # an interpreter that starts on a busy machine, and servers that don't answer


@pytest.fixture
def config(shared_redis: list[RedisServer]) -> dict[str, Any]:
    return {"hosts": [server.url for server in shared_redis[:2]], "prefix": uuid.uuid4().hex}


async def ask(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "trunkline", "stats", *arguments],
        env={**os.environ, **environ}, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip


async def with_traffic(config: dict[str, Any]) -> RedisChannelLayer:
    """A layer that has reported 12 sends and 2 receives of ``orders``, and 3 group sends."""
    layer = RedisChannelLayer(**config)
    for number in range(12):
        await layer.send("orders", numbered(number))
    for _ in range(2):
        await within(layer.receive("orders"))
    for number in range(3):
        await layer.group_send("room", numbered(number))
    end = time.monotonic() + 20
    while (total := await layer.global_statistics()).messages_count != 15 or total.received_count != 2:
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    return layer


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


async def test_the_tables_show_totals_channels_processes_and_servers(config: dict[str, Any]) -> None:
    layer = await with_traffic(config)
    try:
        shown = await ask(CHANNEL_LAYERS_CONFIG=json.dumps(config))
        assert (shown.returncode, shown.stderr) == (0, "")
        lines = shown.stdout.splitlines()
        assert lines[0].startswith("sent                                15, 3 of them to groups (")
        assert lines[1].split() == ["received", "2"]
        assert lines[2].startswith("pending                             10, the oldest for ")
        [orders] = [cells(line) for line in lines if line.startswith("orders")]
        assert [orders[column] for column in (0, 1, 3, 4, 6, 7, 8)] == ["orders", "12", "2", "10", "0", "0", "0"]
        [process] = [cells(line) for line in lines if f":{os.getpid()} " in line]
        assert (process[1], process[3], process[4]) == ("15", "2", "0")
        servers = [cells(line) for line in lines if line.startswith("redis://127.0.0.1:")]
        assert sum(int(server[1]) for server in servers) == 10
        assert len({len(line) for line in lines if line.startswith("redis://127.0.0.1:")}) <= 2, "columns are ragged"
    finally:
        await layer.close()


async def test_json_has_every_field_and_comes_again_with_watch(config: dict[str, Any]) -> None:
    layer = await with_traffic(config)
    try:
        shown = await ask("--json", CHANNEL_LAYERS_CONFIG=json.dumps(config))
        found = json.loads(shown.stdout)
        assert set(found) == {"total", "channels", "processes", "shards", "counted"}
        assert found["counted"] is True
        assert found["total"]["messages_count"] == 15
        assert found["channels"]["orders"]["messages_pending"] == 10
        assert found["processes"][0]["process"] == layer.process
        assert [shard["position"] for shard in found["shards"]] == [0, 1]
        watching = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "trunkline", "stats", "--json", "--watch", "0.2",
            env={**os.environ, "CHANNEL_LAYERS_CONFIG": json.dumps(config)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert watching.stdout is not None
            for _ in range(3):
                line = await within(watching.stdout.readline(), DEADLINE_S)
                assert json.loads(line)["total"]["messages_count"] == 15
        finally:
            watching.terminate()
            await watching.wait()
    finally:
        await layer.close()


async def test_where_nothing_was_counted_it_says_so_and_writes_nothing(redis_server: RedisServer) -> None:
    shown = await ask(REDIS_URL=redis_server.url)
    assert shown.returncode == 0
    assert "Nothing was counted under the prefix 'trunkline' yet" in shown.stdout
    assert f"redis://127.0.0.1:{redis_server.port}/0" in shown.stdout
    with redis_server.client() as client:
        assert client.dbsize() == 0


async def test_no_server_no_secret_and_an_end_within_a_bounded_time() -> None:
    begun = time.monotonic()
    shown = await ask(REDIS_URL=f"redis://:geheim@127.0.0.1:{free_port()}/0")
    assert time.monotonic() - begun < 30
    assert (shown.returncode, shown.stdout) == (1, "")
    [line] = shown.stderr.splitlines()
    assert line.startswith("trunkline: No statistics: ")
    assert "geheim" not in line


async def test_a_server_that_hangs_is_not_waited_for_for_ever(redis_server: RedisServer) -> None:
    redis_server.pause()
    try:
        shown = await ask(REDIS_URL=redis_server.url)
    finally:
        redis_server.resume()
    assert shown.returncode == 1
    assert len(shown.stderr.splitlines()) == 1


async def test_with_another_package_s_layer_one_sentence_says_what_is_needed(redis_server: RedisServer) -> None:
    shown = await ask(
        CHANNEL_LAYERS_BACKEND="channels_redis.core.RedisChannelLayer",
        CHANNEL_LAYERS_CONFIG=json.dumps({"hosts": [redis_server.url]}),
    )
    assert (shown.returncode, shown.stdout) == (1, "")
    assert len(shown.stderr.splitlines()) == 1
    assert "trunkline.RedisChannelLayer" in shown.stderr


async def test_without_a_server_it_shows_what_waits_on_the_machine(tmp_path: Path) -> None:
    from trunkline import IPCChannelLayer

    layer = IPCChannelLayer(directory=str(tmp_path / "ipc"))
    try:
        for number in range(4):
            await layer.send("orders", numbered(number))
        shown = await ask(CHANNEL_LAYERS_BACKEND="trunkline.IPCChannelLayer", TRUNKLINE_IPC_DIR=str(tmp_path / "ipc"))
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "each process counts for itself" in shown.stdout
        [orders] = [cells(line) for line in shown.stdout.splitlines() if line.startswith("orders")]
        assert orders[4] == "4"
    finally:
        await layer.close()


async def test_a_wrong_interval_is_a_usage_error() -> None:
    shown = await ask("--watch", "0")
    assert shown.returncode == 2
    assert "a number of seconds from 0.2 to 86400" in shown.stderr
