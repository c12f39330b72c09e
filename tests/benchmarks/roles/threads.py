"""Group sends from a plain thread, as a Django view or a Celery task makes them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync

from benchmarks.link import Link
from benchmarks.load import Load, message
from benchmarks.roles.common import GROUP, WARM, WARM_EVERY_S, Members, Result, unless_failed
from benchmarks.tally import Counted

Send = Callable[[str, dict[str, Any]], None]


def _ways(layer: Any) -> dict[str, Send]:
    """How a thread can send to a group: as with every layer, and the layer's own method where it has one."""
    # As it is written in views: wrapped anew for each send.
    ways: dict[str, Send] = {"async_to_sync": lambda group, sent: async_to_sync(layer.group_send)(group, sent)}
    if hasattr(layer, "group_send_sync"):
        ways["own"] = layer.group_send_sync
    return ways


async def thread_sender(layer: Any, link: Link, load: Load) -> Result:
    values = {way: await sends_a_second(send, link, load) for way, send in _ways(layer).items()}
    return {"sent": load.messages * len(values), "values": values}


async def sends_a_second(send: Send, link: Link, load: Load) -> float:
    """The loop of this thread serves the link alone; another thread, without a loop, sends."""
    warm = threading.Event()
    sending = asyncio.get_running_loop().run_in_executor(None, _send_all, send, load.messages, warm)
    await unless_failed([sending], link.hear())
    warm.set()
    seconds = await sending
    await link.hear()
    return load.messages / seconds


def _send_all(send: Send, messages: int, warm: threading.Event) -> float:
    """Warm up until told to go; returns the seconds that all sends took."""
    while not warm.is_set():
        send(GROUP, message(WARM))
        warm.wait(WARM_EVERY_S)
    begun = time.perf_counter()
    for number in range(messages):
        send(GROUP, message(number))
    return time.perf_counter() - begun


async def thread_member(layer: Any, link: Link, load: Load) -> Result:
    """One member, so that it is the sending that costs."""
    members = Members(layer)
    counted = Counted()
    for _ in _ways(layer):
        await members.grow(1, load.messages)
        await members.unless_failed(members.tally.warm())
        await link.say("warm")
        await members.unless_failed(members.tally.settle())
        counted.add(members.tally)
        await link.say("done")
    return counted.result()
