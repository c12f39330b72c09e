"""What tests see and move inside an IPC layer."""

from __future__ import annotations

import asyncio

from trunkline import IPCChannelLayer
from trunkline.ipc.boxes import Boxes


def unread(boxes: Boxes) -> int:
    """How many group messages are held for the receivers of own channels."""
    return sum(len(box.items or ()) for box in boxes)


def ring_now(layer: IPCChannelLayer) -> None:
    """Let the running loop hear its doorbell at once: receivers are woken, and have not run yet."""
    participant = layer._participant()
    assert participant._bells is not None
    doorbell = participant._bells.of(asyncio.get_running_loop())
    assert doorbell is not None
    participant._rung(doorbell)
