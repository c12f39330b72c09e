"""What the tests take a channel layer to be, and how one is made from a dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

Message = dict[str, Any]


class ChannelLayer(Protocol):
    """The methods of Channels' channel layer specification that every test may use."""

    async def send(self, channel: str, message: Message) -> None: ...

    async def receive(self, channel: str) -> Message: ...

    async def new_channel(self, prefix: str = ...) -> str: ...

    async def group_add(self, group: str, channel: str) -> None: ...

    async def group_discard(self, group: str, channel: str) -> None: ...

    async def group_send(self, group: str, message: Message) -> None: ...

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


def build_layer(path: str, config: Mapping[str, Any]) -> ChannelLayer:
    """Make the layer as Channels does: the class at ``path``, called with ``config`` as keyword arguments."""
    module, _, name = path.rpartition(".")
    return cast(ChannelLayer, getattr(import_module(module), name)(**config))


async def close_layer(layer: ChannelLayer) -> None:
    """Close a layer that can be closed; a test for close() itself is part of the contract."""
    if hasattr(type(layer), "close"):  # of the class: some layers answer for a missing attribute only inside a loop
        await layer.close()
