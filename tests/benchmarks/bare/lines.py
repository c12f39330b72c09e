"""One connection each: commands out, replies in."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio

Command = tuple[bytes | str | int, ...]

READ_BYTES = 65_536


class Line(Protocol):
    """A connection to the server."""

    async def call(self, *commands: Command) -> Sequence[Any]:
        """Send the commands at once, and return their replies."""

    def ask(self, command: Command) -> Any:
        """The reply to one command, for a thread without an event loop."""

    async def close(self) -> None: ...


class RedisPyLine:
    """redis-py's asyncio client, as documented, and its blocking one for a thread without an event loop."""

    def __init__(self, url: str) -> None:
        # A socket timeout would end blocked reads; hiredis parses, as redis-py uses it where it is installed.
        self._options: dict[str, Any] = {
            "url": url,
            "single_connection_client": True,
            "protocol": 2,
            "socket_timeout": None,
        }
        self._client = redis.asyncio.Redis.from_url(**self._options)

    @cached_property
    def _blocking(self) -> redis.Redis:
        return redis.Redis.from_url(**self._options)

    async def call(self, *commands: Command) -> Sequence[Any]:
        if len(commands) == 1:
            return [await self._client.execute_command(*commands[0])]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute()

    def ask(self, command: Command) -> Any:
        return self._blocking.execute_command(*command)

    async def close(self) -> None:
        await self._client.aclose()
        if "_blocking" in vars(self):
            self._blocking.close()


class HiredisLine:
    """A blocking socket. Its ``call`` never awaits: the process has nothing else to do."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        assert place.port is not None, url
        self._socket = socket.create_connection((place.hostname, place.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    async def call(self, *commands: Command) -> Sequence[Any]:
        return self._ask(commands)

    def ask(self, command: Command) -> Any:
        return self._ask([command])[0]

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        # Its types call a command a tuple of one part.
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))  # type: ignore[arg-type]
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is not False:
                replies.append(reply)
                continue
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(data)
        return replies

    async def close(self) -> None:
        self._socket.close()
