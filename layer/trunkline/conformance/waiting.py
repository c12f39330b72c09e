"""Waiting with a deadline, and proving that nothing comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, TypeVar

from trunkline.conformance.api import ChannelLayer, Message

T = TypeVar("T")

END_DEADLINE_S = 5.0  # for the end of something that was cancelled or closed
QUIET_S = 0.25  # how long nothing may come; above the delay of a reader that polls ten times a second


class _Patience:
    """How long the running test waits where it says nothing else; set from the layer's capabilities."""

    seconds = 5.0  # far above any layer's usual delay, so that a busy machine doesn't fail a good layer


def set_patience(seconds: float) -> None:
    _Patience.seconds = seconds


def patience() -> float:
    """Seconds within which a message that comes at all must have come."""
    return _Patience.seconds


async def within(awaitable: Awaitable[T], deadline_s: float | None = None, what: str = "") -> T:
    """Await with a deadline, by default the patience of the layer under test.

    Unlike ``asyncio.wait_for`` it can't take a TimeoutError of the layer for its own.

    :raises AssertionError: when the deadline passes; the awaitable is cancelled.
    """
    deadline_s = deadline_s or _Patience.seconds
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait({task}, timeout=deadline_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    await cancelled(task)
    raise AssertionError(f"{what or 'what was awaited'} did not come within {deadline_s:g} s")


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end: it may be cancelled, have a result, or have failed.

    :raises AssertionError: when it goes on as if nothing had happened.
    """
    task.cancel()
    await asyncio.wait({task}, timeout=_Patience.seconds)
    if not task.done():
        raise AssertionError(f"a task that was cancelled did not end within {_Patience.seconds:g} s: {task!r}")
    if not task.cancelled():
        task.exception()  # looked at, so that nobody warns about it


async def receive(layer: ChannelLayer, channel: str, deadline_s: float | None = None) -> Message:
    """Receive one message with a deadline."""
    return await within(layer.receive(channel), deadline_s, f"a message on {channel!r}")


async def receive_many(layer: ChannelLayer, channel: str, count: int, deadline_s: float | None = None) -> list[Message]:
    """Receive ``count`` messages one after the other, all of them by one deadline."""
    end = time.monotonic() + (deadline_s or _Patience.seconds)
    received: list[Message] = []
    for number in range(count):
        left = max(end - time.monotonic(), 0.001)
        received.append(await within(layer.receive(channel), left, f"message {number + 1} of {count} on {channel!r}"))
    return received


async def assert_silent(layer: ChannelLayer, *channels: str, quiet_s: float = QUIET_S) -> None:
    """Nothing may be received on any of the channels for ``quiet_s`` seconds."""
    tasks = {asyncio.ensure_future(layer.receive(channel)): channel for channel in channels}
    done, _ = await asyncio.wait(tasks, timeout=quiet_s)
    for task in tasks:
        await cancelled(task)
    received = {tasks[task]: task.result() for task in done}
    assert not received, f"nothing was to come, but this did: {received!r}"


async def eventually(attempt: Callable[[], Awaitable[T]], deadline_s: float | None = None) -> T:
    """Repeat ``attempt`` until it raises no AssertionError; after the deadline its last one stands."""
    end = time.monotonic() + (deadline_s or _Patience.seconds)
    while True:
        try:
            return await attempt()
        except AssertionError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.02)


class Tasks:
    """Tasks of one test; whatever is still running when it ends is cancelled and awaited."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            done, _ = await asyncio.wait(self._tasks, timeout=END_DEADLINE_S)
            for task in done:
                if not task.cancelled():
                    task.exception()  # looked at, so that nobody warns about it

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.append(task)
        return task

    async def start_waiting(self, *coroutines: Coroutine[Any, Any, T]) -> list[asyncio.Task[T]]:
        """Start receives and let them get as far as the wait for a message.

        The contract has no call that says "now it waits", so the loop gets some turns and a moment; nothing that is
        promised depends on it.
        """
        tasks = [self.start(coroutine) for coroutine in coroutines]
        await asyncio.sleep(0.05)
        return tasks


class Collector:
    """Gathers numbered messages from several readers at once, until ``count`` have come."""

    def __init__(self, count: int) -> None:
        self.numbers: list[int] = []
        self._count = count
        self._complete = asyncio.Event()

    async def read(self, receive_one: Callable[[], Awaitable[Message]]) -> None:
        """Receive for ever."""
        while True:
            self.numbers.append((await receive_one())["number"])
            if len(self.numbers) >= self._count:
                self._complete.set()

    async def complete(self, deadline_s: float) -> None:
        """Wait for the last message, and a moment longer for one that should not come."""
        await asyncio.wait({asyncio.ensure_future(self._complete.wait())}, timeout=deadline_s)
        self._complete.set()
        await asyncio.sleep(0.1)


def numbers(messages: Iterable[Message]) -> list[int]:
    """The sequence numbers of messages made by :func:`numbered`."""
    return [message["number"] for message in messages]


def numbered(number: int) -> Message:
    """A message with a sequence number."""
    return {"type": "test.numbered", "number": number}
