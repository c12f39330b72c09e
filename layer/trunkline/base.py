"""The contract that every channel layer of ours keeps, and the checks that are the same for all of them.

Source: the Channels channel layer specification, and beyond it:

* Delivery is at most once. A retried send never doubles. Messages keep their order per process-specific channel,
  sender and path (direct, or one group).
* Cancelling ``receive`` loses nothing: what was not returned stays for the next receiver.
* Waiting is no error: ``receive`` waits as long as it takes, through idle hours and through outages.
* ``send`` never waits for room: it raises ``ChannelFull``. ``group_send`` never raises for a full member: it drops the
  message for that member, counts it, and warns at a limited rate.
* Capacity counts the unread messages of one full channel name, expired ones excepted.
* Any event loop, any thread and any forked process may use the same layer object.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import secrets
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from channels.layers import BaseChannelLayer

from trunkline import errors, names
from trunkline.codec import Shared, decode, encode, encode_json, records_for
from trunkline.config import CommonOptions
from trunkline.stats import Counters, LayerStatistics, LimitedLog, Statistics, report_unreadable

logger = logging.getLogger("trunkline")


def refuse_event_loop(method: str) -> None:
    """:raises RuntimeError: in a thread that runs an event loop, which ``<method>_sync`` would block."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{method}_sync() would block the event loop that runs in this thread: await layer.{method}(...) there."
        )


@functools.lru_cache(maxsize=64)
def _warn_once(sentence: str) -> None:
    logger.warning("%s", sentence)


def _can_encrypt(common: CommonOptions) -> None:
    try:
        records_for(common.symmetric_encryption_keys, common.prefix)
    except ImportError as error:
        raise errors.ConfigurationError(
            "Option 'symmetric_encryption_keys' needs the package cryptography, which is not installed: install "
            "trunkline[encryption]."
        ) from error


