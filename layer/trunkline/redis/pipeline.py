"""Sends of one event loop to one server: what one turn of the loop wants travels together, and never doubles.

One pipeline is in flight at a time. Each script call carries a number that rises for (sender, virtual shard); a call
whose reply got lost is sent again under its number, and the server answers it from its store. A call that the server
refused for certain gets a new number. Nothing is retried for longer than the retry time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trunkline.errors import LayerUnavailable
from trunkline.redis.connections import Arg, NotNow, ServerAway, UnknownScript, Wire
from trunkline.redis.process import Process, Server, Token, new_id
from trunkline.redis.ring import VIRTUAL_SHARDS
from trunkline.redis.scripts import NAMES, script

PATIENCE = 3.0  # seconds for the replies of a pipeline; then the connection counts as broken, and a new one is tried
MOST_WAITING = 10_000  # operations that wait for one server before further ones are refused at once
MOST_BYTES = 8 * 1024 * 1024  # bodies in one pipeline
MOST_OPERATIONS = 2_000  # operations in one pipeline


@dataclass(eq=False)
class Operation:
    """One thing to do on the server.

    :ivar script: the Lua script; operations of one turn with equal (script, shard, head) share one call.
    :ivar key: the script's first key.
    :ivar head: arguments that all operations of one call share.
    :ivar own: this operation's own arguments.
    :ivar held: kept and retried for as long as it takes (messages that were taken and go back).
    """

    script: str
    shard: int
    key: str
    head: tuple[Arg, ...]
    own: tuple[Arg, ...]
    future: asyncio.Future[str]
    size: int = 0
    held: bool = False


@dataclass(eq=False)
class _Call:
    script: str
    shard: int
    key: str
    head: tuple[Arg, ...]
    operations: list[Operation] = field(default_factory=list)
    number: int = 0
    first: bool = False
    wait: float = 0.0

    def resolve(self, answer: str) -> None:
        for index, operation in enumerate(self.operations):
            if not operation.future.done():
                operation.future.set_result(
                    answer[index] if self.script in ("direct", "push") else answer
                )  # one letter for each message

    def fail(self, make: Callable[[], Exception]) -> None:
        for operation in self.operations:
            if not operation.future.done():
                operation.future.set_exception(make())


class Pipe:
    """The sending connection of one event loop to one server."""

    def __init__(self, process: Process, server: Server, turn: Callable[[], None]) -> None:
        self.process = process
        self.server = server
        self.wire = Wire(process.options.hosts[server.position])
        self.sender = new_id()
        self._turn = turn
        self._numbers = [0] * VIRTUAL_SHARDS
        self._pending: list[Operation] = []
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Pipe to {self.server.label}: {len(self._pending)} waiting>"

    def add(self, operation: Operation) -> asyncio.Future[str]:
        """Queue an operation for this turn's pipeline and return the future of its answer.

        :raises LayerUnavailable: if the server has been away for the retry time, or too many operations wait already.
        """
        if not operation.held:
            away = self.server.away_since
            if away is not None and time.monotonic() - away >= self.process.options.retry_time:
                raise self._unavailable()
            if len(self._pending) >= MOST_WAITING and away is not None:
                raise LayerUnavailable(
                    f"{self.server.label} is away and {MOST_WAITING} sends wait for it already; this one was not sent."
                )
        self._pending.append(operation)
        self.wake()
        return operation.future

    def wake(self) -> None:
        """Send what waits, acknowledgements included, in the next turn."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def close(self, patience: float = 2.0) -> None:
        """Send what waits, if that is possible within ``patience`` seconds, and close the connection."""
        deadline = time.monotonic() + patience
        self._stopping = True
        while (task := self._task) is not None and time.monotonic() < deadline:
            await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait({task})
        self._stopping = False
        await self.wire.close()

    # -- the pipeline

    async def _drain(self) -> None:
        try:
            while self._pending or self._has_acks():
                batch = self._next_batch()
                self._turn()
                await self._exchange(batch)
                if self.server.away_since is not None and not self._pending:
                    break  # acknowledgements alone wait for the next beat that gets through
        except asyncio.CancelledError:
            raise
        finally:
            self._task = None

    def _has_acks(self) -> bool:
        return any(self.process.inboxes[shard].acks for shard in self.process.ring.owned[self.server.position])

    def _next_batch(self) -> list[Operation]:
        size = 0
        for count, operation in enumerate(self._pending):
            size += operation.size
            if (size > MOST_BYTES and count) or count >= MOST_OPERATIONS:
                batch = self._pending[:count]
                del self._pending[:count]
                return batch
        batch, self._pending = self._pending, []
        return batch

    def _calls(self, batch: Iterable[Operation]) -> list[_Call]:
        calls: dict[tuple[object, ...], _Call] = {}
        for operation in batch:
            if operation.future.cancelled():
                continue
            where = (operation.script, operation.key, operation.head)
            call = calls.get(where)
            if call is None:
                call = calls[where] = _Call(operation.script, operation.shard, operation.key, operation.head)
            call.operations.append(operation)
        opened: set[int] = set()
        for call in calls.values():
            call.number = self._next_number(call.shard)
            call.first = call.shard not in opened
            opened.add(call.shard)
        return list(calls.values())

    def _next_number(self, shard: int) -> int:
        self._numbers[shard] += 1
        return self._numbers[shard]

    def _command(self, call: _Call) -> list[Arg]:
        return [
            b"EVALSHA", script(call.script).sha, 2, call.key, self.process.keys.canary(call.shard),
            self.process.epochs[call.shard], self.sender, call.number, 1 if call.first else 0, *call.head,
            *(arg for operation in call.operations for arg in operation.own),
        ]  # fmt: skip

    def _ack_commands(self) -> list[tuple[int, dict[str, list[Token]], list[Arg]]]:
        process, commands = self.process, []
        for shard in process.ring.owned[self.server.position]:
            acks = process.take_acks(shard)
            if acks:
                args: list[Arg] = [process.id]
                for channel, tokens in acks.items():
                    args += [channel, sum(token.size for token in tokens), len(tokens)]
                    args += [token.entry for token in tokens]
                key = process.keys.key(shard, "in", process.id)
                commands.append(
                    (shard, acks, [b"EVALSHA", script("ack").sha, 2, key, process.keys.canary(shard), *args])
                )
        return commands

    async def _exchange(self, batch: list[Operation]) -> None:
        calls = self._calls(batch)
        started = time.monotonic()
        acks = self._ack_commands()
        pause = 0.02
        try:
            while calls or acks:
                try:
                    if not self.wire.connected:
                        await greet(self.process, self.server, self.wire)
                    commands = [command for _, _, command in acks] + [self._command(call) for call in calls]
                    replies = await self.wire.call(commands, PATIENCE)
                except (ServerAway, NotNow) as error:
                    mark_away(self.server, str(error))
                    calls = self._give_up(calls, started)
                    if not calls or self._stopping:
                        return  # the acknowledgements are queued again below
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.5)
                    continue
                self._take_ack_replies(acks, replies)
                calls, pause = await self._judge(calls, replies[len(acks) :], started, pause)
                acks = []
        except asyncio.CancelledError:
            for call in calls:
                call.fail(partial(LayerUnavailable, "The layer was closed before the message could be sent."))
            raise
        except Exception as error:  # whatever it is, nobody shall wait for ever
            for call in calls:
                call.fail(partial(LayerUnavailable, f"Sending to {self.server.label} failed: {error!r}"))
            self.process.warn("sending", "Sending to %s failed.", self.server.label, level=logging.ERROR, exc_info=True)
            await self.wire.close()
        finally:
            self._queue_again(acks)

    def _take_ack_replies(self, acks: list[tuple[int, dict[str, list[Token]], list[Arg]]], replies: list[Any]) -> None:
        for (shard, tokens, _), reply in zip(acks, replies, strict=False):
            if isinstance(reply, Exception):
                self._queue_again([(shard, tokens, [])])
            else:
                self.process.acked(shard, tokens)

    def _queue_again(self, acks: list[tuple[int, dict[str, list[Token]], list[Arg]]]) -> None:
        with self.process.lock:
            for shard, tokens, _ in acks:
                for channel, some in tokens.items():
                    self.process.inboxes[shard].acks.setdefault(channel, [])[:0] = some

    async def _judge(
        self, calls: list[_Call], replies: list[Any], started: float, pause: float
    ) -> tuple[list[_Call], float]:
        """Resolve what was answered; return what has to be sent again, with new numbers as it was not executed."""
        again: list[_Call] = []
        delay = 0.0
        problem = ""
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, UnknownScript):
                try:
                    await load_scripts(self.wire, {call.script})
                except ServerAway as error:
                    delay, problem = max(delay, pause), str(error)
            elif isinstance(reply, NotNow):
                delay, problem = max(delay, pause), str(reply)
            elif isinstance(reply, Exception):
                call.fail(partial(LayerUnavailable, f"{self.server.label} refused: {reply}"))
                continue
            elif reply[0] == b"OK":
                call.resolve(reply[1].decode())
                continue
            elif reply[0] == b"EPOCH":
                if not reply[1]:
                    try:
                        await greet_shards(self.process, self.server, self.wire)
                    except (ServerAway, NotNow) as error:
                        delay, problem = max(delay, pause), str(error)
                elif not self.process.adopt(call.shard, reply[1].decode()):
                    delay = max(delay, 0.05)  # a flush is under way
            elif reply[0] == b"WAIT":
                delay = max(delay, int(reply[1]) / 1000)
            else:  # LATE
                call.fail(partial(LayerUnavailable, f"{self.server.label} refused a request that came too late."))
                continue
            again.append(call)
        if problem:
            mark_away(self.server, problem)
            pause = min(pause * 2, 0.5)
        elif not again:
            mark_back(self.server)
        if time.monotonic() - started > self.process.options.retry_time:
            again = self._give_up(again, started)
        if again:
            for call in again:
                call.number, call.first = self._next_number(call.shard), False
            if delay:
                await asyncio.sleep(delay)
        return again, pause

    def _give_up(self, calls: list[_Call], started: float) -> list[_Call]:
        """Fail what has waited long enough, counted from the outage's start; return the rest."""
        now, retry_time = time.monotonic(), self.process.options.retry_time
        away = self.server.away_since
        if now - started < retry_time and (away is None or now - away < retry_time):
            return calls
        kept = []
        for call in calls:
            if call.operations[0].held:
                kept.append(call)
            else:
                call.fail(self._unavailable)
        return kept

    def _unavailable(self) -> LayerUnavailable:
        return LayerUnavailable(
            f"{self.server.label} has been away for more than {self.process.options.retry_time:g} s "
            f"({self.server.problem or 'no answer'}); the message was not confirmed."
        )


