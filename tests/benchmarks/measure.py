"""One measurement: a row on a layer, between two fresh processes."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.plan import Row, Target

DEADLINE_S = 60.0  # of one measurement, which takes about two seconds


@dataclass(frozen=True)
class Measurement:
    """What one pair of processes counted.

    :ivar value: in the row's unit; ``None`` when it failed.
    :ivar failure: one sentence, or empty.
    """

    sent: int
    received: int
    value: float | None
    failure: str


async def measure(row: Row, target: Target, messages: int, redis_url: str) -> Measurement:
    """Run it; a layer that fails is a measurement too, never an exception."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-", dir=memory if memory.is_dir() else None) as directory:
        job = {"backend": target.backend, "config": target.config(redis_url, directory), "messages": messages}
        ends = socket.socketpair()
        children: list[asyncio.subprocess.Process] = []
        try:
            for role, end in zip(row.roles, ends, strict=True):
                children.append(await _start({**job, "role": role, "descriptor": end.fileno()}, end))
            for end in ends:
                end.close()
            results = await asyncio.wait_for(asyncio.gather(*map(_result, children)), DEADLINE_S)
        except asyncio.TimeoutError:
            return Measurement(0, 0, None, f"not finished after {DEADLINE_S:g} s")
        except _ChildFailed as error:
            return Measurement(0, 0, None, str(error))
        finally:
            for end in ends:
                end.close()
            for child in children:
                if child.returncode is None:
                    child.kill()
                await child.wait()
    return judge(row, results)


class _ChildFailed(Exception):
    """A process ended without a result; the message is the last line that it wrote."""


async def _start(job: dict[str, Any], end: socket.socket) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
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
    if child.returncode or not output:
        lines = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise _ChildFailed(f"a process ended with {child.returncode}: {lines[-1]}")
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def judge(row: Row, results: list[dict[str, Any]]) -> Measurement:
    """Turn the two processes' counts into a value; whatever was lost or doubled makes it a failure."""

    def total(name: str) -> int:
        return sum(int(result.get(name, 0)) for result in results)

    sent, received = total("sent"), total("received")
    lost, doubled = total("lost"), total("doubled")
    if lost or doubled or sent != received:
        return Measurement(
            sent, received, None, f"sent {sent:,}, received {received:,}: {lost:,} lost, {doubled:,} doubled"
        )
    if row.better == "less":
        return Measurement(sent, received, results[0]["median_s"] * 1e6, "")
    elapsed = max(result.get("last", 0.0) for result in results) - results[0]["first"]
    return Measurement(sent, received, received / elapsed, "")
