"""One of the two processes of a measurement: plays its role once and prints what it counted as a JSON line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from benchmarks.link import Link
from benchmarks.load import Load
from benchmarks.roles import ROLES
from benchmarks.targets import build

CLOSE_S = 5.0  # for a layer to close its connections


async def play(job: dict[str, Any]) -> dict[str, Any]:
    link = await Link.on(job["descriptor"])
    layer = build(job["backend"], job["config"])
    result = await ROLES[job["role"]](layer, link, Load(**job["load"]))
    if hasattr(layer, "close"):
        await asyncio.wait_for(layer.close(), CLOSE_S)
    print(json.dumps(result), flush=True)
    # At once, without cancelling hundreds of receives: what they would still do is no part of the measurement.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(play(json.loads(sys.argv[1])))