# -- greeting a server


async def load_scripts(wire: Wire, names: Iterable[str]) -> None:
    """Load scripts into the server that ``wire`` is connected to."""
    await wire.call([[b"SCRIPT", b"LOAD", script(name).text] for name in names], PATIENCE)


async def greet(process: Process, server: Server, wire: Wire) -> None:
    """Connect, load the scripts and learn the epochs; marks the server as back.

    :raises ServerAway: if it can't be reached.
    :raises NotNow: if it can't serve at the moment.
    """
    await wire.connect()
    await greet_shards(process, server, wire)


async def greet_shards(process: Process, server: Server, wire: Wire) -> None:
    """Beat on every virtual shard of a server: liveness, its clock, its epochs, its layout.

    :raises ServerAway, NotNow: as ``greet``.
    """
    beat = script("beat")
    shards = process.ring.owned[server.position]
    ident = process.id if process.present else ""
    for _ in range(2):
        asked = time.monotonic()
        replies = await wire.call(
            [
                [
                    b"EVALSHA", beat.sha, 2, process.keys.key(shard, "procs"), process.keys.canary(shard),
                    process.epochs[shard], new_id(), ident, process.inbox_life, process.ring.fingerprint,
                ]
                for shard in shards
            ],
            PATIENCE,
        )  # fmt: skip
        if not any(isinstance(reply, UnknownScript) for reply in replies):
            break
        await load_scripts(wire, NAMES)
    answered = time.monotonic()
    for shard, reply in zip(shards, replies, strict=True):
        if isinstance(reply, NotNow):
            raise reply
        if isinstance(reply, Exception):
            raise NotNow(str(reply))
        server.offset = int(reply[1]) - (asked + answered) * 500
        before = process.epochs[shard]
        process.adopt(shard, reply[2].decode())
        if ident and before == process.epochs[shard] and not reply[3]:
            process.lost_memberships(shard)  # we were taken for dead meanwhile
        layout = reply[4].decode()
        if layout != process.ring.fingerprint and not server.layout_reported:
            server.layout_reported = True
            process.warn(
                "layout",
                "%s holds the names of a layer with another list of hosts (%s, here %s): processes with different "
                "`hosts` do not find each other's channels; give all of them the same list, in the same order.",
                server.label,
                layout,
                process.ring.fingerprint,
                level=40,
            )
    mark_back(server)


def mark_away(server: Server, problem: str) -> None:
    """Remember since when a server can't be used."""
    server.problem = problem
    if server.away_since is None:
        server.away_since = time.monotonic()


def mark_back(server: Server) -> None:
    """The server answers again."""
    server.away_since = None
    server.problem = ""
