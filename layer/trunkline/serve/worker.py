"""The worker: takes messages from named channels and runs the project's application on them.

As in Channels, each channel has one application instance with the scope ``{"type": "channel", "channel": name}``,
made when the first message comes, and its messages are handled one after the other in the order in which they
were received. Beyond Channels:

- A message is taken from the layer only when the instance asks for it, so what waits stays in the layer for other
  workers and survives this one.
- An instance that fails is logged with its traceback; the next message gets a new one.
- :meth:`Worker.stop` lets running handlers finish.
- At least once, if that is asked for: a message stays on its server until its handler has returned, and is given
  again when the handler failed or the worker died. Its key ``trunkline.deliveries`` tells how often it was given.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
from collections.abc import Awaitable, Iterable
from typing import Any, NamedTuple

from asgiref.compatibility import guarantee_single_callable
from channels.exceptions import StopConsumer

from trunkline.serve.lifecycle import DEFAULT_DRAIN_S

logger = logging.getLogger("trunkline.worker")

_CUT_DEADLINE_S = 2.0  # for handlers to end once they are cancelled; a thread that goes on can't be stopped anyway
_CLOSE_DEADLINE_S = 2.0  # for the layer to give back what it took
_FIRST_DELAY_S = 0.5  # before a failed receive is tried again; doubles up to the longest
_LONGEST_DELAY_S = 30.0
DELIVERIES = "trunkline.deliveries"  # in messages that are delivered at least once

_FAILURES = 10  # in a row, about two minutes: more means that trying again is no remedy


class Outcome(enum.Enum):
    """How a worker's run ended."""

    FINISHED = "every handler finished"
    CUT = "handlers were cut off at the end of the drain time"
    FAILED = "a channel couldn't be listened to"


