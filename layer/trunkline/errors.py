"""The errors that a channel layer of ours raises; each one's message names the remedy.

``ChannelFull`` and ``MessageTooLarge`` subclass the ones of Channels, so that ``except`` clauses written for any
other channel layer go on working.
"""

from __future__ import annotations

from channels.exceptions import ChannelFull as _ChannelFull
from channels.exceptions import MessageTooLarge as _MessageTooLarge

__all__ = ["ChannelFull", "ConfigurationError", "LayerUnavailable", "MessageTooLarge"]


class ConfigurationError(ValueError):
    """One sentence: which option, what was given, and what is accepted. Secrets are never part of it."""


class ChannelFull(_ChannelFull):  # type: ignore[misc]
    """The channel holds as many unread messages as its capacity allows; nothing was sent.

    :ivar channel: the full name of the channel.
    :ivar capacity: how many unread messages it may hold.
    """

    def __init__(self, channel: str, capacity: int, reason: str | None = None) -> None:
        self.channel = channel
        self.capacity = capacity
        super().__init__(
            reason
            or f"Channel {channel!r} is full: it holds its capacity of {capacity} unread messages; "
            "read faster, start more workers, or raise `capacity` or `channel_capacity`."
        )


class MessageTooLarge(_MessageTooLarge):  # type: ignore[misc]
    """The encoded message is larger than the layer carries; nothing was sent.

    :ivar size: bytes of the encoded message.
    :ivar limit: bytes that the layer accepts.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"The message has {size} bytes when encoded and at most {limit} are carried; "
            "store the data elsewhere and send a reference to it."
        )


class LayerUnavailable(ConnectionError):
    """The servers behind the layer have been away for longer than the retry time, so the send failed."""
