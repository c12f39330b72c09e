"""The one place that drives redis-py: a connection that sends a pipeline and reads its replies.

redis-py connects, authenticates and negotiates TLS; it is told to keep its own retries, timeouts, health checks and
notifications to itself, because they end blocked reads. From then on the transport is ours: hiredis packs commands and
parses replies, without redis-py's layers between, which cost more than the commands themselves. All errors become one
of those in replies.py at this boundary.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from trunkline.config import Endpoint
from trunkline.redis.endpoints import Target
from trunkline.redis.replies import Arg, Done, Pushes, Replies, ServerAway

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
        connection: AbstractConnection = UnixDomainSocketConnection(path=endpoint.path, **options)
    else:
        options.update(host=endpoint.host, port=endpoint.port)
        connection = SSLConnection(**options) if endpoint.transport == "tls" else Connection(**options)
    for name in ("driver_info", "lib_name", "lib_version"):
        setattr(connection, name, None)  # no CLIENT SETINFO, for which a user would need a permission
    return connection


def _reason(error: BaseException) -> str:
    """Why a connection did not come about or broke, in few words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message}); see ssl_ca_certs and ssl_check_hostname"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or cause})"
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


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
        self._timer: asyncio.TimerHandle | None = None
        self._patience = self._due = 0.0
        self._unsent = -1
        self._settling: tuple[asyncio.Task[None], Done] | None = None
        self._lent: socket.socket | None = None
        self._socket: Any = None  # as the transport gives it away: its fileno() is -1 once it is closed
        _wires.add(self)

    def __repr__(self) -> str:
        return f"<Wire {self.target.label} {'connected' if self.connected else 'closed'}>"

    @property
    def connected(self) -> bool:
        return self._replies is not None and self._replies.lost is None

    def forget(self, null: int) -> None:
        """Point the descriptor at ``null``, in a forked child; the wire is never used again."""
        for each in (self._socket, self._lent):
            if each is not None and (descriptor := each.fileno()) >= 0:
                os.dup2(null, descriptor)

    def lend(self) -> socket.socket:
        """Another socket of this connection, which must not be encrypted. From now on nothing is read here."""
        assert self._transport is not None
        self._transport.pause_reading()  # type: ignore[attr-defined]
        self._lent = socket.socket(fileno=os.dup(self._socket.fileno()))
        return self._lent

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
            self.abort()
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
        refusal = bytes(reader._buffer) if reader is not None else b""  # type: ignore[attr-defined]
        if connecting.cancelled() or error is not None or ended or refusal or writer is None:
            late = connecting.cancelled()
            if not late and error is None and reader is not None:
                await asyncio.sleep(0.01)  # why TLS ended is told some turns later
                error = reader.exception()
            await self.close()
            if error is not None:
                reason = _reason(error)
            elif refusal:  # a server that has no place for us says so unasked
                reason = refusal.decode(errors="replace").strip().lstrip("-")
            else:
                reason = f"no greeting in {GREETING_TIMEOUT:g} s" if late else "it closed the connection at once"
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
            self.abort()

    async def call(self, commands: Sequence[Sequence[Arg]], patience: float, *, blocking: float = 0.0) -> list[Any]:
        """Send ``commands`` at once and return their replies in order.

        An error reply is returned in its place as ``NotNow``, ``UnknownScript`` or ``Refused``.

        :param patience: seconds to wait while nothing moves in either direction.
        :param blocking: seconds of these that the server itself may wait.
        :raises ServerAway: if the connection breaks or patience ends, or another server has taken this one's place;
            it is then closed.
        """
        complete: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def done(result: list[Any] | Exception) -> None:
            if complete.done():
                return
            if isinstance(result, Exception):
                complete.set_exception(result)
            else:
                complete.set_result(result)

        try:
            self.start(pack(commands), len(commands), patience, done, blocking=blocking)
            return await complete
        except ServerAway:
            await self.close()
            raise
        except BaseException:  # cancelled in the middle: the replies that are still to come must not be misread
            self.abort()
            raise

    def start(self, packed: bytes, count: int, patience: float, done: Done, *, blocking: float = 0.0) -> None:
        """As ``call``, without a task: ``done`` is called once, mostly from within the event loop's reading, with the
        replies of ``count`` commands, or with ``ServerAway``; then the connection is of no use any more.

        :raises ServerAway: if it isn't connected; ``done`` is then not called.
        """
        replies, transport = self._replies, self._transport
        if replies is None or transport is None or replies.lost is not None:
            raise ServerAway(
                f"{self.target.label}: {_reason(replies.lost) if replies and replies.lost else 'not connected'}"
            )
        loop = asyncio.get_running_loop()
        began = loop.time()

        def finish(result: list[Any] | Exception) -> None:
            if isinstance(result, Exception):
                self.abort()
                self._failed()
                done(self._away(result))
                return
            if self.target.guarded and self._is_doubtful(loop.time() - began > blocking + SUSPICIOUS):
                self._settling = loop.create_task(self._settle(result, done)), done
                return
            done(result)  # first: those behind it learn of the end after it
            if replies.demoted:
                self.abort()
                self._failed()

        replies.expect(count, finish)
        replies.progress = False
        self._unsent = -1  # unknown: what is being written now counts as movement
        self._patience = patience
        self._due = due = began + patience
        if self._timer is None or self._timer.when() > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(due, self._look)
        transport.write(packed)

    def _is_doubtful(self, late: bool) -> bool:
        assert self._endpoint is not None
        return late or self.target.doubtful(self._endpoint)

    async def _settle(self, result: list[Any], done: Done) -> None:
        """Hand out replies once it is certain that they came from the server that counts."""
        assert self._endpoint is not None
        replies = self._replies
        outcome: list[Any] | Exception = result
        try:
            await self.target.make_certain(self._endpoint)
        except Exception as error:
            outcome = self._away(error)
        self._settling = None
        if isinstance(outcome, Exception) or (replies is not None and replies.demoted):
            self.abort()
            self._failed()
        done(outcome)

    def _away(self, error: Exception) -> ServerAway:
        if isinstance(error, ServerAway):
            return error
        away = ServerAway(f"{self.target.label}: {_reason(error)}")
        away.__cause__ = error
        return away

    def _look(self) -> None:
        """End the connection when for as long as patience lasts nothing moved: a slow way is no broken one."""
        self._timer = None
        replies, transport = self._replies, self._transport
        if replies is None or transport is None or not replies.waiting:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due:
            unsent = transport.get_write_buffer_size()
            if not (replies.progress or (unsent and (self._unsent < 0 or unsent < self._unsent))):
                self.abort()
                return
            replies.progress, self._unsent = False, unsent
            self._due = loop.time() + self._patience
        self._timer = loop.call_at(self._due, self._look)

    async def listen(self, channels: Sequence[str], heard: Callable[[str, str], None], every: float) -> None:
        """Subscribe, and call ``heard`` with channel and text of each message, until the connection breaks.

        :param every: seconds; a server that says nothing for two of them is taken for dead.
        :raises ServerAway: when it did.
        """
        transport, pushes = self._transport, Pushes(heard)
        if transport is None or transport.is_closing():
            raise ServerAway(f"{self.target.label}: not connected")
        transport.set_protocol(pushes)
        transport.write(hiredis.pack_command((b"SUBSCRIBE", *channels)))  # type: ignore[arg-type]
        try:
            while not pushes.lost.done():
                pushes.progress = False
                await asyncio.wait({pushes.lost}, timeout=every)
                if not pushes.progress and not pushes.lost.done():
                    pushes.connection_lost(TimeoutError("no answer in time"))
                transport.write(hiredis.pack_command((b"PING",)))
        finally:
            transport.abort()
        raise ServerAway(f"{self.target.label}: {pushes.lost.result()}")

    def _failed(self) -> None:
        if self._endpoint is not None:
            self.target.failed(self._endpoint)

    def abort(self) -> None:
        """End the connection at once; who waits for replies learns of it."""
        writer = self._connection and self._connection._writer
        try:
            self._interrupt(TimeoutError("no answer in time"))
            if writer:
                writer.transport.abort()
        except RuntimeError:  # its event loop was closed without a word
            pass

    def _interrupt(self, reason: Exception) -> None:
        if self._replies is not None:
            self._replies.connection_lost(reason)
        settling, self._settling = self._settling, None
        if settling is not None:
            task, done = settling
            task.cancel()
            done(self._away(reason))

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
        self._interrupt(ConnectionError("the connection was closed"))
        self._transport = self._replies = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._connection is None:
            return
        try:
            await self._connection.disconnect(nowait=True)
        except Exception:  # a connection that fails to close is closed all the same
            pass


def pack(commands: Sequence[Sequence[Arg]]) -> bytes:
    """A pipeline of commands as it goes over the wire."""
    return b"".join([hiredis.pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]


def pack_arguments(arguments: Sequence[Arg]) -> bytes:
    """Words of a command as they go over the wire, without the line before them that counts them."""
    packed: bytes = hiredis.pack_command(tuple(arguments))  # type: ignore[arg-type]
    return packed[packed.index(b"\n") + 1 :]


def _forget_transport(transport: asyncio.WriteTransport | None) -> None:
    """Count a transport of a closed event loop, which can't be closed any more, as closed: its end warns of nothing."""
    under_tls = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    for each in (transport, under_tls):
        for name, value in (("_closing", True), ("_closed", True), ("_sock", None)):
            if hasattr(each, name):
                setattr(each, name, value)