class Worker:
    """Serves ``channels`` of ``layer`` with ``application`` until it is stopped.

    :param application: an ASGI application that accepts scopes of the type ``channel``.
    :param channels: channel names; each is served once, however often it is given.
    :param layer: any channel layer.
    :param at_least_once: whether messages are kept until their handlers have returned; the layer must be able to.
    :param drain_s: seconds that running handlers may take after :meth:`stop`.
    :param first_delay_s: seconds before a failed receive is tried again for the first time.
    """

    def __init__(
        self,
        application: Any,
        channels: Iterable[str],
        layer: Any,
        *,
        at_least_once: bool = False,
        drain_s: float = DEFAULT_DRAIN_S,
        first_delay_s: float = _FIRST_DELAY_S,
    ) -> None:
        self.application = guarantee_single_callable(application)  # type: ignore[no-untyped-call]
        self.channels = tuple(dict.fromkeys(channels))
        self.layer = layer
        self.at_least_once = at_least_once
        self.drain_s = drain_s
        self.first_delay_s = first_delay_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops = 0
        self._cutting = False  # tasks of listeners are being cancelled
        self._stopping: asyncio.Future[None] | None = None  # done: take no more messages
        self._hurrying: asyncio.Future[None] | None = None  # done: don't wait for handlers any longer

    def stop(self) -> None:
        """Take no more messages and let running handlers finish; said twice, don't wait for them.

        May be called from any thread and from signal handlers, before :meth:`run` too.
        """
        self._stops += 1
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._react)
            except RuntimeError:
                pass  # the loop is closed: there is nothing left to stop

    async def run(self) -> Outcome:
        """Serve until :meth:`stop`, then drain and close the layer.

        Nothing that an application raises ends the run. A channel that can't be received from is tried again with
        growing pauses; ten failures in a row that aren't connection errors end the run as ``FAILED``.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping, self._hurrying = self._loop.create_future(), self._loop.create_future()
        self._react()
        listeners = {asyncio.ensure_future(each.run()): each for each in (_Listener(self, c) for c in self.channels)}
        try:
            outcome = await self._supervise(listeners)
        finally:
            # Only has an effect when run() itself is cancelled.
            self._cutting = True
            for task in listeners:
                task.cancel()
            await self._close_layer()
        return outcome

    async def _supervise(self, listeners: dict[asyncio.Task[None], _Listener]) -> Outcome:
        assert self._stopping is not None
        assert self._hurrying is not None
        running: set[asyncio.Future[None]] = set(listeners)
        while running and not self._stopping.done():
            done, _ = await asyncio.wait({*running, self._stopping}, return_when=asyncio.FIRST_COMPLETED)
            running -= done
            if done - {self._stopping}:
                break  # a listener only ends before the worker when it failed
        self._stops = max(self._stops, 1)
        self._react()
        busy = sorted(each.channel for each in listeners.values() if each.busy)
        if busy:
            logger.info("stopping: up to %g s for the handlers of %s", self.drain_s, ", ".join(busy))
        deadline = asyncio.get_running_loop().time() + self.drain_s
        while running and not self._hurrying.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
            done, _ = await asyncio.wait({*running, self._hurrying}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            running -= done
        if not running:
            failed = any(task.exception() is not None for task in listeners)
            return Outcome.FAILED if failed else Outcome.FINISHED
        self._cutting = True
        cut = sorted(listeners[task].channel for task in running)  # type: ignore[index]
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_CUT_DEADLINE_S)
        logger.error("cut off the running handlers of %s: they took longer than the drain time", ", ".join(cut))
        return Outcome.CUT

    def _react(self) -> None:
        for future, needed in ((self._stopping, 1), (self._hurrying, 2)):
            if self._stops >= needed and future is not None and not future.done():
                future.set_result(None)

    async def _close_layer(self) -> None:
        # Channels' own layers have no close() in common; channels_redis calls it close_pools().
        close = getattr(self.layer, "close", None) or getattr(self.layer, "close_pools", None)
        if close is None:
            return
        try:
            closing = close()
            if inspect.isawaitable(closing):
                await asyncio.wait_for(closing, _CLOSE_DEADLINE_S)
        except Exception:
            logger.warning("the channel layer could not be closed", exc_info=True)


class _Taken(NamedTuple):
    """A message, and the delivery that has to be told what became of it, if there is one."""

    message: dict[str, Any]
    delivery: Any


class _Listener:
    """One channel of a worker: takes its messages, one at a time, and keeps an application instance for them."""

    def __init__(self, worker: Worker, channel: str) -> None:
        self.channel = channel
        self.busy = False  # the application has a message and hasn't asked for the next one
        self._worker = worker
        self._failed = False  # the layer failed for good: that isn't the application's failure
        self._kept: list[_Taken] = []  # taken from the layer, not yet given to the application
        self._given: Any = None  # the delivery of the message that the application has

    async def run(self) -> None:
        """Serve until the worker stops.

        :raises Exception: what the layer raised when receiving failed too often.
        """
        while (taken := await self._take()) is not None:
            self._kept.append(taken)
            await self._run_instance()

    async def _run_instance(self) -> None:
        self.busy = True
        try:
            scope = {"type": "channel", "channel": self.channel}
            await self._worker.application(scope, self._receive, self._send)
            await self._finish()
        except StopConsumer:
            await self._finish()
        except asyncio.CancelledError:
            if self._worker._cutting:
                raise  # what it has goes back when the layer closes
            logger.error("a consumer of channel %r cancelled itself; its next message gets a new one", self.channel)
            await self._fail("its consumer cancelled itself")
        except Exception as exc:
            if self._failed:
                raise
            logger.exception("a consumer of channel %r failed; its next message gets a new one", self.channel)
            await self._fail(f"{type(exc).__name__}: {exc}")
        finally:
            self.busy = False

    async def _finish(self) -> None:
        """The message that the application had is done."""
        if self._given is not None:
            delivery, self._given = self._given, None
            await self._tell(delivery.done())

    async def _fail(self, reason: str) -> None:
        if self._given is not None:
            delivery, self._given = self._given, None
            await self._tell(delivery.failed(reason))

    async def _tell(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except Exception as exc:
            logger.warning("a message on channel %r will be given again, its server wasn't told: %s", self.channel, exc)

    async def _receive(self) -> dict[str, Any]:
        # A consumer asks for its next message when the handler of the last one has returned.
        await self._finish()
        self.busy = False
        taken = await self._take()
        if taken is None:
            # Consumers end cleanly on this, and only look at it when no handler is running: not even one of a
            # message to their own channel, about which this worker knows nothing.
            raise StopConsumer
        self.busy = True
        self._given = taken.delivery
        return taken.message

    async def _send(self, message: dict[str, Any]) -> None:
        raise RuntimeError(
            f"A consumer of channel {self.channel!r} sent {message.get('type')!r} to its client, but messages on "
            "channels have none; answer through the channel layer, with send() or group_send()."
        )

    async def _take(self) -> _Taken | None:
        """The next message with a type; ``None`` when the worker stops."""
        failures = 0
        stopping = self._worker._stopping
        assert stopping is not None
        while True:
            if self._kept:
                return self._kept.pop(0)
            if stopping.done():
                return None
            try:
                taken = await self._receive_or_stop(stopping)
            except Exception as exc:
                failures += 1
                if failures >= _FAILURES and not isinstance(exc, OSError):
                    self._failed = True
                    logger.exception("receiving from channel %r failed %d times in a row", self.channel, failures)
                    raise
                delay = min(_LONGEST_DELAY_S, self._worker.first_delay_s * 2 ** min(failures - 1, 16))
                logger.warning("receiving from channel %r failed; next try in %g s", self.channel, delay, exc_info=True)
                await asyncio.wait({stopping}, timeout=delay)
                continue
            if taken is None:
                continue
            failures = 0
            if taken.message.get("type"):
                return taken
            # The values may be private; the keys are enough to find the sender.
            keys = [key for key in taken.message if key != DELIVERIES]
            logger.error("dropped a message without a type on channel %r; its keys: %s", self.channel, keys)
            if taken.delivery is not None:
                await self._tell(taken.delivery.failed("it has no type", again=False))

    async def _from_layer(self) -> _Taken:
        if not self._worker.at_least_once:
            return _Taken(await self._worker.layer.receive(self.channel), None)
        delivery = await self._worker.layer.receive_reliably(self.channel)
        return _Taken({**delivery.message, DELIVERIES: delivery.deliveries}, delivery)

    async def _receive_or_stop(self, stopping: asyncio.Future[None]) -> _Taken | None:
        """One receive of the layer; ``None`` when the worker stops first. A message is never lost on the way."""
        reading: asyncio.Task[_Taken] = asyncio.ensure_future(self._from_layer())
        waiting: set[asyncio.Future[Any]] = {reading, stopping}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._give_back(reading)  # the instance that asked is gone
            raise
        if reading.done():
            return reading.result()
        await self._give_back(reading)
        return None

    async def _give_back(self, reading: asyncio.Task[_Taken]) -> None:
        """Cancel a receive: the layer keeps what isn't delivered yet, what is delivered at this moment is kept here."""
        if not reading.done():
            reading.cancel()
            await asyncio.wait({reading})
        if not reading.cancelled() and reading.exception() is None:
            self._kept.append(reading.result())
