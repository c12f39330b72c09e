"""What the processes of the IPC tests do; each function runs in a process of its own."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from typing import Any

from trunkline import ChannelFull, IPCChannelLayer
from trunkline.conformance.child import Link


async def send_numbered(link: Link, config: dict[str, Any], channel: str, first: int, count: int) -> int:
    """Send the numbers in order, waiting where the channel is full; returns how many were refused on the way."""
    layer = IPCChannelLayer(**config)
    refused = 0
    for number in range(first, first + count):
        while True:
            try:
                await layer.send(channel, {"number": number})
                break
            except ChannelFull:
                refused += 1
                await asyncio.sleep(0.001)
    return refused


async def read_until_told(link: Link, config: dict[str, Any], channel: str, cancelling: bool) -> list[int]:
    """Receive until a line comes in; ``cancelling`` receives give up again and again."""
    layer = IPCChannelLayer(**config)
    numbers: list[int] = []

    async def read() -> None:
        while True:
            receiving = asyncio.ensure_future(layer.receive(channel))
            if cancelling:
                await asyncio.wait({receiving}, timeout=random.random() * 0.002)
                receiving.cancel()
                await asyncio.wait({receiving})
                if receiving.cancelled():
                    continue
            try:
                numbers.append((await receiving)["number"])
            finally:
                receiving.cancel()

    lines = await link.lines()
    reading = asyncio.ensure_future(read())
    link.tell("ready")
    while True:
        line = asyncio.ensure_future(lines.readline())
        await asyncio.wait({line, reading}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        if b"stop" in line.result():
            break
        link.tell(len(numbers))
    reading.cancel()
    await asyncio.wait({reading})
    return numbers


async def waiting(layer: IPCChannelLayer, channel: str) -> asyncio.Task[dict[str, Any]]:
    """A receiver that has come to wait. It is in no transaction: one that is stopped in it stops every other writer."""
    receiving = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0.05)
    return receiving


async def join_and_wait(link: Link, config: dict[str, Any], group: str) -> None:
    """Have a channel in a group and wait for it."""
    layer = IPCChannelLayer(**config)
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    receiving = await waiting(layer, channel)
    link.tell(channel)
    await receiving


async def wait_for_one(link: Link, config: dict[str, Any], channel: str) -> dict[str, Any]:
    layer = IPCChannelLayer(**config)
    receiving = await waiting(layer, channel)
    link.tell("waiting")
    return await receiving


def kill_writers(link: Link, config: dict[str, Any], rounds: int) -> None:
    """Again and again: fork a process that writes for all it can, kill it at a random moment, and tell."""
    layer = IPCChannelLayer(**config)
    asyncio.run(layer.send("warm", {}))
    chance = random.Random(20)
    for _ in range(rounds):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(_write_for_ever(layer, write_end))
            finally:
                os._exit(1)
        os.close(write_end)
        os.read(read_end, 1)  # it has begun
        os.close(read_end)
        time.sleep(chance.random() * 0.01)  # the random moment
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        link.tell("killed")
        link.hear()


async def _write_for_ever(layer: IPCChannelLayer, begun: int) -> None:
    name = await layer.new_channel()
    await layer.group_add("writers", name)
    number = 0
    while True:
        number += 1
        try:
            await layer.send(f"noise.{number % 50}", {"number": number, "text": "x" * (number % 5000)})
        except ChannelFull:
            pass
        await layer.group_send("writers", {"number": number})
        if number == 3:
            os.write(begun, b"x")


def use_after_fork(link: Link, config: dict[str, Any]) -> dict[str, Any]:
    """Use a layer, fork, and use it in both: the child has names of its own and hears only itself."""
    layer = IPCChannelLayer(**config)

    async def name_and_send() -> str:
        name = await layer.new_channel()
        await layer.send(name, {"from": os.getpid()})
        return name

    before = asyncio.run(name_and_send())
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:

            async def child() -> str:
                try:
                    await layer.receive(before)
                except ValueError:
                    pass
                else:
                    return "the parent's channel was read"
                name = await name_and_send()
                if (await layer.receive(name))["from"] != os.getpid():
                    return "somebody else's message"
                await layer.send("from.child", {"ok": True})
                return "fine"

            os.write(write_end, asyncio.run(child()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    said = os.read(read_end, 200).decode()
    os.waitpid(pid, 0)

    async def parent() -> list[Any]:
        return [(await layer.receive(before))["from"] == os.getpid(), await layer.receive("from.child")]

    return {"child": said, "parent": asyncio.run(parent())}


async def echo(link: Link, config: dict[str, Any], channel: str) -> None:
    """Answer each message to the channel that it names."""
    layer = IPCChannelLayer(**config)
    link.tell("ready")
    while True:
        message = await layer.receive(channel)
        if "reply" in message:
            await layer.send(message["reply"], message)


async def join_and_leave_for(link: Link, config: dict[str, Any], group: str, channel: str, count: int) -> None:
    """Again and again: make somebody's channel a member, send, take it out, send what it must not hear."""
    layer = IPCChannelLayer(**config)
    for number in range(count):
        await layer.group_add(group, channel)
        await layer.group_send(group, {"number": number})
        await layer.group_discard(group, channel)
        await layer.group_send(group, {"number": -1})
