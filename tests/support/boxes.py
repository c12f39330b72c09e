"""What an IPC process holds for the receivers of its own channels."""

from __future__ import annotations

from trunkline.ipc.boxes import Boxes


def unread(boxes: Boxes) -> int:
    """How many group messages."""
    return sum(len(box.items or ()) for box in boxes)
