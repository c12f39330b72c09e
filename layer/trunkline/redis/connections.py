"""The one place that drives redis-py: a connection that sends a pipeline and reads its replies.

redis-py connects, authenticates, speaks TLS and the protocol (with hiredis); it is told to keep its own retries,
timeouts, health checks and notifications to itself, because they end blocked reads. All of its errors become one of
the three below at this boundary.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Sequence
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from trunkline.config import Endpoint

CONNECT_TIMEOUT = 3.0  # seconds; a server that takes longer is treated as away, and tried again

GREETING_TIMEOUT = 2 * CONNECT_TIMEOUT  # seconds, connecting and authenticating together

Arg = bytes | str | int


class ServerAway(Exception):
    """The connection broke, or no reply came in time: what was asked may or may not have been done."""


class NotNow(Exception):
    """The server answered that it can't at the moment (loading, read-only, out of memory): nothing was done."""


class UnknownScript(Exception):
    """The server does not have the script (it restarted, or SCRIPT FLUSH): nothing was done."""


# Error replies after which a later attempt can succeed, and which guarantee that nothing was executed.
_NOT_NOW = (
    redis_errors.AskError,
    redis_errors.ClusterDownError,
    redis_errors.MasterDownError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.TryAgainError,
)
# The same where redis-py has no class for them, or where an older server wraps them in a script's error.
_NOT_NOW_TEXT = ("BUSY ", "LOADING ", "MISCONF ", "NOREPLICAS ", "OOM command", "READONLY ")

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


class Wire:
    """One connection to one server, used by one task at a time; it connects when it is first used."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection = _make(endpoint)
        self._fd = -1
        _wires.add(self)

    def __repr__(self) -> str:
        return f"<Wire {self.endpoint.label} {'connected' if self.connected else 'closed'}>"

    @property
    def connected(self) -> bool:
        return bool(self._connection.is_connected)

    def forget(self, null: int) -> None:
        """Point the descriptor at ``null`` (after a fork, or without a loop); the wire is never used again."""
        if self._fd >= 0:
            os.dup2(null, self._fd)
            self._fd = -1

    async def connect(self) -> None:
        """:raises ServerAway: if the server can't be reached or refuses us."""
        # The greeting that redis-py sends has no deadline of its own: a stopped server would hold us for ever. It is a
        # task of its own, because asyncio.wait_for loses a cancellation that comes just when we are connected.
        connecting = asyncio.ensure_future(self._connection.connect())  # type: ignore[no-untyped-call]
        try:
            await asyncio.wait({connecting}, timeout=GREETING_TIMEOUT)
        except BaseException:
            connecting.cancel()
            connecting.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._abort()
            raise
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting})
        # A connection that is cut at the wrong byte fails inside redis-py in many ways.
        error = None if connecting.cancelled() else connecting.exception()
        if connecting.cancelled() or error is not None:
            await self.close()
            reason = str(error or "") or (type(error).__name__ if error else f"no greeting in {GREETING_TIMEOUT:g} s")
            raise ServerAway(f"{self.endpoint.label}: {reason}") from error
        writer = self._connection._writer
        self._fd = writer.get_extra_info("socket").fileno() if writer else -1

    async def call(self, commands: Sequence[Sequence[Arg]], patience: float) -> list[Any]:
        """Send ``commands`` at once and return their replies in order.

        An error reply is returned in its place as ``NotNow``, ``UnknownScript`` or redis-py's ``ResponseError``.

        :param patience: seconds to wait for all replies.
        :raises ServerAway: if the connection breaks or patience ends; it is then closed.
        """
        connection = self._connection
        if not connection.is_connected:  # redis-py would reconnect in silence, without our greeting
            raise ServerAway(f"{self.endpoint.label}: not connected")
        loop = asyncio.get_running_loop()
        late = loop.call_later(patience, self._abort)
        replies: list[Any] = []
        try:
            await connection.send_packed_command(b"".join(connection.pack_commands(commands)), check_health=False)
            for _ in commands:
                try:
                    replies.append(await connection.read_response(disable_decoding=True, disconnect_on_error=False))
                except redis_errors.ResponseError as error:
                    replies.append(_judge(error))
                except (redis_errors.AuthenticationError, redis_errors.BusyLoadingError) as error:
                    replies.append(NotNow(str(error)))  # replies too, though redis-py calls them connection errors
        except Exception as error:
            await self.close()
            raise ServerAway(f"{self.endpoint.label}: {error or type(error).__name__}") from error
        except BaseException:  # cancelled in the middle: the replies that are still to come must not be misread
            self._abort()
            raise
        finally:
            late.cancel()
        return replies

    def _abort(self) -> None:
        writer = self._connection._writer
        if writer:
            try:
                writer.transport.abort()
            except RuntimeError:  # its event loop was closed without a word
                pass

    def abandon(self) -> None:
        """Drop the connection without its event loop, which is closed."""
        null = os.open(os.devnull, os.O_RDWR)
        try:
            self.forget(null)
        finally:
            os.close(null)

    async def close(self) -> None:
        """Close the connection; it can be connected again."""
        self._fd = -1
        try:
            await self._connection.disconnect(nowait=True)
        except Exception:  # a connection that fails to close is closed all the same
            pass


def _judge(error: redis_errors.ResponseError) -> Exception:
    if isinstance(error, redis_errors.NoScriptError):
        return UnknownScript(str(error))
    text = str(error)
    if isinstance(error, _NOT_NOW) or any(sign in text for sign in _NOT_NOW_TEXT):
        return NotNow(text)
    return error
