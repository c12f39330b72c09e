"""The line between the two processes of one measurement, beside the layer that is measured."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any


class Link:
    """JSON lines over a socket pair; either end's death is seen at once by the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def on(cls, descriptor: int) -> Link:
        return cls(*await asyncio.open_connection(sock=socket.socket(fileno=descriptor), limit=1 << 20))

    async def say(self, word: Any) -> None:
        self._writer.write(json.dumps(word).encode() + b"\n")
        await self._writer.drain()

    async def hear(self) -> Any:
        """:raises ConnectionError: when the other process has ended."""
        line = await self._reader.readline()
        if not line:
            raise ConnectionError("the other process ended")
        return json.loads(line)
