"""Counted: servers that load the application, use its layer, and fork: nothing is shared, leaked or warned of."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.counting import Ledger
from support.processes import Child
from support.requirements import need
from support.servers import RedisServer, free_port
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import receive_many, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
WORKERS = 3
TESTS = Path(__file__).parents[1]
# Everything that Python can warn of is an error, but for what forking itself is warned of since Python 3.12.
STRICT = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
COMPLAINTS = ("Warning", "never retrieved", "was destroyed", "Traceback", "Exception ignored", "ERROR")


@pytest.fixture
def config(redis_server: RedisServer) -> dict[str, Any]:
    return {"hosts": [redis_server.url], "prefix": uuid.uuid4().hex, "capacity": 10_000}


@pytest_asyncio.fixture
async def layer(config: dict[str, Any]) -> AsyncIterator[RedisChannelLayer]:
    layer = RedisChannelLayer(**config)
    yield layer
    await within(layer.close(), what="the end of close()")


def ids(server: RedisServer) -> set[str]:
    return {entry["id"] for entry in server.connections()}


def complaints(output: str) -> list[str]:
    return [line for line in output.splitlines() if any(sign in line for sign in COMPLAINTS)]


class Gunicorn:
    """A running gunicorn that preloaded support.preload."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
        self.process = process
        self.port = port
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def get_of_each(self, path: str, missing: Callable[[dict[int, list[Any]]], bool]) -> dict[int, list[Any]]:
        """Ask until nothing is missing in what the workers answered, by process."""
        answers: dict[int, list[Any]] = {}
        end = time.monotonic() + 40
        while missing(answers):
            assert time.monotonic() < end, f"still missing after 40 s: {answers} {self.output}"
            answer = self.get(path)
            answers.setdefault(answer["process"], []).append(answer)
        return answers


@contextmanager
def gunicorn(directory: Path, config: dict[str, Any], *options: str) -> Iterator[Gunicorn]:
    port, output = free_port(), directory / "gunicorn.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, *STRICT, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)),
                *("--bind", f"127.0.0.1:{port}", "--no-control-socket", *options, "support.preload:application"),
            ],
            cwd=TESTS,
            env={**os.environ, "PRELOAD_LAYER": LAYER, "PRELOAD_CONFIG": json.dumps(config)},
            stdout=log,
            stderr=log,
        )
    server = Gunicorn(process, port, output)
    try:
        end = time.monotonic() + 40
        while server.output.count("Booting worker") < WORKERS:
            assert process.poll() is None, server.output
            assert time.monotonic() < end, f"it did not start within 40 s: {server.output}"
            time.sleep(0.05)
        yield server
        process.terminate()
        assert process.wait(20) == 0, server.output
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["sync", "gthread"])
async def test_the_workers_of_a_preloading_gunicorn_share_nothing(
    redis_server: RedisServer, config: dict[str, Any], layer: RedisChannelLayer, tmp_path: Path, kind: str
) -> None:
    need("gunicorn", find_spec("gunicorn"), "pip install gunicorn")
    sent, received, own = 100, Ledger(), await layer.new_channel()
    await layer.send(own, {"client": "itself", "number": 0})
    await receive_many(layer, own, 1)
    with ExitStack() as stack:
        server = await asyncio.to_thread(
            stack.enter_context, gunicorn(tmp_path, config, "--worker-class", kind, "--threads", "4")
        )
        met = await asyncio.to_thread(server.get_of_each, "/", lambda answers: len(answers) < WORKERS)
        one = [answers[0] for answers in met.values()]
        identities = {answer["identity"] for answer in one} | {one[0]["parents_identity"]}
        assert len(identities) == WORKERS + 1, "a worker took over the identity of its parent"
        channels = {answer["channel"]: process for process, answer in zip(met, one, strict=True)}
        for number in range(sent):
            for channel in [*channels, one[0]["parent"]]:
                await layer.send(channel, {"client": "test", "number": number})
            await layer.group_send("everybody", {"client": "group", "number": number})
        for channel in channels:
            received.count(channel, "test", sent)
            received.count(channel, "group", sent)

        def missing(answers: dict[int, list[Any]]) -> bool:
            held = {process: sum(len(each["received"]) for each in found) for process, found in answers.items()}
            return any(held.get(process, 0) < 2 * sent for process in channels.values())

        for answers in (await asyncio.to_thread(server.get_of_each, "/drain", missing)).values():
            for answer in answers:
                received.take_all(answer["channel"], answer["received"])
        received.check()  # and nobody got what was sent to the parent

        before, most = ids(redis_server), 0
        for number in range(300):
            answer = await asyncio.to_thread(server.get, f"/send?channel={own}&number={number}")
            assert answer["channel"] in channels, "a worker was replaced"
            if number % 20 == 0:
                most = max(most, len(ids(redis_server)))
        assert most <= len(before) + 1  # a beat that connects anew
        got = await receive_many(layer, own, 300, 20)
        assert sorted(message["number"] for message in got) == list(range(300))
        await asyncio.to_thread(stack.close)
        assert complaints(server.output) == []


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_pool_of_forked_processes_keeps_a_flat_number_of_connections(
    redis_server: RedisServer, config: dict[str, Any], layer: RedisChannelLayer
) -> None:
    """As Celery's prefork pool: the parent has used the layer, children are replaced after some tasks."""
    tasks, processes, ledger = 120, 4, Ledger()
    own = await layer.new_channel()
    await layer.group_add("everybody", own)
    child = await Child.start(
        "support.prefork:run_pool",
        {"path": LAYER, "config": config, "tasks": tasks, "processes": processes, "target": own},
        environment={"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error,ignore:This process:DeprecationWarning"},
    )
    most, before = 0, len(ids(redis_server))
    try:
        assert await child.hear(30) == "used"
        await child.tell("fork")
        receiving = asyncio.ensure_future(receive_many(layer, own, 3 * tasks, 60))
        while not receiving.done():
            most = max(most, len(await asyncio.to_thread(ids, redis_server)))
            await asyncio.wait({receiving}, timeout=0.1)
        ledger.take_all(own, await receiving)
        report = await child.result()
        assert complaints(child.output) == []
    finally:
        await child.close()
    assert len({entry["identity"] for entry in report}) == len({entry["process"] for entry in report}) > processes
    assert all(entry["heard"] == [entry["process"], entry["number"]] for entry in report), "an inbox was shared"
    for client in ("direct", "group", "thread"):
        ledger.count(own, client, tasks)
    ledger.check()
    # Each of them has its heartbeat, its inbox, and what it sends with; besides those of this test.
    assert most - before <= 5 * (processes + 1) + 3, f"{most} connections"
    end = time.monotonic() + 10
    while len(ids(redis_server)) > before + 1:
        assert time.monotonic() < end, "connections are left"
        await asyncio.sleep(0.1)
