"""A normal channel from one process to another."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from benchmarks.link import Link
from benchmarks.load import QUEUE_RECEIVERS, Load, message
from benchmarks.roles.common import WARM, Result, in_flight, read, repeat_until, unless_failed
from benchmarks.tally import Tally

QUEUE = "bench-queue"


async def queue_sender(layer: Any, link: Link, load: Load) -> Result:
    await repeat_until(link.hear(), lambda: layer.send(QUEUE, message(WARM)))
    sent = 0

    async def send(number: int) -> None:
        nonlocal sent
        await layer.send(QUEUE, message(number))
        sent += 1

    first = time.monotonic()
    await in_flight(partial(send, number) for number in range(load.messages))
    await link.hear()  # a process's messages may go with it, so it stays until they have been read
    return {"sent": sent, "first": first}


async def queue_receiver(layer: Any, link: Link, load: Load) -> Result:
    tally = Tally(1, load.messages)
    readers = [asyncio.ensure_future(read(layer, QUEUE, tally, 0)) for _ in range(QUEUE_RECEIVERS)]
    await unless_failed(readers, tally.warm())
    await link.say("warm")
    await unless_failed(readers, tally.settle())
    await link.say("done")
    return tally.result()
