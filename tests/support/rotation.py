"""A writer and a reader, a process each, whose layers are replaced under traffic by ones with other keys."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from trunkline.conformance.api import build_layer
from trunkline.conformance.child import Link

QUEUE, GROUP = "orders", "room"


async def write(link: Link, path: str, config: dict[str, Any]) -> None:
    """Send numbered messages to the queue, to the group and to one more channel.

    A line heard holds ``keys`` for a new layer, the channel ``to`` send to from now on, or neither: stop. Each is
    answered with how many messages were sent so far, by where to.
    """
    layer: Any = None
    to = ""
    sent: Counter[str] = Counter()
    lines = await link.lines()
    hearing = asyncio.create_task(lines.readline())
    while True:
        if hearing.done() or layer is None:
            order = json.loads(await hearing)
            hearing = asyncio.create_task(lines.readline())
            to = order.get("to", to)
            if "to" not in order and layer is not None:
                await layer.close()
            if "keys" in order:
                layer = build_layer(path, {**config, "symmetric_encryption_keys": order["keys"]})
            link.tell(sent)
            if not order:
                hearing.cancel()
                return
        for where in filter(None, (QUEUE, to)):
            await layer.send(where, {"type": "test.numbered", "client": "writer", "number": sent[where], "by": where})
            sent[where] += 1
        await layer.group_send(GROUP, {"type": "test.numbered", "client": "writer", "number": sent[GROUP], "by": GROUP})
        sent[GROUP] += 1
        await asyncio.sleep(0.002)


async def read(link: Link, path: str, config: dict[str, Any]) -> dict[str, Any]:
    """Receive everything; at the end return it by where it was received, and what the layers counted.

    A line heard holds ``keys`` for one more layer, which joins the group and whose channel is told; the channel of
    the layer to ``retire``; or neither: then it is told how many messages there are and the highest group message, by
    where they were received.
    """
    received: dict[str, list[Any]] = {QUEUE: []}
    layers: dict[str, tuple[Any, list[asyncio.Task[None]]]] = {}
    counted: Counter[str] = Counter()

    async def drain(layer: Any, channel: str) -> None:
        while True:
            received[channel].append(await layer.receive(channel))

    async def retire(own: str) -> None:
        layer, tasks = layers.pop(own)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        counted.update({name: count for name, count in vars(layer.counters).items() if isinstance(count, int)})
        await layer.close()

    lines = await link.lines()
    while line := await lines.readline():
        order = json.loads(line)
        if "keys" in order:
            layer: Any = build_layer(path, {**config, "symmetric_encryption_keys": order["keys"]})
            own = await layer.new_channel()
            received[own] = []
            layers[own] = layer, [asyncio.create_task(drain(layer, name)) for name in (own, QUEUE, QUEUE)]
            await layer.group_add(GROUP, own)
            link.tell(own)
        elif "retire" in order:
            await retire(order["retire"])
            link.tell(None)
        else:
            link.tell({channel: _state(messages) for channel, messages in received.items()})
    for own in list(layers):
        await retire(own)
    return {"received": received, "counted": counted}


def _state(messages: list[Any]) -> dict[str, int]:
    of_group = [message["number"] for message in messages if message["by"] == GROUP]
    return {"own": len(messages) - len(of_group), "group": max(of_group, default=-1)}
