"""What a parent with a pool of forked children does with a channel layer; the run of one process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from typing import Any

from asgiref.sync import async_to_sync

from trunkline.conformance.api import build_layer
from trunkline.conformance.child import Link

_layer: Any = None
_target = ""


async def _talk_to_itself(number: int) -> Any:
    name = await _layer.new_channel()
    await _layer.send(name, {"heard": [os.getpid(), number]})
    return (await asyncio.wait_for(_layer.receive(name), 20))["heard"]


def _task(number: int) -> dict[str, Any]:
    """What a task of a queue of jobs does: sends from here and from a thread, and an exchange of its own."""
    async_to_sync(_layer.send)(_target, {"client": "direct", "number": number})
    async_to_sync(_layer.group_send)("everybody", {"client": "group", "number": number})
    thread = threading.Thread(target=lambda: asyncio.run(_layer.send(_target, {"client": "thread", "number": number})))
    thread.start()
    thread.join()
    heard = async_to_sync(_talk_to_itself)(number)
    return {"process": os.getpid(), "identity": _layer.process, "number": number, "heard": heard}


def run_pool(
    link: Link, path: str, config: dict[str, Any], tasks: int, processes: int, target: str
) -> list[dict[str, Any]]:
    """Use the layer, then run tasks in a pool of forked children, each of which ends after some of them."""
    global _layer, _target
    _layer, _target = build_layer(path, config), target
    async_to_sync(_talk_to_itself)(-1)
    link.tell("used")
    link.hear()
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=tasks // processes // 3) as pool:
        report = pool.map(_task, range(tasks), chunksize=1)
        pool.close()
        pool.join()
    async_to_sync(_talk_to_itself)(-2)
    async_to_sync(_layer.close)()
    return report
