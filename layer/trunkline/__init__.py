"""Trunkline: a channel layer for Django Channels over Redis or one machine's memory; also a Django app.

The public names are loaded when they are first asked for, so that ``import trunkline.env`` in a settings file
costs neither redis-py nor LMDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trunkline.errors import ChannelFull, ConfigurationError, LayerUnavailable, MessageTooLarge
    from trunkline.layers.ipc import IPCChannelLayer
    from trunkline.layers.local import RedisLocalChannelLayer
    from trunkline.layers.redis import RedisChannelLayer
    from trunkline.layers.sentinel import RedisSentinelChannelLayer

__version__ = "0.1.0.dev0"

__all__ = [
    "ChannelFull",
    "ConfigurationError",
    "IPCChannelLayer",
    "LayerUnavailable",
    "MessageTooLarge",
    "RedisChannelLayer",
    "RedisLocalChannelLayer",
    "RedisSentinelChannelLayer",
    "__version__",
]

_HOME = {
    "ChannelFull": "trunkline.errors",
    "ConfigurationError": "trunkline.errors",
    "IPCChannelLayer": "trunkline.layers.ipc",
    "LayerUnavailable": "trunkline.errors",
    "MessageTooLarge": "trunkline.errors",
    "RedisChannelLayer": "trunkline.layers.redis",
    "RedisLocalChannelLayer": "trunkline.layers.local",
    "RedisSentinelChannelLayer": "trunkline.layers.sentinel",
}


def __getattr__(name: str) -> Any:
    try:
        module = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'trunkline' has no attribute {name!r}") from None
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
