"""What other processes do in the counted tests; each function runs in a process of its own, see support.processes."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from typing import Any

from trunkline.conformance.api import build_layer
from trunkline.conformance.child import Link


async def write(link: Link, path: str, config: dict[str, Any], client: str, channels: list[str], seconds: float) -> Any:
    """Send numbered messages to each of the channels for some seconds; return how many sends returned for each."""
    layer = build_layer(path, config)
    sent = dict.fromkeys(channels, 0)
    end = time.monotonic() + seconds

    async def fill(channel: str) -> None:
        while time.monotonic() < end:
            await layer.send(channel, {"type": "test.numbered", "client": client, "number": sent[channel]})
            sent[channel] += 1
            await asyncio.sleep(0.001)

    await asyncio.gather(*map(fill, channels))
    await layer.close()
    return sent


async def read(link: Link, path: str, config: dict[str, Any], channels: list[str], readers: int) -> Any:
    """Tell the name of a new channel, receive from it and the normal ``channels`` until told to stop; return all of it.

    On each line heard it tells how many there are so far, and which receives failed.
    """
    layer = build_layer(path, config)
    own = await layer.new_channel()
    received: dict[str, list[Any]] = {own: [], **{channel: [] for channel in channels}}

    async def drain(channel: str) -> None:
        while True:
            received[channel].append(await layer.receive(channel))

    tasks = [asyncio.create_task(drain(own))]
    tasks += [asyncio.create_task(drain(channel)) for channel in channels for _ in range(readers)]
    link.tell(own)
    lines = await link.lines()
    while await lines.readline():
        failed = [repr(task.exception()) for task in tasks if task.done()]
        link.tell({"count": sum(map(len, received.values())), "failed": failed})
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
