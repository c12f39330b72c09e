"""A WSGI application that uses a channel layer where it is imported, so before a preloading server forks, and in views.

Every view answers in JSON who answered: the process, the layer's identity there, and the worker's own channel.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from asgiref.sync import async_to_sync

from trunkline.conformance.api import build_layer

layer: Any = build_layer(os.environ["PRELOAD_LAYER"], json.loads(os.environ["PRELOAD_CONFIG"]))
_making = threading.Lock()
_channels: dict[int, str] = {}
_parent = os.getpid()


async def _use() -> str:
    name: str = await layer.new_channel()
    await layer.group_add("everybody", name)
    await layer.send(name, {"client": "itself", "number": 0})
    assert await asyncio.wait_for(layer.receive(name), 20) == {"client": "itself", "number": 0}
    return name


_channels[_parent] = async_to_sync(_use)()
parents_identity = layer.process


def own_channel() -> str:
    """This worker's channel; a member of the group of all."""
    with _making:
        if os.getpid() not in _channels:
            _channels[os.getpid()] = async_to_sync(_use)()
    return _channels[os.getpid()]


def send(channel: str, number: str) -> None:
    """One message from a view, as Django's synchronous code sends."""
    async_to_sync(layer.send)(channel, {"client": str(os.getpid()), "number": int(number)})


async def drain(quiet_s: float = 0.3) -> list[Any]:
    """What the worker's channel holds."""
    found: list[Any] = []
    while True:
        receiving = asyncio.ensure_future(layer.receive(own_channel()))
        await asyncio.wait({receiving}, timeout=quiet_s)
        receiving.cancel()
        await asyncio.wait({receiving})
        if receiving.cancelled():
            return found
        found.append(receiving.result())


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/`` tells who answers, ``/send?channel=…&number=…`` sends, ``/drain`` tells what the worker's channel held."""
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    answer: dict[str, Any] = {"process": os.getpid(), "parent": _channels[_parent], "channel": own_channel()}
    answer |= {"identity": layer.process, "parents_identity": parents_identity}
    if environ["PATH_INFO"] == "/send":
        send(**query)
    elif environ["PATH_INFO"] == "/drain":
        answer["received"] = async_to_sync(drain)()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
