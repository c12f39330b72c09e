"""``IPCChannelLayer``: a channel layer between the processes of one machine, with no server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from trunkline import names
from trunkline.base import ChannelLayer
from trunkline.codec import decode
from trunkline.config import ipc_options
from trunkline.errors import ChannelFull
from trunkline.ipc.environment import StoreFull
from trunkline.ipc.participant import Participant

TURN = 0.002  # s after which a loop that only sends or receives lets others have a turn: nothing here waits otherwise


class IPCChannelLayer(ChannelLayer):
    """Messages and groups lie in an LMDB store in shared memory; FIFOs wake the receivers.

    Constructed by Channels with the ``CONFIG`` of ``CHANNEL_LAYERS``; see ``trunkline.config.ipc_options``.
    Nothing is opened before it is used.

    :raises ConfigurationError: for an option that is none, or whose value isn't accepted.
    """

    def __init__(self, **config: Any) -> None:
        self._options = ipc_options(config)
        super().__init__(self._options.common)
        self._current: Participant | None = None
        self._turned = 0.0

    def __repr__(self) -> str:
        return f"<IPCChannelLayer prefix={self.prefix!r} {self._current!r}>"

    async def new_channel(self, prefix: str = "specific") -> str:
        name = await super().new_channel(prefix)
        self._participant().register()
        return name

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        names.check_channel(channel)
        body = self.encoded(message)
        await self._turn()
        try:
            self._participant().send(channel, body)
        except ChannelFull:
            self.counters.full += 1
            raise
        except StoreFull as error:
            self.counters.full += 1
            raise ChannelFull(channel, self.get_capacity(channel), str(error)) from error
        self.counters.sent += 1

    async def receive(self, channel: str) -> dict[str, Any]:
        address = self.own_address(channel)
        await self._turn()
        if address is not None and not address.local:
            _, body = await self._participant().receive_any(address.head)
        else:
            body = await self._participant().receive(channel, address)
        return decode(body)

    async def receive_named(self, prefix: str) -> tuple[str, dict[str, Any]]:
        address = self.own_address(prefix)
        if address is None or address.local:
            raise ValueError(
                f"receive_named takes the part up to the '!' of a name that new_channel() gave, not {prefix!r}."
            )
        await self._turn()
        name, body = await self._participant().receive_any(address.head)
        return name, decode(body)

    async def group_add(self, group: str, channel: str) -> None:
        names.check_group(group)
        names.check_channel(channel)
        self._participant().group_add(group, channel, self.group_expiry)

    async def group_discard(self, group: str, channel: str) -> None:
        names.check_group(group)
        names.check_channel(channel)
        self._participant().group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        names.check_group(group)
        body = self.encoded(message)
        await self._turn()
        dropped = self._participant().group_send(group, body)
        self.counters.group_sent += 1
        if dropped:
            self.counters.group_dropped += dropped
            self.warn_group_dropped(group, dropped)

    async def flush(self) -> None:
        self._participant().flush()

    async def close(self) -> None:
        if self._current is not None:
            self._current.close()

    def _participant(self) -> Participant:
        process = self.process
        if self._current is None or self._current.identity != process:
            self._current = Participant(process, self._options, self.get_capacity, self.counters, self._warn)
        return self._current

    async def _turn(self) -> None:
        """Let other tasks run now and then, and do what is due every second."""
        now = time.monotonic()
        if now - self._turned > TURN:
            self._turned = now
            try:
                self._participant().look_around()
            except ConnectionError:  # whoever called finds out by itself
                pass
            await asyncio.sleep(0)
