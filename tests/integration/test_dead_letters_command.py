"""`trunkline dead-letters` as a real process, on two servers."""

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
    return {
        "hosts": [server.url for server in shared_redis[:2]],
        "prefix": uuid.uuid4().hex,
        "expiry": 1,
        "symmetric_encryption_keys": ["the first key of this test, long enough"],
    }


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trunkline", "dead-letters", *arguments],
        env={**os.environ, **environ}, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip


async def ask(config: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(command, *arguments, CHANNEL_LAYERS_CONFIG=json.dumps(config))


async def fail(layer: RedisChannelLayer, channel: str, count: int) -> None:
    """Make ``count`` dead letters of a channel."""
    for number in range(count):
        await layer.send(channel, {**numbered(number), "password": "geheim", "blob": b"\x00" * 100_000})
    for _ in range(count):
        delivery = await within(layer.receive_reliably(channel))
        await delivery.failed(f"ValueError: {delivery.message['number']} is\n\x1b[31mno number", again=False)


async def test_letters_are_listed_shown_requeued_and_dropped(config: dict[str, Any]) -> None:
    layer = RedisChannelLayer(**config)
    try:
        empty = await ask(config, "list")
        assert (empty.returncode, empty.stdout, empty.stderr) == (0, "There are no dead letters.\n", "")
        await fail(layer, "jobs", 4)
        await fail(layer, "mail", 1)

        table = await ask(config, "list")
        head, *lines = table.stdout.splitlines()
        assert table.returncode == 0
        assert head.split() == ["ID", "CHANNEL", "DELIVERIES", "FIRST", "LAST", "REASON"]
        assert [line.split()[1] for line in lines] == ["jobs"] * 4 + ["mail"]
        assert all(r"is\n\x1b[31mno number" in line and len(line) < 180 for line in lines)
        assert "geheim" not in table.stdout

        listed = json.loads((await ask(config, "list", "--json", "--channel", "jobs")).stdout)
        assert {line.split()[0] for line in lines if "mail" not in line} == {letter["id"] for letter in listed}
        assert {letter["id"].partition(".")[0] for letter in listed} > {listed[0]["id"].partition(".")[0]}  # 2 servers
        assert {letter["deliveries"] for letter in listed} == {1}

        first, second, *_ = (letter["id"] for letter in listed)
        shown = await ask(config, "show", first)
        assert shown.returncode == 0
        assert f"id: {first}\nchannel: jobs\ndeliveries: 1\n" in shown.stdout
        assert '"password": "geheim"' in shown.stdout
        assert "100000 bytes: 00 00" in shown.stdout
        assert len(shown.stdout) < 2000
        other_key = {**config, "symmetric_encryption_keys": ["another key, which is long enough as well"]}
        sealed = await ask(other_key, "show", first)
        assert (sealed.returncode, sealed.stdout.splitlines()[-1]) == (0, "message: can't be read")

        requeued = await ask(config, "requeue", first, "0.1-1")
        assert requeued.returncode == 1
        assert requeued.stdout == "1 dead letter requeued.\n"
        assert requeued.stderr == "trunkline: There is no dead letter 0.1-1 (any more).\n"
        time.sleep(1.2)  # noqa: ASYNC251 - longer than the expiry
        again = await within(layer.receive_reliably("jobs"), 10)
        assert again.deliveries == 1
        await again.done()

        assert json.loads((await ask(config, "drop", second, "--json")).stdout) == {"dropped": [second], "missing": []}
        assert (await ask(config, "drop", "--all", "--channel", "jobs")).stdout == "2 dead letters dropped.\n"
        left = await ask(config, "show", "--all", "--json")
        assert [(letter["channel"], letter["message"]["number"]) for letter in json.loads(left.stdout)] == [("mail", 0)]
        assert (await ask(config, "requeue", "--all")).stdout == "1 dead letter requeued.\n"
        assert (await within(layer.receive_reliably("mail"), 10)).message["number"] == 0
    finally:
        await layer.close()


async def test_what_cannot_be_done_is_one_sentence(config: dict[str, Any], tmp_path: Path) -> None:
    environments = [
        (
            {"CHANNEL_LAYERS_CONFIG": json.dumps({**config, "hosts": [f"redis://127.0.0.1:{free_port()}"]})},
            "Connect call failed",
        ),
        (
            {"CHANNEL_LAYERS_BACKEND": "trunkline.IPCChannelLayer", "TRUNKLINE_IPC_DIR": str(tmp_path)},
            "trunkline.IPCChannelLayer; this command needs a layer that can deliver at least once",
        ),
        ({"CHANNEL_LAYERS_BACKEND": "nothing.of.TheKind"}, "can't be loaded"),
    ]
    for environ, sentence in environments:
        ended = await asyncio.to_thread(command, "list", **environ)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith("trunkline: ")
        assert sentence in ended.stderr
        assert ended.stderr.count("\n") == 1
    wrong = await ask(config, "drop", "nonsense")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "'nonsense' is no id of a dead letter" in wrong.stderr
