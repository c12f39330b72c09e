"""One measurement: a row on a layer, between two fresh processes."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.plan import Row
from benchmarks.targets import Target

DEADLINE_S = 180.0  # of one measurement; the longest takes about ten seconds where nothing else runs


@dataclass(frozen=True)
class Measurement:
    """What one pair of processes counted.

    :ivar values: by the keys of the row's tables; empty when it failed.
    :ivar failure: one sentence, or empty.
    :ivar seconds: that the whole measurement took.
    """

    sent: int
    received: int
    values: Mapping[str, float]
    failure: str
    seconds: float = 0.0


Tool = Callable[[str], list[str]]  # what to run a role's process under: the beginning of its command


async def measure(
    row: Row, target: Target, load: Load, tool: Tool | None = None, deadline: float = DEADLINE_S
) -> Measurement:
    """Run it; a layer that fails is a measurement too, never an exception.

    :param deadline: seconds.
    """
    begun = time.monotonic()
    return replace(await _measure(row, target, load, tool, deadline), seconds=round(time.monotonic() - begun, 3))


async def _measure(row: Row, target: Target, load: Load, tool: Tool | None, deadline: float) -> Measurement:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-", dir=memory if memory.is_dir() else None) as directory:
        config = target.config(load.redis_url, directory)
        if not target.on_redis:
            load = replace(load, redis_url="")
        job = {"backend": target.backend, "config": config, "load": asdict(load)}
        ends = socket.socketpair()
        children: list[asyncio.subprocess.Process] = []
        try:
            for role, end in zip(row.roles_of(target), ends, strict=True):
                before = tool(role) if tool else []
                children.append(await _start(before, {**job, "role": role, "descriptor": end.fileno()}, end))
            for end in ends:
                end.close()
            results = await asyncio.wait_for(asyncio.gather(*map(_result, children)), deadline)
        except asyncio.TimeoutError:
            return Measurement(0, 0, {}, f"not finished after {deadline:g} s")
        except _ChildFailed as error:
            return Measurement(0, 0, {}, str(error))
        finally:
            for end in ends:
                end.close()
            for child in children:
                if child.returncode is None:
                    child.kill()
                await child.wait()
    return judge(results)


class _ChildFailed(Exception):
    """A process ended without a result; the message is the last line that it wrote."""


async def _start(before: list[str], job: dict[str, Any], end: socket.socket) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *before,
        sys.executable,
        "-m",
        "benchmarks.child",
        json.dumps(job),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(end.fileno(),),
        cwd=Path(__file__).resolve().parents[1],
    )


async def _result(child: asyncio.subprocess.Process) -> dict[str, Any]:
    output, errors = await child.communicate()
    told = [line for line in output.splitlines() if line.startswith(b"{")]  # a tool may write there, too
    if child.returncode or not told:
        lines = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise _ChildFailed(f"a process ended with {child.returncode}: {lines[-1]}")
    result: dict[str, Any] = json.loads(told[-1])
    return result


def judge(results: list[dict[str, Any]]) -> Measurement:
    """Turn the two processes' counts into values; whatever was lost or doubled makes it a failure."""

    def total(name: str) -> int:
        return sum(int(result.get(name, 0)) for result in results)

    sent, received = total("sent"), total("received")
    lost, doubled = total("lost"), total("doubled")
    if lost or doubled or sent != received:
        return Measurement(
            sent, received, {}, f"sent {sent:,}, received {received:,}: {lost:,} lost, {doubled:,} doubled"
        )
    values = {key: value for result in results for key, value in result.get("values", {}).items()}
    if "first" in results[0]:
        elapsed = max(result.get("last", 0.0) for result in results) - results[0]["first"]
        values["rate"] = received / elapsed
    return Measurement(sent, received, values, "")
