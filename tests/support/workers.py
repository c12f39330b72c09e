"""What other processes do in the counted tests; each function runs in a process of its own, see support.processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from typing import Any

from trunkline import RedisChannelLayer
from trunkline.conformance.api import build_layer
from trunkline.conformance.child import Link


async def write(
    link: Link, path: str, config: dict[str, Any], client: str, channels: list[str], group: str, seconds: float
) -> Any:
    """Send numbered messages to each channel and to the group for some seconds; return how many sends returned."""
    layer = build_layer(path, config)
    sent = dict.fromkeys([*channels, group], 0)
    end = time.monotonic() + seconds

    async def fill(name: str) -> None:
        send = layer.group_send if name == group else layer.send
        who = f"{client} to all" if name == group else client
        while time.monotonic() < end:
            await send(name, {"type": "test.numbered", "client": who, "number": sent[name]})
            sent[name] += 1
            await asyncio.sleep(0.003)

    await asyncio.gather(*map(fill, sent))
    await layer.close()
    return sent


async def read(link: Link, path: str, config: dict[str, Any], channels: list[str], readers: int, group: str) -> Any:
    """Tell the name of a new member of the group, receive from it and the normal ``channels`` until told to stop.

    On each line heard it tells how many messages there are so far, and which receives failed. Returns the numbers
    received, by channel and client.
    """
    layer = build_layer(path, config)
    own = await layer.new_channel()
    await layer.group_add(group, own)
    received: dict[str, dict[str, list[int]]] = {own: {}, **{channel: {} for channel in channels}}

    async def drain(channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            received[channel].setdefault(message["client"], []).append(message["number"])

    tasks = [asyncio.create_task(drain(own))]
    tasks += [asyncio.create_task(drain(channel)) for channel in channels for _ in range(readers)]
    link.tell(own)
    lines = await link.lines()
    while await lines.readline():
        failed = [repr(task.exception()) for task in tasks if task.done()]
        count = sum(len(numbers) for clients in received.values() for numbers in clients.values())
        link.tell({"count": count, "failed": failed})
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await layer.close()
    return received


async def join_and_hold(link: Link, path: str, config: dict[str, Any], group: str) -> None:
    """Join a group with a new channel and tell what arrives there; a line heard blocks the loop for so many seconds."""
    layer = build_layer(path, config)
    name = await layer.new_channel()
    await layer.group_add(group, name)
    link.tell(name)

    async def report() -> None:
        while True:
            link.tell(await layer.receive(name))

    reporting = asyncio.create_task(report())
    lines = await link.lines()
    while line := await lines.readline():
        time.sleep(float(line))  # noqa: ASYNC251 - a loop that is blocked is what this is about
    reporting.cancel()
    await asyncio.wait({reporting})
    await layer.close()


def fork_and_end(link: Link, path: str, config: dict[str, Any]) -> None:
    """Use a layer, fork, let the fork end as programs do (finalizers and all), and use it on."""
    layer = build_layer(path, config)

    async def use(number: int) -> Any:
        name = await layer.new_channel()
        await layer.send(name, {"number": number})
        return (await asyncio.wait_for(layer.receive(name), 5))["number"]

    loop = asyncio.new_event_loop()
    link.tell(loop.run_until_complete(use(1)))
    link.hear()  # the test has looked at the server's connections
    fork = os.fork()
    if fork == 0:
        try:
            del layer, loop
            gc.collect()
            sys.exit(0)
        finally:
            gc.collect()
            os._exit(0)
    os.waitpid(fork, 0)
    link.tell(loop.run_until_complete(use(2)))
    link.hear()
    loop.run_until_complete(layer.close())
    loop.close()


async def lose_a_connection_and_fork(link: Link, path: str, config: dict[str, Any]) -> list[str]:
    """Use the layer, lose its connections, open files, fork; return which of them the child can't see any more."""
    layer = build_layer(path, config)
    for number in range(20):
        await layer.send("orders", {"type": "test.numbered", "number": number})
    link.tell("connected")
    await (await link.lines()).readline()
    await asyncio.sleep(0.2)  # the loop notices what was closed
    files = [open(os.devnull if number % 2 else __file__, "rb") for number in range(12)]  # noqa: ASYNC230, SIM115
    names = {file.fileno(): os.readlink(f"/proc/self/fd/{file.fileno()}") for file in files}
    reading, writing = os.pipe()
    if os.fork() == 0:
        wrong = [name for number, name in names.items() if os.readlink(f"/proc/self/fd/{number}") != name]
        os.write(writing, "\n".join(wrong).encode() + b"\0")
        os._exit(0)
    os.wait()  # noqa: ASYNC222
    wrong = os.read(reading, 65536).rstrip(b"\0").decode().splitlines()
    await layer.close()
    return wrong


async def hold_one(link: Link, path: str, config: dict[str, Any], channel: str) -> None:
    """Do what each line says: receive a message at least once and tell its number and count, say what became of it, or
    block the event loop for so many seconds."""
    layer = build_layer(path, config)
    assert isinstance(layer, RedisChannelLayer)
    link.tell("ready")
    delivery: Any = None
    lines = await link.lines()
    while line := await lines.readline():
        order = json.loads(line)
        if order == "receive":
            delivery = await layer.receive_reliably(channel)
            link.tell([delivery.message["number"], delivery.deliveries])
        elif order == "done":
            await delivery.done()
            link.tell("told")
        elif order == "failed":
            await delivery.failed("as told")
            link.tell("told")
        else:
            time.sleep(order)  # noqa: ASYNC251 - a loop that is blocked is what this is about
            link.tell("slept")
    await layer.close()
