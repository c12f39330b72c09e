"""A TCP proxy that fails on purpose: cut, swallowed, stalled, refused, and replayed connections.

It runs its own event loop in a thread, so that a test may block or drive several loops of its own. All public methods
may be called from any thread.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 65536  # bytes of one read
CALL_DEADLINE_S = 10.0


class Swallow:
    """One request whose reply the client never sees; made by :meth:`Proxy.swallow_reply`."""

    def __init__(self, marker: bytes) -> None:
        self.marker = marker
        self.request = b""
        self._done = threading.Event()

    def wait(self, deadline_s: float = CALL_DEADLINE_S) -> bytes:
        """Return the bytes of the request once the server has executed it and the client's connection is cut."""
        if not self._done.wait(deadline_s):
            raise AssertionError(f"no request with {self.marker!r} came by within {deadline_s:g} s")
        return self.request

    @property
    def done(self) -> bool:
        """Whether it has happened."""
        return self._done.is_set()

    def finish(self) -> None:
        self._done.set()


class _Link:
    """One client's connection with its upstream connection, and how many bytes each direction may still carry."""

    def __init__(self, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
        self.client = client
        self.upstream = upstream
        self.budget: dict[str, int | None] = {"up": None, "down": None}
        self.swallow: Swallow | None = None
        self.frozen = False
        self.over = asyncio.Event()

    def cut(self) -> None:
        """Close both sides; bytes already written still arrive."""
        self.client.close()
        self.upstream.close()
        self.over.set()


class Proxy:
    """A proxy in front of one TCP server, as a context manager.

    :param port: the server's loopback port.
    :param seed: of the random places where connections are cut.
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self._upstream_port = port
        self._random = random.Random(seed)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mean_bytes: int | None = None
        self._swallow: Swallow | None = None
        self._refusing = False
        self.connections = 0
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._flowing: asyncio.Event
        self._server: asyncio.Server
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_DEADLINE_S)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_at_random_bytes(self, mean_bytes: int | None) -> None:
        """Cut each direction of each connection after 1 to ``2 * mean_bytes`` more bytes; ``None`` ends this."""

        def change() -> None:
            self._mean_bytes = mean_bytes
            for link in self._links:
                self._ration(link)

        self._now(change)

    def cut_all(self) -> None:
        """Cut every connection now; new ones are let through."""

        def change() -> None:
            for link in list(self._links):
                self._cut(link)

        self._now(change)

    def swallow_reply(self, marker: bytes) -> Swallow:
        """Forward the next request that contains ``marker``, let it be executed, drop the reply, cut the connection."""
        swallow = Swallow(marker)

        def change() -> None:
            self._swallow = swallow

        self._now(change)
        return swallow

    def replay(self, request: bytes) -> bytes:
        """Send recorded bytes to the server on a connection of their own, and return what it answers first."""
        with socket.create_connection(("127.0.0.1", self._upstream_port), timeout=CALL_DEADLINE_S) as connection:
            connection.sendall(request)
            return connection.recv(CHUNK)

    def replay_quietly(self, request: bytes) -> None:
        """The same for requests that may block at the server: send them, give them a moment, and go."""
        with socket.create_connection(("127.0.0.1", self._upstream_port), timeout=CALL_DEADLINE_S) as connection:
            connection.sendall(request)
            connection.settimeout(0.05)
            try:
                while connection.recv(CHUNK):
                    pass
            except TimeoutError:
                pass

    def stall(self) -> None:
        """Stop forwarding without closing anything, on connections old and new."""
        self._now(self._flowing.clear)

    def flow(self) -> None:
        """Forward again what a stall held back."""
        self._now(self._flowing.set)

    def freeze(self) -> None:
        """Never forward anything again on the connections open now, without closing them; new ones work: half-open."""

        def change() -> None:
            for link in self._links:
                link.frozen = True

        self._now(change)

    def refuse(self, refusing: bool = True, *, cut: bool = True) -> None:
        """Cut what is open and close every new connection at once; ``False`` lets them through again.

        :param cut: ``False`` leaves alone what is open.
        """

        def change() -> None:
            self._refusing = refusing
            if refusing and cut:
                for link in list(self._links):
                    self._cut(link)

        self._now(change)

    # In the proxy's own loop from here on.

    async def _open(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.client.transport.abort()
            link.upstream.transport.abort()
            link.over.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy closes; raising would only be logged by the server's callback
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            return
        link = _Link(writer, up_writer)
        self._ration(link)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(link, "up", reader, up_writer)),
            asyncio.ensure_future(self._pump(link, "down", up_reader, writer)),
        ]
        try:
            await link.over.wait()
        finally:
            self._links.discard(link)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            up_writer.close()

    async def _pump(
        self, link: _Link, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if link.frozen:
                    continue
                if direction == "up":
                    self._watch_for_marker(link, data)
                elif link.swallow is not None:
                    await self._finish_swallow(link, reader)
                    return
                budget = link.budget[direction]
                if budget is not None and len(data) >= budget:
                    writer.write(data[:budget])
                    self._cut(link)
                    return
                if budget is not None:
                    link.budget[direction] = budget - len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            if link.swallow is None or direction == "down":
                link.cut()

    def _watch_for_marker(self, link: _Link, data: bytes) -> None:
        if link.swallow is not None:
            link.swallow.request += data
        elif self._swallow is not None and self._swallow.marker in data:
            link.swallow, self._swallow = self._swallow, None
            link.swallow.request = data

    async def _finish_swallow(self, link: _Link, from_upstream: asyncio.StreamReader) -> None:
        # The first bytes of a reply are here. Half-closing makes the server execute whatever else was sent and then
        # close, so its end of file says that the whole request was executed.
        assert link.swallow is not None
        link.upstream.write_eof()
        while await from_upstream.read(CHUNK):
            pass
        self._cut(link)
        link.swallow.finish()

    def _ration(self, link: _Link) -> None:
        for direction in link.budget:
            link.budget[direction] = None if self._mean_bytes is None else self._random.randint(1, 2 * self._mean_bytes)

    def _cut(self, link: _Link) -> None:
        self.cuts += 1
        link.cut()

    # From any thread.

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_DEADLINE_S)

    def _now(self, change: Callable[[], object]) -> None:
        """Run ``change`` in the proxy's loop and return when it has run."""

        async def run() -> None:
            change()

        self._call(run())
