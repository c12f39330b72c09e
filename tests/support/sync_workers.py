"""What other processes do in the tests of send_sync and group_send_sync; see support.processes."""

from __future__ import annotations

import os
import threading
from typing import Any

from trunkline.conformance.api import build_layer
from trunkline.conformance.child import Link

layers: list[Any] = []  # as Channels keeps them, until the process ends


def _build(path: str, config: dict[str, Any]) -> Any:
    layers.append(build_layer(path, config))
    return layers[-1]


def prefork(link: Link, path: str, config: dict[str, Any], channel: str, forks: int, sends: int) -> list[int]:
    """As Celery does: use the layer, fork, and send from the children; returns their exit codes."""
    layer = _build(path, config)
    for number in range(sends):
        layer.send_sync(channel, {"client": "parent", "number": number})
    children = []
    for fork in range(forks):
        child = os.fork()
        if child == 0:
            try:
                for number in range(sends):
                    layer.send_sync(channel, {"client": f"child-{fork}", "number": number})
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    for number in range(sends, 2 * sends):
        layer.send_sync(channel, {"client": "parent", "number": number})
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def command(link: Link, path: str, config: dict[str, Any], channel: str, group: str, sends: int) -> None:
    """As a management command does: send, and end at once; its last thread isn't even joined."""
    layer = _build(path, config)

    def some(client: str) -> None:
        for number in range(sends):
            layer.send_sync(channel, {"client": client, "number": number})
            layer.group_send_sync(group, {"client": client, "number": number})

    some("main")
    threading.Thread(target=some, args=("thread",)).start()