class ChannelLayer(BaseChannelLayer):
    """Validation, names and attributes shared by the layers; a layer adds the transport.

    :ivar expiry: seconds after which an unread message is gone.
    :ivar group_expiry: seconds after its last ``group_add`` at which a membership ends.
    :ivar capacity: unread messages per channel where ``channel_capacity`` says nothing else.
    :ivar encode: a message to bytes; see ``trunkline.codec.encode``.
    :ivar decode: and back; see ``trunkline.codec.decode``.
    :ivar counters: what this object has counted in this process.
    """

    ChannelFull = errors.ChannelFull
    MessageTooLarge = errors.MessageTooLarge
    extensions: ClassVar[list[str]] = ["groups", "flush"]

    def __init__(self, common: CommonOptions) -> None:
        super().__init__(expiry=common.expiry, capacity=common.capacity)  # type: ignore[no-untyped-call]
        self.common = common
        self.prefix = common.prefix
        self.expiry = common.expiry
        self.group_expiry = common.group_expiry
        self.capacity = common.capacity
        self.channel_capacity = common.channel_capacity
        self.counters = Counters()
        self.encode: Callable[[object], bytes] = encode_json if common.serializer_format == "json" else encode
        self.decode: Callable[[bytes], dict[str, Any]] = decode
        self._warn = LimitedLog(logger, time.monotonic)
        self._identity = ""
        self._identity_pid = 0
        self._locals = itertools.count(1)
        _can_encrypt(common)
        for sentence in common.warnings:
            _warn_once(sentence)

    def get_capacity(self, channel: str) -> int:
        """How many unread messages ``channel`` may hold: the first matching entry of ``channel_capacity``."""
        return self.common.capacity_of(channel)

    @property
    def process(self) -> str:
        """This layer object's identity in this process: 24 hexadecimal digits, another one after a fork."""
        pid = os.getpid()
        if pid != self._identity_pid:
            if self._identity:
                self.counters.clear()  # the parent counts what the parent did
            self._identity = secrets.token_hex(names.PROCESS_ID_LENGTH // 2)
            self._identity_pid = pid
        return self._identity

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return a new channel name that only this process can receive from.

        :raises TypeError: if names cannot be built from ``prefix``.
        """
        names.check_new_channel_prefix(prefix)
        return f"{prefix}.{self.process}!{next(self._locals):x}"

    def own_address(self, channel: str) -> names.Address | None:
        """Take the name given to ``receive`` apart; ``None`` where any process may receive from it.

        :raises TypeError: if it is no channel name.
        :raises ValueError: if it belongs to another process.
        """
        names.check_channel(channel, receive=True)
        address = names.address_of(channel)
        if address is None:
            return None
        if address.process is None:
            if address.local:
                return None
            raise ValueError(
                f"No process owns {channel!r}: receive takes a full channel name, or the part up to the '!' of a "
                "name that new_channel() gave in this process."
            )
        if address.process != self.process:
            raise ValueError(
                f"Channel {channel!r} belongs to another process (or to this one before a fork): only the process "
                "whose new_channel() gave the name receives from it."
            )
        return address

    def warn_group_dropped(self, group: str, count: int) -> None:
        """Say, at a limited rate, that members of ``group`` missed a message because they were full."""
        self._warn(
            "group-dropped",
            "A message to group %r was dropped for %d member(s) whose capacity was reached.",
            group,
            count,
        )

    def _decoded(self, channel: str, body: bytes | Shared) -> dict[str, Any] | None:
        """As ``decode``; counts, logs and returns ``None`` where the body is no message."""
        try:
            return body.message(self.decode) if isinstance(body, Shared) else self.decode(body)
        except ValueError as error:
            report_unreadable(self.counters, self._warn, error, f"channel {channel!r}")
            return None

    @abstractmethod
    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send ``message`` to ``channel``.

        :raises TypeError: for an illegal name or message.
        :raises ChannelFull: if the channel holds its capacity of unread messages.
        :raises MessageTooLarge: if the encoded message is larger than the layer carries.
        :raises LayerUnavailable: if the servers have been away for longer than the retry time.
        """

    @abstractmethod
    def send_sync(self, channel: str, message: dict[str, Any]) -> None:
        """As ``send``, for a thread without an event loop: blocks until the message is sent, and raises the same.

        :raises RuntimeError: in a thread that runs an event loop.
        """

    @abstractmethod
    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message of ``channel``; cancelling it loses nothing.

        :param channel: a full name, or ``"prefix!"`` of names from this process' ``new_channel``.
        :raises TypeError: for an illegal name.
        :raises ValueError: for a name that belongs to another process.
        """

    @abstractmethod
    async def receive_named(self, prefix: str) -> tuple[str, dict[str, Any]]:
        """As ``receive("prefix!")``, and tell the full name of the channel that the message was sent to."""

    @abstractmethod
    async def group_add(self, group: str, channel: str) -> None:
        """Make ``channel`` a member of ``group`` for ``group_expiry`` seconds from now."""

    @abstractmethod
    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership; not being a member is no error."""

    @abstractmethod
    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send ``message`` to each member of ``group``; full members miss it, which is counted and warned of."""

    @abstractmethod
    def group_send_sync(self, group: str, message: dict[str, Any]) -> None:
        """As ``group_send``, for a thread without an event loop: blocks until the message is sent.

        :raises RuntimeError: in a thread that runs an event loop.
        """

    @abstractmethod
    async def global_statistics(self) -> Statistics:
        """What was counted of all channels together, as ``asgi_redis`` had it and more.

        Over Redis: of all processes, as of about a second ago. Over IPC: sent and the like of this process only.

        :raises LayerUnavailable: if no server answers.
        """

    @abstractmethod
    async def channel_statistics(self, channel: str) -> Statistics:
        """The same of one channel. Process-specific channels are counted together by their prefix.

        :param channel: a name, or ``"prefix!"``.
        :raises TypeError: for an illegal name.
        :raises LayerUnavailable: if a server doesn't answer.
        """

    @abstractmethod
    async def statistics(self) -> LayerStatistics:
        """Everything: the totals, each channel, process and server.

        :raises LayerUnavailable: if no server answers.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Remove every message and membership of this prefix, in all processes."""

    @abstractmethod
    async def close(self) -> None:
        """Give up connections and files, and hand back what was taken and not received; usable again afterwards."""
