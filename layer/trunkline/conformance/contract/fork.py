"""Preloading servers use the layer, fork, and use it on in parent and child: the two must share nothing."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from collections.abc import Mapping
from typing import Any

import pytest

from trunkline.conformance.api import ChannelLayer, build_layer
from trunkline.conformance.child import Link
from trunkline.conformance.contract.base import Contract, requires
from trunkline.conformance.peers import pack, unpack
from trunkline.conformance.processes import Child
from trunkline.conformance.waiting import numbered, numbers, receive, receive_many

MESSAGES = 200


async def _talk_to_itself(layer: ChannelLayer, name: str, offset: int) -> list[int]:
    """Send numbered messages to an own channel and receive them at the same time."""

    async def write() -> None:
        for number in range(MESSAGES):
            await layer.send(name, numbered(offset + number))

    writing = asyncio.ensure_future(write())
    received = numbers(await receive_many(layer, name, MESSAGES, 15))
    await writing
    return received


async def _before(layer: ChannelLayer, group: str) -> str:
    name = await layer.new_channel()
    await layer.group_add(group, name)
    await layer.send(name, numbered(-1))
    await receive(layer, name)
    await layer.send(name, numbered(-2))  # left unread across the fork
    return name


async def _in_the_fork(layer: ChannelLayer, parents_name: str, group: str) -> dict[str, Any]:
    name = await layer.new_channel()
    await layer.send(parents_name, numbered(-3))
    await layer.group_add(group, name)
    received = await _talk_to_itself(layer, name, 1000)
    return {"name": name, "received": received}


async def _in_the_parent(layer: ChannelLayer, name: str) -> dict[str, Any]:
    inherited = await receive(layer, name)
    own = await layer.new_channel()
    received = await _talk_to_itself(layer, own, 2000)
    from_the_fork = await receive(layer, name)
    return {"inherited": inherited["number"], "received": received, "from_the_fork": from_the_fork["number"]}


def use_fork_use(link: Link, path: str, config: str, group: str) -> None:
    """In another process: use a layer, fork, and use it on on both sides at once."""
    layer = build_layer(path, unpack(config))
    name = asyncio.run(_before(layer, group))
    read_end, write_end = os.pipe()
    fork = os.fork()
    if fork == 0:
        try:
            report: dict[str, Any] = asyncio.run(_in_the_fork(layer, name, group))
        except BaseException:
            report = {"failed": traceback.format_exc()}
        os.write(write_end, json.dumps(report).encode())
        os._exit(0)
    os.close(write_end)
    try:
        link.tell({"name": name, **asyncio.run(_in_the_parent(layer, name))})
    finally:
        with os.fdopen(read_end, "rb") as pipe:
            link.tell(json.loads(pipe.read() or b'{"failed": "the fork died"}'))
        os.waitpid(fork, 0)
    link.tell(asyncio.run(_group_after(layer, name, group)))


async def _group_after(layer: ChannelLayer, name: str, group: str) -> list[int]:
    await layer.group_send(group, numbered(-4))
    await layer.send(name, numbered(-5))
    return sorted(numbers(await receive_many(layer, name, 2)))


class Fork(Contract):
    """Forks."""

    @requires("processes", "fork", "loops")
    @pytest.mark.asyncio
    async def test_a_fork_after_use_shares_nothing_with_its_parent(
        self, channel_layer_config: tuple[str, Mapping[str, Any]], options: Any, names: Any
    ) -> None:
        child = await Child.start(
            "trunkline.conformance.contract.fork:use_fork_use",
            {"path": channel_layer_config[0], "config": pack(options(capacity=5000)), "group": names.group()},
        )
        try:
            parent = await child.hear(30)
            fork = await child.hear(30)
            assert "failed" not in fork, fork.get("failed")
            assert parent["inherited"] == -2, "the message that was unread at the fork"
            assert parent["received"] == list(range(2000, 2000 + MESSAGES))
            assert parent["from_the_fork"] == -3
            assert fork["received"] == list(range(1000, 1000 + MESSAGES))
            assert parent["name"].partition("!")[0] != fork["name"].partition("!")[0], "both have one process id"
            assert await child.hear(30) == [-5, -4]
        finally:
            await child.close()
