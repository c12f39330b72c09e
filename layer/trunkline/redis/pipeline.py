"""Sends of one event loop to one server: what one turn of the loop wants travels together, and never doubles.

Each script call carries a number that rises for (sender, virtual shard); a call whose reply got lost is sent again
under its number, and the server answers it from its store. A call that the server refused, and that can't have been
done before, gets a new number. Nothing is retried for longer than the retry time, but for what is held.

While all is well nothing here is a task: a pipeline is written by the turn that fills it, and its replies are handed
out where they are read. What comes up while a pipeline is under way waits for its replies, but for what is enough to
keep the server busy. Connecting, refusals and outages are a task's work, one pipeline at a time, which ends when all is
well again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from trunkline.errors import ConfigurationError, LayerUnavailable
from trunkline.redis import replicas
from trunkline.redis.calls import Acks, Call, Flight, Lane, Operation, new_operation
from trunkline.redis.connections import Wire, pack
from trunkline.redis.greeting import PATIENCE, greet, greet_shards, load_scripts, mark_away, mark_back
from trunkline.redis.outgoing import Outgoing
from trunkline.redis.process import Process, Server
from trunkline.redis.replies import Arg, NotNow, ServerAway, UnknownScript

MOST_WAITING = 10_000  # operations that wait for one server before further ones are refused at once
ENOUGH = 16  # operations that are sent without waiting for the turn's end, or for the replies to those before
MOST_FLIGHTS = 4  # pipelines under way


def _closed() -> Exception:
    return LayerUnavailable("The layer was closed before the message could be sent.")


class Pipe(Outgoing):
    """The sending connection of one event loop to one server.

    Pipelines under way are ``_flights``. What they brought back undone is a task's work (``_task``), when no flight is
    under way any more.
    """

    def __init__(self, process: Process, server: Server, turn: Callable[[], None]) -> None:
        super().__init__(process, server)
        self.wire = Wire(server.target)
        self._loop = asyncio.get_running_loop()
        self._turn = turn
        self._most_flights = 1 if server.target.guarded or self._replicas else MOST_FLIGHTS
        self._flights: deque[Flight] = deque()
        self._landed: list[tuple[Flight, list[Any] | Exception]] = []
        self._due = False
        self._lonely = True
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._quiet: asyncio.Future[None] | None = None
        self._refused_since: float | None = None  # monotonic seconds

    def __repr__(self) -> str:
        return f"<Pipe to {self.server.label}: {len(self._pending)} waiting, {len(self._flights)} pipelines under way>"

    def add(self, lane: Lane, own: tuple[Arg, ...], size: int = 0, held: bool = False) -> asyncio.Future[str]:
        """Queue an operation for this turn's pipeline and return the future of its answer.

        :raises LayerUnavailable, ConfigurationError: as ``put``.
        """
        future: asyncio.Future[str] = self._loop.create_future()
        self.put(new_operation((lane, own, future, size, held, time.monotonic())))
        return future

    def put(self, operation: Operation, weight: int = 1) -> None:
        """Queue an operation for this turn's pipeline.

        :param weight: as how many operations it counts for what is enough.
        :raises LayerUnavailable: if the server has been away for the retry time, or too many operations wait already.
        :raises ConfigurationError: if it, or another server of the layer, can't carry the layer at all.
        """
        if not operation.held:
            if self.process.unfit:
                raise ConfigurationError(self.process.unfit)
            if self.server.away_since is not None:
                self._check(time.monotonic() - self.server.away_since)
        self._pending.append(operation)
        before = self._weight
        self._weight = after = before + weight
        if self._task is None and not self._landed:
            # Where the last pipeline had one operation, waiting for company would only cost time.
            if before < ENOUGH <= after or (self._lonely and not self._flights and not self._due):
                self._send()
            elif not self._flights and not self._due:
                self._due = True
                self._loop.call_soon(self._turn_ends)

    def wake(self) -> None:
        """Send what waits, acknowledgements included, in the next turn."""
        self._asked = True
        if self._task is None and not self._flights and not self._due and not self._landed:
            self._due = True
            self._loop.call_soon(self._turn_ends)

    async def close(self, patience: float = 2.0) -> None:
        """Send what waits, if that is possible within ``patience`` seconds, and close the connection."""
        self._stopping = True
        # A task that was cancelled before it began, as at an event loop's end, says nothing.
        if self._flights or self._due or (self._task is not None and not self._task.done()):
            self._quiet = self._loop.create_future()
            await asyncio.wait({self._quiet}, timeout=patience)
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait({task})
            self._task = None
        self._drop()
        self._fail_all(_closed)
        self._stopping = False
        await self.wire.close()

    def abandon(self) -> None:
        """Its event loop was closed without a word."""
        self._drop()
        self.wire.abandon()

    def _drop(self) -> None:
        """Forget the pipelines under way; what they acknowledged is acknowledged again."""
        for flight in (*(landed for landed, _ in self._landed), *self._flights):
            self._queue_again(flight.acks)
            self._calls += flight.calls
        self._landed = []
        self._flights.clear()
        self._none_is_open()

    def _check(self, away: float) -> None:
        if away >= self.process.options.retry_time:
            raise self._unavailable()
        calls = itertools.chain(self._calls, *(flight.calls for flight in self._flights))
        if len(self._pending) + sum(len(call.operations) for call in calls) >= MOST_WAITING:
            raise LayerUnavailable(
                f"{self.server.label} is away and {MOST_WAITING} sends wait for it already; this one was not sent."
            )

    def _rest(self) -> None:
        """Nothing is under way."""
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    # -- for a thread that writes and reads by itself, while nothing else uses the pipe (see shortcut.py)

    def compose(self, lane: Lane, own: tuple[Arg, ...], since: float) -> tuple[Flight, bytes]:
        """A numbered call of one operation, and its bytes."""
        call = Call(lane)
        call.operations.append(Operation(lane, own, self._loop.create_future(), 0, False, since))
        flight = Flight(self._number([call]), [], self.process.id)
        return flight, pack(self._commands(flight))

    def take_over(self, flight: Flight, reply: Any) -> asyncio.Future[str]:
        """Go on with a call that was composed here and not answered with OK; to be called in the pipe's loop."""
        self.wire.abort()
        self._landed.append((flight, reply if isinstance(reply, ServerAway) else [reply]))
        self._begin()
        future = flight.calls[0].operations[0].outcome
        assert isinstance(future, asyncio.Future)
        return future

    # -- while all is well

    def _turn_ends(self) -> None:
        self._due = False
        if self._task is None and not self._landed and not self._flights:
            self._send()

    def _send(self) -> None:
        """Send what waits as one pipeline; a task does it where that needs more than writing."""
        try:
            if self._calls or not self.wire.connected:
                if not self._flights:
                    self._begin()
                return
            if len(self._flights) >= self._most_flights:
                return
            self._lonely = self._weight <= 1
            self._form_calls()
            calls, self._calls = self._calls, []
            acks = self._take_acks()
            if not calls and not acks:
                if not self._flights:
                    self._rest()
                return
            self._turn()
            flight = Flight(calls, acks, self.process.id)
            self._number_behind(calls)
            self._flights.append(flight)
            commands = self._commands(flight)
            try:
                wait = replicas.FIRST_WAIT_S if flight.waits else 0.0
                answered = partial(self._answered, flight)
                self.wire.start(pack(commands), len(commands), PATIENCE + wait, answered, blocking=wait)
            except ServerAway as error:
                self._answered(flight, error)
        except Exception as error:  # whatever it is, nobody shall wait for ever
            self._broken(error)

    def _answered(self, flight: Flight, result: list[Any] | Exception) -> None:
        """The replies of a pipeline."""
        if not self._flights or self._flights[0] is not flight:
            return  # closed meanwhile
        try:
            self._flights.popleft()
            self._came_back(flight)
            if flight.waits and isinstance(result, list) and replicas.enough(result[-1], self._replicas):
                flight.waits, self.server.unconfirmed_since = False, None
                del result[-1]
            well = isinstance(result, list) and all(type(each) is list and each[0] == b"OK" for each in result)
            if self._landed or not well:
                self._landed.append((flight, result))  # seen to when nothing is under way any more
                if not self._flights:
                    self._begin()
                return
            assert isinstance(result, list)
            for call, reply in zip(flight.calls, flight.split(result)[0], strict=True):
                call.resolve(reply[1].decode())
            for shard, tokens in flight.acks:
                self.process.acked(shard, tokens)
            if self.server.away_since is not None:
                mark_back(self.server)
            if flight.calls:
                self._refused_since = None
            if (self._pending or self._asked) if not self._flights else self._weight >= ENOUGH:
                self._send()
            elif not self._flights:
                self._rest()
        except Exception as error:
            for call in flight.calls:
                call.fail(partial(LayerUnavailable, f"An answer of {self.server.label} could not be read: {error!r}"))
            self._broken(error)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._struggle())

    # -- while it is not

    async def _struggle(self) -> None:
        pause = 0.02
        try:
            landed, self._landed = self._landed, []
            self._calls = [call for flight, _ in landed for call in flight.calls] + self._calls
            refused: set[int] = set()  # virtual shards; what was chained behind a refused call was certainly not done
            for flight, result in landed:
                problem = await self._conclude(flight, result, refused)
                if problem:
                    mark_away(self.server, problem)
                refused.update(call.lane.shard for call in flight.calls if not call.number)
            while True:
                self._give_up()
                self._form_calls()
                now = time.monotonic()
                due = self._due_calls(now)
                acks = self._take_acks()
                if not due and not acks:
                    if not self._calls:
                        break
                    await asyncio.sleep(min(0.02, max(0.0, min(call.not_before for call in self._calls) - now)))
                    continue
                self._turn()
                problem = await self._exchange(due, acks)
                if not problem:
                    mark_back(self.server)
                    if due:
                        self._refused_since = None
                    pause = 0.02
                    continue
                mark_away(self.server, problem)
                if self._stopping or not (self._calls or self._pending):
                    break  # acknowledgements alone wait for the next beat that gets through
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.5)
        except Exception as error:
            self._broken(error)
        except BaseException:
            self._fail_all(_closed)
            raise
        finally:
            self._task = None
            if self._stopping:
                self._fail_all(_closed)
            try:
                self._rest()
            except RuntimeError:  # the event loop was closed without a word
                pass

    def _broken(self, error: Exception) -> None:
        self._drop()
        self.wire.abort()
        self._fail_all(partial(LayerUnavailable, f"Sending to {self.server.label} failed: {error!r}"))
        self.process.warn("sending", "Sending to %s failed.", self.server.label, level=logging.ERROR, exc_info=True)
        self._rest()

    def _fail_all(self, make: Callable[[], Exception]) -> None:
        calls, self._calls = self._calls, []
        pending, self._pending = self._pending, []
        try:
            for call in calls:
                call.fail(make)
            for operation in pending:
                if not operation.outcome.done():
                    operation.outcome.set_exception(make())
        except RuntimeError:  # the event loop was closed without a word, and all who waited with it
            pass

    def _give_up(self) -> None:
        """Fail what has waited long enough, counted from the outage's start where that came first."""
        now, retry_time, away = time.monotonic(), self.process.options.retry_time, self.server.away_since
        over = (away is not None and now - away >= retry_time) or self.server.unfit != ""
        # It beats and yet takes no messages (out of memory): each is tried once, as nobody else would notice the end.
        tired = self._refused_since is not None and now - self._refused_since >= retry_time

        def hopeless(operation: Operation, refusal: str = "") -> bool:
            return not operation.held and (over or now - operation.since >= retry_time or (tired and refusal != ""))

        if self._calls and (over or tired or any(call.operations[0].since + retry_time <= now for call in self._calls)):
            for call in self._calls:
                if hopeless(call.operations[0], call.refusal):
                    call.fail(partial(self._unavailable, call.refusal))
            self._calls = [call for call in self._calls if not hopeless(call.operations[0], call.refusal)]
        if over and self._pending:
            for operation in self._pending:
                if hopeless(operation) and not operation.outcome.done():
                    operation.outcome.set_exception(self._unavailable())
            self._pending = [operation for operation in self._pending if not hopeless(operation)]

    async def _exchange(self, due: list[Call], acks: Acks) -> str:
        """Send once. What was answered leaves ``_calls``; returns what went wrong, or an empty text."""
        flight = Flight([], acks, self.process.id)
        try:
            if not self.wire.connected:
                await greet(self.process, self.server, self.wire)
            flight = Flight(self._number(due), acks, self.process.id)
            commands = self._commands(flight)
            wait = replicas.FIRST_WAIT_S if flight.waits else 0.0
            result: list[Any] | Exception = await self.wire.call(commands, PATIENCE + wait, blocking=wait)
        except (ServerAway, NotNow) as error:
            result = error
        except BaseException:
            self._queue_again(acks)
            raise
        return await self._conclude(flight, result)

    async def _conclude(self, flight: Flight, result: list[Any] | Exception, refused: Collection[int] = ()) -> str:
        """Judge what came back of a pipeline; returns as ``_exchange``.

        :param refused: virtual shards where a call before it was refused.
        """
        acks = flight.acks
        try:
            if isinstance(result, Exception):
                for call in flight.calls:
                    if call.lane.shard in refused:
                        call.refused()
                    else:
                        call.doubtful = True
                return str(result)
            confirmed = result.pop() if flight.waits else None
            of_calls, of_acks = flight.split(result)
            unconfirmed = ""
            if flight.waits and any(call.stored(reply) for call, reply in zip(flight.calls, of_calls, strict=True)):
                try:
                    unconfirmed = await replicas.confirm(self.wire, self.server, self.process.options, confirmed)
                except ServerAway as error:
                    for call in flight.calls:
                        call.doubtful = True
                    return str(error)
            for (shard, tokens), reply in zip(acks, of_acks, strict=True):
                if not isinstance(reply, Exception):
                    self.process.acked(shard, tokens)
            acks = [each for each, reply in zip(acks, of_acks, strict=True) if isinstance(reply, Exception)]
            problem = await self._judge(flight.calls, of_calls, unconfirmed)
            if acks and any(isinstance(reply, UnknownScript) for reply in of_acks):
                await load_scripts(self.wire, {"ack"})
            elif acks:
                problem = problem or str(next(reply for reply in of_acks if isinstance(reply, Exception)))
            return problem
        except (ServerAway, NotNow) as error:
            return str(error)
        finally:
            self._queue_again(acks)

    async def _judge(self, calls: list[Call], replies: list[Any], unconfirmed: str) -> str:
        """Resolve what was answered. What was refused for certain loses its number and stays; returns the problem.

        :raises ServerAway, NotNow: where the remedy itself failed.
        """
        answered: set[Call] = set()
        missing: set[str] = set()
        problem, ask_epochs = "", False
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, UnknownScript):
                call.refused()
                missing.add(call.lane.script)
                continue
            if isinstance(reply, NotNow):
                call.refused(str(reply))
                problem = problem or str(reply)
                self._refused_since = self._refused_since or time.monotonic()
                continue
            if isinstance(reply, Exception):
                call.fail(partial(LayerUnavailable, f"{self.server.label} refused: {reply}"))
            elif reply[0] == b"OK":
                call.resolve(reply[1].decode(), unconfirmed)
            elif reply[0] == b"EPOCH":
                call.refused()
                if not reply[1]:
                    ask_epochs = True
                elif not self.process.adopt(call.lane.shard, reply[1].decode()):
                    call.not_before = time.monotonic() + 0.05  # a flush is under way
                continue
            elif reply[0] == b"GAP":
                call.refused()
                continue
            elif reply[0] == b"WAIT":
                call.refused()
                call.not_before = time.monotonic() + int(reply[1]) / 1000
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

    def _unavailable(self, refusal: str = "") -> Exception:
        if self.server.unfit:
            return ConfigurationError(self.server.unfit)
        if self.server.unconfirmed_since is not None and self.server.away_since is None:
            return LayerUnavailable(
                f"{self.server.label} has too few replicas that confirm what it stores (`wait_replicas` is "
                f"{self._replicas}); the message was not confirmed."
            )
        return LayerUnavailable(
            f"{self.server.label} has been away for more than {self.process.options.retry_time:g} s "
            f"({self.server.problem or refusal or 'no answer'}); the message was not confirmed."
        )
