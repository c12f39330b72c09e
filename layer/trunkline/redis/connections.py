"""The one place that drives redis-py: a connection that sends a pipeline and reads its replies.

redis-py connects, authenticates and negotiates TLS; it is told to keep its own retries, timeouts, health checks and
notifications to itself, because they end blocked reads. From then on the transport is ours: hiredis packs commands and
parses replies, without redis-py's layers between, which cost more than the commands themselves. All errors become one
of the four below at this boundary.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from trunkline.config import Endpoint
from trunkline.redis.endpoints import Target
from trunkline.redis.replies import Arg, Replies, ServerAway

CONNECT_TIMEOUT = 3.0  # seconds; a server that takes longer is treated as away, and tried again

GREETING_TIMEOUT = 2 * CONNECT_TIMEOUT  # seconds, connecting and authenticating together
ROLE_PATIENCE = 3.0  # seconds until a new connection must have told whether it leads to a primary
SUSPICIOUS = 0.5  # seconds; a shorter silence leaves no time for a failover, which takes a second at the least

_wires: weakref.WeakSet[Wire] = weakref.WeakSet()


def _drop_inherited() -> None:
    """After a fork, the child lets go of the parent's sockets without a byte to the server.

    Closing the transports would take them out of an epoll set that the child shares with its parent; so each
    descriptor is pointed at /dev/null instead.
    """
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for wire in list(_wires):
            wire.forget(null)
        _wires.clear()
    finally:
        os.close(null)


os.register_at_fork(after_in_child=_drop_inherited)


def _make(endpoint: Endpoint) -> AbstractConnection:
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT}
    options.update(endpoint.options)
    options.update(
        db=endpoint.db,
        username=endpoint.username,
        password=endpoint.password,
        protocol=2,
        socket_timeout=None,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
    )
    if endpoint.transport == "unix":
        return UnixDomainSocketConnection(path=endpoint.path, **options)
    options.update(host=endpoint.host, port=endpoint.port)
    return SSLConnection(**options) if endpoint.transport == "tls" else Connection(**options)


class _Patience:
    """Calls ``end`` when for so many seconds nothing moved in either direction: a slow way is no broken one."""

    def __init__(
        self, seconds: float, replies: Replies, transport: asyncio.WriteTransport, end: Callable[[], None]
    ) -> None:
        self._seconds, self._replies, self._transport, self._end = seconds, replies, transport, end
        self._unsent = -1  # unknown: what is being written now counts as movement
        replies.progress = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._look)

    def cancel(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if not self._replies.progress and unsent and (self._unsent < 0 or unsent < self._unsent):
            self._replies.progress = True
        if not self._replies.progress:
            self._end()
            return
        self._replies.progress, self._unsent = False, unsent
        self._timer = self._loop.call_later(self._seconds, self._look)


class Wire:
    """One connection to one server, used by one task at a time; it connects when it is first used."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._endpoint: Endpoint | None = None
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._replies: Replies | None = None
        self._socket: Any = None  # as the transport gives it away: its fileno() is -1 once it is closed
        _wires.add(self)

    def __repr__(self) -> str:
        return f"<Wire {self.target.label} {'connected' if self.connected else 'closed'}>"

    @property
    def connected(self) -> bool:
        return self._replies is not None and self._replies.lost is None

    def forget(self, null: int) -> None:
        """Point the descriptor at ``null``, in a forked child; the wire is never used again."""
        if self._socket is not None and (descriptor := self._socket.fileno()) >= 0:
            os.dup2(null, descriptor)

    async def connect(self) -> None:
        """:raises ServerAway: if the server can't be found or reached, refuses us, or is a replica."""
        await self.close()
        self._loop = asyncio.get_running_loop()
        endpoint = await self.target.find(self)
        if self._connection is None or endpoint != self._endpoint:
            self._endpoint, self._connection = endpoint, _make(endpoint)
        try:
            await self._open(self._connection)
            if self.target.guarded:
                await self._make_sure()
        except ServerAway:
            self.target.failed(endpoint)
            raise

    async def _open(self, connection: AbstractConnection) -> None:
        # The greeting that redis-py sends has no deadline of its own: a stopped server would hold us for ever. It is a
        # task of its own, because asyncio.wait_for loses a cancellation that comes just when we are connected.
        connecting = self._connecting = asyncio.ensure_future(connection.connect())  # type: ignore[no-untyped-call]
        try:
            await asyncio.wait({connecting}, timeout=GREETING_TIMEOUT)
        except BaseException:
            connecting.cancel()
            connecting.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._abort()
            raise
        finally:
            self._connecting = None
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting})
        # A connection that is cut at the wrong byte fails inside redis-py in many ways.
        error = None if connecting.cancelled() else connecting.exception()
        writer = connection._writer
        reader = connection._reader
        ended = writer is None or reader is None or writer.transport.is_closing() or reader.at_eof()
        if connecting.cancelled() or error is not None or ended or writer is None:
            await self.close()
            reason = str(error or "") or (type(error).__name__ if error else f"no greeting in {GREETING_TIMEOUT:g} s")
            raise ServerAway(f"{self.target.label}: {reason}") from error
        self._socket = writer.get_extra_info("socket")
        self._transport, self._replies = writer.transport, Replies()
        writer.transport.set_protocol(self._replies)

    async def _make_sure(self) -> None:
        (role,) = await self.call([[b"ROLE"]], ROLE_PATIENCE)
        if isinstance(role, Exception) or role[0] != b"master":
            await self.close()
            what = str(role) if isinstance(role, Exception) else f"{self._endpoint!r} is no primary now"
            raise ServerAway(f"{self.target.label}: {what}")

    def leave(self, endpoint: Endpoint) -> None:
        """See ``Follower``."""
        if (loop := self._loop) is not None:
            try:
                loop.call_soon_threadsafe(self._leave, endpoint)
            except RuntimeError:  # its event loop was closed without a word
                pass

    def _leave(self, endpoint: Endpoint) -> None:
        if self._endpoint != endpoint:
            if self._connecting is not None:
                self._connecting.cancel()
            self._abort()

    async def call(self, commands: Sequence[Sequence[Arg]], patience: float, *, blocking: float = 0.0) -> list[Any]:
        """Send ``commands`` at once and return their replies in order.

        An error reply is returned in its place as ``NotNow``, ``UnknownScript`` or ``Refused``.

        :param patience: seconds to wait while nothing moves in either direction.
        :param blocking: seconds of these that the server itself may wait.
        :raises ServerAway: if the connection breaks or patience ends, or another server has taken this one's place;
            it is then closed.
        """
        replies, transport = self._replies, self._transport
        if replies is None or transport is None or replies.lost is not None:
            raise ServerAway(f"{self.target.label}: {(replies and replies.lost) or 'not connected'}")
        began = time.monotonic()
        late = _Patience(patience, replies, transport, self._abort)
        try:
            complete = replies.expect(len(commands))
            transport.write(b"".join([hiredis.pack_command(tuple(command)) for command in commands]))  # type: ignore[arg-type]
            answers = await complete
            if self.target.guarded:
                late.cancel()
                assert self._endpoint is not None
                await self.target.certain(self._endpoint, time.monotonic() - began > blocking + SUSPICIOUS)
            if replies.demoted:
                self._abort()
                self._failed()
            return answers
        except Exception as error:
            await self.close()
            self._failed()
            raise ServerAway(f"{self.target.label}: {error or type(error).__name__}") from error
        except BaseException:  # cancelled in the middle: the replies that are still to come must not be misread
            self._abort()
            raise
        finally:
            late.cancel()

    def _failed(self) -> None:
        if self._endpoint is not None:
            self.target.failed(self._endpoint)

    def _abort(self) -> None:
        writer = self._connection and self._connection._writer
        try:
            if self._replies is not None:
                self._replies.connection_lost(TimeoutError("no answer in time"))
            if writer:
                writer.transport.abort()
        except RuntimeError:  # its event loop was closed without a word
            pass

    def abandon(self) -> None:
        """Close the connection without its event loop, which is closed, and without warnings of what is left over."""
        raw = getattr(self._socket, "_sock", None)
        if raw is not None:
            raw.close()
        _forget_transport(self._transport)
        if self._connection is not None:
            self._connection._reader = self._connection._writer = None
        self._transport = self._replies = self._socket = None

    async def close(self) -> None:
        """Close the connection; it can be connected again."""
        self._transport = self._replies = None
        if self._connection is None:
            return
        try:
            await self._connection.disconnect(nowait=True)
        except Exception:  # a connection that fails to close is closed all the same
            pass


def _forget_transport(transport: asyncio.WriteTransport | None) -> None:
    """Count a transport of a closed event loop, which can't be closed any more, as closed: its end warns of nothing."""
    under_tls = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    for each in (transport, under_tls):
        for name, value in (("_closing", True), ("_closed", True), ("_sock", None)):
            if hasattr(each, name):
                setattr(each, name, value)
