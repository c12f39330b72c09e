"""A reader whose receives are cancelled all the time, at random moments."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.waiting import cancelled

LAST_WAIT_S = 3.0  # a message that has not come by then is lost


async def receive_under_cancellation(
    layer: ChannelLayer, channel: str, count: int, seed: int, over: Callable[[], bool]
) -> tuple[list[int], int]:
    """Receive up to ``count`` numbered messages while most receives are cancelled at a random moment.

    :param over: says whether everything has been sent; then a receive that waits :data:`LAST_WAIT_S` is the last.
    :return: the numbers in the order they came, and how many receives were cancelled.
    """
    chance = random.Random(seed)
    received: list[int] = []
    cancellations = 0
    while len(received) < count:
        task = asyncio.ensure_future(layer.receive(channel))
        kind = chance.random()
        if kind < 0.3:
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
        elif kind < 0.8:
            await asyncio.wait({task}, timeout=chance.random() * 0.004)
        else:
            finished = over()
            done, _ = await asyncio.wait({task}, timeout=LAST_WAIT_S)
            if not done and finished:
                await cancelled(task)
                break
        await cancelled(task)
        if task.cancelled():
            cancellations += 1
        else:
            received.append(task.result()["number"])
    return received, cancellations
