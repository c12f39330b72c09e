"""Sends of plain threads: one thread at a time talks to a server by itself, the others hand their sends to the reactor.

Waking another thread and being woken by it costs more than the send itself. So the reactor opens one more connection to
a server that threads send to, and lends it out: who finds it free writes a call, waits for its answer and goes on. What
is not answered with OK goes back to the reactor together with the call and its number, and there to a pipe, which
repeats, waits and gives up as all pipes do. Connections with TLS or to servers behind Sentinel are not lent, nor are
large messages sent this way.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, TypeVar

import hiredis

from trunkline.config import Endpoint
from trunkline.redis.calls import Lane
from trunkline.redis.engine import ColdPath, Engine
from trunkline.redis.greeting import PATIENCE, greet
from trunkline.redis.handover import Errand, Handover, wait_in_thread
from trunkline.redis.pipeline import Pipe
from trunkline.redis.process import Process, Server
from trunkline.redis.replies import NotNow, ServerAway, judge

T = TypeVar("T")

MOST_BYTES = 65536  # of one message; a larger one may take its time, which only the reactor can tell from an outage
PAUSE = 5.0  # seconds until the next attempt, where no such connection could be opened
USES = 2  # sends after which a connection is opened for threads: a process that sends once doesn't need it

Hand = Callable[[Errand[Any]], Handover]
Background = Callable[[Callable[[Engine], Coroutine[Any, Any, None]]], object]


class _Line:
    """A connection that was lent.

    :ivar pipe: whose calls and numbers it carries, and which takes over what isn't answered with OK.
    """

    def __init__(self, pipe: Pipe, lent: socket.socket) -> None:
        self.pipe = pipe
        self._socket = lent
        self._reader = hiredis.Reader(replyError=judge)
        lent.settimeout(PATIENCE)

    def ask(self, data: bytes) -> Any:
        """Send a command and return its reply; an error is returned, too."""
        try:
            self._socket.sendall(data)
            while (reply := self._reader.gets()) is False:
                received = self._socket.recv(MOST_BYTES)
                if not received:
                    raise ConnectionError("the connection was closed")
                self._reader.feed(received)
            return reply
        except (OSError, hiredis.HiredisError) as error:
            return ServerAway(f"{self.pipe.server.label}: {str(error) or type(error).__name__}")

    def close(self) -> None:
        self._socket.close()


class _Answer:
    """What can be awaited without waiting."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __await__(self) -> Generator[None, None, str]:
        return self._text
        yield


class _ThreadPipe:
    """As a ``Pipe`` to one server, for any thread: ``add`` returns when the answer is there."""

    def __init__(self, server: Server, shortcut: Shortcut) -> None:
        self._server = server
        self._shortcut = shortcut
        self._lock = threading.Lock()  # held by the thread that uses the line
        self._line: _Line | None = None
        self._uses = 0
        self._opening = threading.Lock()  # held while a connection is being opened
        self._not_before = 0.0
        self._closed = False

    def add(self, lane: Lane, own: tuple[Any, ...], size: int = 0, held: bool = False) -> _Answer:
        """:raises LayerUnavailable, ConfigurationError: as ``Pipe.add`` and its future."""
        server, shortcut = self._server, self._shortcut
        shortcut.next_turn()
        if (
            self._line is not None
            and size <= MOST_BYTES
            and server.away_since is None
            and not shortcut.process.unfit
            and not shortcut.process.inboxes[lane.shard].acks  # they go first, as the message may need the room
            and self._lock.acquire(blocking=False)
        ):
            try:
                if self._line is not None:
                    return _Answer(self._talk(self._line, lane, own))
            finally:
                self._lock.release()
        elif self._line is None:
            self._open()

        async def add(reactor: Engine) -> str:
            return await reactor.pipe(server).add(lane, own, size, held)

        return _Answer(wait_in_thread(shortcut.hand, add))

    def _talk(self, line: _Line, lane: Lane, own: tuple[Any, ...]) -> str:
        flight, data = line.pipe.compose(lane, own, time.monotonic())
        try:
            reply = line.ask(data)
        except BaseException:  # Ctrl-C: whatever comes now must not be taken for another call's answer
            self._give_up(line)
            self._shortcut.background(lambda _: line.pipe.close())
            raise
        if type(reply) is list and reply[0] == b"OK":
            if self._closed:
                self._give_up(line)
            answer: str = reply[1].decode()
            return answer[:1] if lane.letters else answer
        self._give_up(line)

        async def settle(_: Engine) -> str:
            self._shortcut.settling.add(line.pipe)
            return await line.pipe.take_over(flight, reply)

        async def end(_: Engine) -> None:
            self._shortcut.settling.discard(line.pipe)
            await line.pipe.close()

        try:
            settled: str = wait_in_thread(self._shortcut.hand, settle)
        finally:
            self._shortcut.background(end)
        return settled

    def _give_up(self, line: _Line) -> None:
        self._line = None
        line.close()

    # -- opening and closing, in the reactor

    def _open(self) -> None:
        self._uses += 1
        if self._uses < USES or self._closed or self._server.away_since is not None:
            return
        if time.monotonic() < self._not_before or not self._shortcut.lends(self._server):
            return
        if self._opening.acquire(blocking=False):
            self._shortcut.background(self._connect)

    async def _connect(self, _: Engine) -> None:
        pipe = Pipe(self._shortcut.process, self._server, lambda: None)
        try:
            await greet(pipe.process, self._server, pipe.wire)
            line = _Line(pipe, pipe.wire.lend())
            if self._closed:
                line.close()
            else:
                self._line = line
                return
        except (ServerAway, NotNow, OSError):  # the last: it could be opened, but there is no descriptor to lend it
            self._not_before = time.monotonic() + PAUSE
        finally:
            self._opening.release()
        await pipe.close()

    async def close(self) -> None:
        """A thread that is just using the line closes it when it has its answer."""
        self._closed = True
        line = self._line
        if line is None:
            return
        if self._lock.acquire(blocking=False):
            try:
                self._give_up(line)
            finally:
                self._lock.release()
        await line.pipe.close()


class Shortcut(Engine):
    """Sends of any thread that runs no event loop; what is called here has its answer when it returns."""

    def __init__(self, process: Process, reactor: Engine, cold: ColdPath, hand: Hand, background: Background) -> None:
        super().__init__(process, reactor.loop, cold)
        self.hand = hand
        self.background = background
        self.settling: set[Pipe] = set()  # that took over a call
        self._ways = [_ThreadPipe(server, self) for server in process.servers]

    def pipe(self, server: Server) -> Pipe:
        return self._ways[server.position]  # type: ignore[return-value]

    def lends(self, server: Server) -> bool:
        """Whether threads may use a connection to ``server`` by themselves."""
        options = self.process.options
        host = options.hosts[server.position]
        return isinstance(host, Endpoint) and host.transport != "tls" and not options.wait_replicas

    async def together(self, sends: Iterable[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
        results: list[BaseException | None] = []
        for send in sends:
            try:
                results.append(run(send))
            except Exception as error:
                results.append(error)
        return results

    async def stop(self) -> None:
        """Close the connections; to be called in the reactor, when nothing is handed over any more."""
        await asyncio.gather(*(way.close() for way in self._ways), *(pipe.close() for pipe in self.settling))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that awaits nothing but what is there already."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("a send of a thread without an event loop waits for one")
