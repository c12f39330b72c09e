"""Sends of one event loop to one server: what one turn of the loop wants travels together, and never doubles.

One pipeline is in flight at a time. Each script call carries a number that rises for (sender, virtual shard); a call
whose reply got lost is sent again under its number, and the server answers it from its store. A call that the server
refused for certain gets a new number. Nothing is retried for longer than the retry time, but for what is held.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trunkline.errors import ConfigurationError, LayerUnavailable
from trunkline.redis.connections import Wire
from trunkline.redis.greeting import PATIENCE, greet, greet_shards, load_scripts, mark_away, mark_back
from trunkline.redis.process import Process, Server, Token, new_id
from trunkline.redis.replies import Arg, NotNow, ServerAway, UnknownScript
from trunkline.redis.ring import VIRTUAL_SHARDS
from trunkline.redis.scripts import script

MOST_WAITING = 10_000  # operations that wait for one server before further ones are refused at once
MOST_BYTES = 8 * 1024 * 1024  # bodies in one pipeline
MOST_OPERATIONS = 2_000  # operations in one pipeline


@dataclass(eq=False)
class Operation:
    """One thing to do on the server.

    :ivar script: the Lua script; operations with equal (script, key, head) share one call.
    :ivar key: the script's first key.
    :ivar head: arguments that all operations of one call share.
    :ivar own: this operation's own arguments.
    :ivar held: kept and retried for as long as it takes (messages that were taken and go back).
    :ivar since: monotonic seconds when it was asked for.
    """

    script: str
    shard: int
    key: str
    head: tuple[Arg, ...]
    own: tuple[Arg, ...]
    future: asyncio.Future[str]
    size: int = 0
    held: bool = False
    since: float = 0.0


@dataclass(eq=False)
class _Call:
    """Operations that travel as one script call.

    :ivar number: under which the server knows it; 0 before it is sent, and again after the server refused it.
    :ivar not_before: monotonic seconds; the server asked to wait until then.
    """

    script: str
    shard: int
    key: str
    head: tuple[Arg, ...]
    operations: list[Operation] = field(default_factory=list)
    number: int = 0
    first: bool = False
    not_before: float = 0.0

    def resolve(self, answer: str) -> None:
        each = self.script in ("direct", "push", "again", "requeue", "drop")  # one letter for each message
        for index, operation in enumerate(self.operations):
            if not operation.future.done():
                operation.future.set_result(answer[index] if each else answer)

    def fail(self, make: Callable[[], Exception]) -> None:
        for operation in self.operations:
            if not operation.future.done():
                operation.future.set_exception(make())


_Acks = list[tuple[int, dict[str, list[Token]]]]


class Pipe:
    """The sending connection of one event loop to one server.

    Operations wait in ``_pending``, then in a call in ``_calls`` until that is answered. A call that has a number was
    sent and not answered: it goes out again under its number, before all that have none yet.
    """

    def __init__(self, process: Process, server: Server, turn: Callable[[], None]) -> None:
        self.process = process
        self.server = server
        self.wire = Wire(server.target)
        self.sender = new_id()
        self._turn = turn
        self._numbers = [0] * VIRTUAL_SHARDS
        self._pending: list[Operation] = []
        self._calls: list[_Call] = []
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Pipe to {self.server.label}: {len(self._pending)} waiting, {len(self._calls)} calls under way>"

    def add(self, operation: Operation) -> asyncio.Future[str]:
        """Queue an operation for this turn's pipeline and return the future of its answer.

        :raises LayerUnavailable: if the server has been away for the retry time, or too many operations wait already.
        :raises ConfigurationError: if it, or another server of the layer, can't carry the layer at all.
        """
        if self.process.unfit and not operation.held:
            raise ConfigurationError(self.process.unfit)
        away = self.server.away_since
        operation.since = now = time.monotonic()
        if away is not None and not operation.held:
            if now - away >= self.process.options.retry_time:
                raise self._unavailable()
            if len(self._pending) + sum(len(call.operations) for call in self._calls) >= MOST_WAITING:
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
        pause = 0.02
        try:
            while True:
                self._give_up()
                self._form_calls()
                now = time.monotonic()
                due = [call for call in self._calls if call.not_before <= now]
                acks = self._take_acks()
                if not due and not acks:
                    if not self._calls:
                        return
                    await asyncio.sleep(min(0.02, max(0.0, min(call.not_before for call in self._calls) - now)))
                    continue
                self._turn()
                problem = await self._exchange(due, acks)
                if not problem:
                    mark_back(self.server)
                    pause = 0.02
                    continue
                mark_away(self.server, problem)
                if self._stopping or not (self._calls or self._pending):
                    return  # acknowledgements alone wait for the next beat that gets through
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.5)
        except Exception as error:  # whatever it is, nobody shall wait for ever
            self._fail_all(partial(LayerUnavailable, f"Sending to {self.server.label} failed: {error!r}"))
            self.process.warn("sending", "Sending to %s failed.", self.server.label, level=logging.ERROR, exc_info=True)
            await self.wire.close()
        finally:
            self._task = None
            self._fail_all(partial(LayerUnavailable, "The layer was closed before the message could be sent."))

    def _fail_all(self, make: Callable[[], Exception]) -> None:
        calls, self._calls = self._calls, []
        pending, self._pending = self._pending, []
        try:
            for call in calls:
                call.fail(make)
            for operation in pending:
                if not operation.future.done():
                    operation.future.set_exception(make())
        except RuntimeError:  # the event loop was closed without a word, and all who waited with it
            pass

    def _give_up(self) -> None:
        """Fail what has waited long enough, counted from the outage's start where that came first."""
        now, retry_time, away = time.monotonic(), self.process.options.retry_time, self.server.away_since
        over = (away is not None and now - away >= retry_time) or self.server.unfit != ""

        def hopeless(operation: Operation) -> bool:
            return not operation.held and (over or now - operation.since >= retry_time)

        if self._calls and (over or any(call.operations[0].since + retry_time <= now for call in self._calls)):
            for call in self._calls:
                if hopeless(call.operations[0]):
                    call.fail(self._unavailable)
            self._calls = [call for call in self._calls if not hopeless(call.operations[0])]
        if over and self._pending:
            for operation in self._pending:
                if hopeless(operation) and not operation.future.done():
                    operation.future.set_exception(self._unavailable())
            self._pending = [operation for operation in self._pending if not hopeless(operation)]

    def _form_calls(self) -> None:
        """Make calls of what waits. One that the server asked to wait takes later ones of its kind along, in order."""
        calls = {(call.script, call.key, call.head): call for call in self._calls if not call.number}
        size = 0
        for count, operation in enumerate(self._pending):
            size += operation.size
            if (size > MOST_BYTES and count) or count >= MOST_OPERATIONS:
                rest = self._pending[count:]
                break
            if operation.future.cancelled():
                continue
            where = (operation.script, operation.key, operation.head)
            call = calls.get(where)
            if call is None:
                call = calls[where] = _Call(operation.script, operation.shard, operation.key, operation.head)
                self._calls.append(call)
            call.operations.append(operation)
        else:
            rest = []
        self._pending = rest

    def _number(self, calls: Iterable[_Call]) -> list[_Call]:
        """In the order in which they go: first what was sent before, then what has no number yet and now gets one."""
        sent = [call for call in calls if call.number]
        opened = {call.shard for call in sent}
        for call in calls:
            if not call.number:
                self._numbers[call.shard] += 1
                call.number, call.first = self._numbers[call.shard], call.shard not in opened
                opened.add(call.shard)
                sent.append(call)
        return sent

    def _command(self, call: _Call) -> list[Arg]:
        return [
            b"EVALSHA", script(call.script).sha, 2, call.key, self.process.keys.canary(call.shard),
            self.process.epochs[call.shard], self.sender, call.number, 1 if call.first else 0, *call.head,
            *(arg for operation in call.operations for arg in operation.own),
        ]  # fmt: skip

    def _take_acks(self) -> _Acks:
        shards = self.process.ring.owned[self.server.position]
        return [(shard, acks) for shard in shards if (acks := self.process.take_acks(shard))]

    def _ack_command(self, shard: int, acks: dict[str, list[Token]]) -> list[Arg]:
        args: list[Arg] = [self.process.id]
        for channel, tokens in acks.items():
            args += [channel, sum(token.size for token in tokens), len(tokens)]
            args += [token.entry for token in tokens]
        keys = self.process.keys
        return [b"EVALSHA", script("ack").sha, 2, keys.key(shard, "in", self.process.id), keys.canary(shard), *args]

    async def _exchange(self, due: list[_Call], acks: _Acks) -> str:
        """Send once. What was answered leaves ``_calls``; returns what went wrong, or an empty text."""
        try:
            if not self.wire.connected:
                await greet(self.process, self.server, self.wire)
            calls = self._number(due)
            commands = [self._ack_command(*each) for each in acks] + [self._command(call) for call in calls]
            replies = await self.wire.call(commands, PATIENCE)
            of_acks, of_calls = replies[: len(acks)], replies[len(acks) :]
            for (shard, tokens), reply in zip(acks, of_acks, strict=True):
                if not isinstance(reply, Exception):
                    self.process.acked(shard, tokens)
            acks = [each for each, reply in zip(acks, of_acks, strict=True) if isinstance(reply, Exception)]
            problem = await self._judge(calls, of_calls)
            if acks and any(isinstance(reply, UnknownScript) for reply in of_acks):
                await load_scripts(self.wire, {"ack"})
            elif acks:
                problem = problem or str(next(reply for reply in of_acks if isinstance(reply, Exception)))
            return problem
        except (ServerAway, NotNow) as error:
            return str(error)
        finally:
            self._queue_again(acks)

    def _queue_again(self, acks: _Acks) -> None:
        with self.process.lock:
            for shard, tokens in acks:
                for channel, some in tokens.items():
                    self.process.inboxes[shard].acks.setdefault(channel, [])[:0] = some

    async def _judge(self, calls: list[_Call], replies: list[Any]) -> str:
        """Resolve what was answered. What was refused for certain loses its number and stays; returns the problem.

        :raises ServerAway, NotNow: where the remedy itself failed.
        """
        answered: set[_Call] = set()
        missing: set[str] = set()
        problem, ask_epochs = "", False
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, UnknownScript):
                call.number = 0
                missing.add(call.script)
                continue
            if isinstance(reply, NotNow):
                call.number, problem = 0, problem or str(reply)
                continue
            if isinstance(reply, Exception):
                call.fail(partial(LayerUnavailable, f"{self.server.label} refused: {reply}"))
            elif reply[0] == b"OK":
                call.resolve(reply[1].decode())
            elif reply[0] == b"EPOCH":
                call.number = 0
                if not reply[1]:
                    ask_epochs = True
                elif not self.process.adopt(call.shard, reply[1].decode()):
                    call.not_before = time.monotonic() + 0.05  # a flush is under way
                continue
            elif reply[0] == b"WAIT":
                call.number, call.not_before = 0, time.monotonic() + int(reply[1]) / 1000
                continue
            else:  # LATE
                call.fail(partial(LayerUnavailable, f"{self.server.label} refused a request that came too late."))
            answered.add(call)
        self._calls = [call for call in self._calls if call not in answered]
        if missing:
            await load_scripts(self.wire, missing)
        if ask_epochs:
            await greet_shards(self.process, self.server, self.wire)
        return problem

    def _unavailable(self) -> Exception:
        if self.server.unfit:
            return ConfigurationError(self.server.unfit)
        return LayerUnavailable(
            f"{self.server.label} has been away for more than {self.process.options.retry_time:g} s "
            f"({self.server.problem or 'no answer'}); the message was not confirmed."
        )
