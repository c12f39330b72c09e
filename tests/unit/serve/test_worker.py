"""The worker on Channels' in-memory layer and on layers that misbehave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.layers import InMemoryChannelLayer

from trunkline.serve.worker import Outcome, Worker

DEADLINE_S = 5.0

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Book:
    """An ASGI application whose instances write down what they get, and can be told to fail or to wait."""

    def __init__(self) -> None:
        self.handled: list[tuple[str, Any]] = []
        self.instances: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Any) -> None:
        self.instances.append(scope)
        while True:
            message = await receive()
            if message["type"] == "fail":
                raise RuntimeError("as told")
            if message["type"] == "send":
                await send({"type": "http.response"})
            self._note((scope["channel"], "begun"))
            await self.gate.wait()
            self._note((scope["channel"], message.get("n")))

    def _note(self, item: tuple[str, Any]) -> None:
        self.handled.append(item)
        self._changed.set()

    async def until(self, channel: str, item: Any) -> None:
        async def happened() -> None:
            while (channel, item) not in self.handled:
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(happened(), DEADLINE_S)

    @property
    def numbers(self) -> list[Any]:
        return [n for _, n in self.handled if n != "begun"]


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[Outcome]]:
    """The worker's run, which has to end by itself within the deadline after the test's part."""
    task = asyncio.ensure_future(worker.run())
    try:
        yield task
        await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=DEADLINE_S)


@pytest.mark.asyncio
async def test_messages_of_a_channel_are_handled_in_order_by_one_instance() -> None:
    layer, book = InMemoryChannelLayer(), Book()
    worker = Worker(book, ["jobs", "mail", "jobs"], layer)
    async with running(worker) as task:
        for n in range(20):
            await layer.send("jobs", {"type": "job", "n": n})
        await layer.send("mail", {"type": "job", "n": "letter"})
        await book.until("jobs", 19)
        await book.until("mail", "letter")
        worker.stop()
    assert task.result() is Outcome.FINISHED
    assert [n for channel, n in book.handled if channel == "jobs" and n != "begun"] == list(range(20))
    assert sorted(scope["channel"] for scope in book.instances) == ["jobs", "mail"]
    assert all(scope["type"] == "channel" for scope in book.instances)


@pytest.mark.asyncio
async def test_a_failing_consumer_is_logged_with_its_traceback_and_the_next_message_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer, book = InMemoryChannelLayer(), Book()
    worker = Worker(book, ["jobs"], layer)
    async with running(worker) as task:
        for message in ({"type": "fail"}, {"type": "job", "n": 1}, {"type": "fail"}, {"type": "job", "n": 2}):
            await layer.send("jobs", message)
        await book.until("jobs", 2)
        worker.stop()
    assert task.result() is Outcome.FINISHED
    assert book.numbers == [1, 2]
    failures = [record for record in caplog.records if record.exc_info]
    assert len(failures) == 2
    assert "as told" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.asyncio
async def test_an_instance_is_made_with_the_first_message_not_before() -> None:
    book = Book()
    worker = Worker(book, ["jobs"], InMemoryChannelLayer())
    async with running(worker) as task:
        await asyncio.wait({task}, timeout=0.05)
        worker.stop()
    assert book.instances == []


@pytest.mark.asyncio
async def test_a_message_without_a_type_is_logged_without_its_values_and_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer, book = InMemoryChannelLayer(), Book()
    worker = Worker(book, ["jobs"], layer)
    async with running(worker):
        await layer.send("jobs", {"password": "hunter2"})
        await layer.send("jobs", {"type": "", "password": "hunter2"})
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", 1)
        worker.stop()
    assert caplog.text.count("without a type on channel 'jobs'") == 2
    assert "password" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.asyncio
async def test_a_message_waits_in_the_layer_while_its_channel_is_busy() -> None:
    layer, book = InMemoryChannelLayer(), Book()
    book.gate.clear()
    worker = Worker(book, ["jobs"], layer)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", "begun")
        await layer.send("jobs", {"type": "job", "n": 2})
        worker.stop()
        done, _ = await asyncio.wait({task}, timeout=0.05)
        assert not done
        book.gate.set()
    assert task.result() is Outcome.FINISHED
    assert book.numbers == [1]
    assert (await asyncio.wait_for(layer.receive("jobs"), DEADLINE_S))["n"] == 2


@pytest.mark.asyncio
async def test_handlers_that_outlast_the_drain_time_are_cut_and_named(caplog: pytest.LogCaptureFixture) -> None:
    layer, book = InMemoryChannelLayer(), Book()
    book.gate.clear()
    worker = Worker(book, ["jobs", "mail"], layer, drain_s=0.05)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", "begun")
        worker.stop()
    assert task.result() is Outcome.CUT
    assert "cut off the running handlers of jobs:" in caplog.text
    assert book.numbers == []


@pytest.mark.asyncio
async def test_a_second_stop_does_not_wait_for_handlers() -> None:
    layer, book = InMemoryChannelLayer(), Book()
    book.gate.clear()
    worker = Worker(book, ["jobs"], layer, drain_s=3600)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", "begun")
        worker.stop()
        worker.stop()
    assert task.result() is Outcome.CUT


@pytest.mark.asyncio
async def test_a_stop_before_the_run_ends_it_at_once() -> None:
    worker = Worker(Book(), ["jobs"], InMemoryChannelLayer())
    worker.stop()
    assert await asyncio.wait_for(worker.run(), DEADLINE_S) is Outcome.FINISHED


@pytest.mark.asyncio
async def test_a_consumer_of_channels_finishes_a_handler_of_a_message_to_its_own_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = InMemoryChannelLayer()
    monkeypatch.setattr("channels.consumer.get_channel_layer", lambda alias: layer)

    async def no_database() -> None:
        return None

    monkeypatch.setattr("channels.consumer.aclose_old_connections", no_database)
    gate, begun, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Consumer(AsyncConsumer):
        async def hello(self, message: dict[str, Any]) -> None:
            await self.channel_layer.send(self.channel_name, {"type": "direct"})

        async def direct(self, message: dict[str, Any]) -> None:
            begun.set()
            await gate.wait()
            ended.set()

    worker = Worker(Consumer.as_asgi(), ["jobs"], layer)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "hello"})
        await asyncio.wait_for(begun.wait(), DEADLINE_S)
        worker.stop()
        done, _ = await asyncio.wait({task}, timeout=0.1)
        assert not done
        gate.set()
    assert ended.is_set()
    assert task.result() is Outcome.FINISHED


class Brittle(InMemoryChannelLayer):
    """A layer whose first receives fail."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)
        self.closed = 0

    async def receive(self, channel: str) -> dict[str, Any]:
        if self.errors:
            raise self.errors.pop(0)
        message: dict[str, Any] = await super().receive(channel)
        return message

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.asyncio
async def test_a_failed_receive_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    layer, book = Brittle(RuntimeError("torn"), ConnectionError("away")), Book()
    worker = Worker(book, ["jobs"], layer, first_delay_s=0.001)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", 1)
        worker.stop()
    assert task.result() is Outcome.FINISHED
    assert "next try in 0.001 s" in caplog.text
    assert "next try in 0.002 s" in caplog.text


@pytest.mark.asyncio
async def test_connection_errors_are_tried_again_for_ever() -> None:
    layer, book = Brittle(*[ConnectionError("away")] * 12), Book()
    worker = Worker(book, ["jobs"], layer, first_delay_s=0.00001)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", 1)
        worker.stop()
    assert task.result() is Outcome.FINISHED


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [0, 1], ids=["with the first message", "inside an instance"])
async def test_a_receive_that_keeps_failing_ends_the_worker_and_lets_the_other_channels_finish(
    before: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(InMemoryChannelLayer):
        received = 0

        async def receive(self, channel: str) -> dict[str, Any]:
            if channel == "broken":
                self.received += 1
                if self.received > before:
                    raise RuntimeError("torn")
            message: dict[str, Any] = await super().receive(channel)
            return message

    layer, book = Broken(), Book()
    book.gate.clear()
    worker = Worker(book, ["jobs", "broken"], layer, first_delay_s=0.00001)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", "begun")
        await layer.send("broken", {"type": "job", "n": 0})
        book.gate.set()
    assert task.result() is Outcome.FAILED
    assert "failed 10 times in a row" in caplog.text
    assert ("jobs", 1) in book.handled


@pytest.mark.asyncio
async def test_a_message_that_arrives_while_the_worker_stops_is_handled_not_lost() -> None:
    class Late(InMemoryChannelLayer):
        """Delivers although it is cancelled, as any coroutine may that is just about to return."""

        entered = asyncio.Event()

        async def receive(self, channel: str) -> dict[str, Any]:
            self.entered.set()
            try:
                return await super().receive(channel)
            except asyncio.CancelledError:
                return {"type": "job", "n": "late"}

    book = Book()
    layer = Late()
    worker = Worker(book, ["jobs"], layer)
    async with running(worker) as task:
        await asyncio.wait_for(layer.entered.wait(), DEADLINE_S)
        worker.stop()
    assert task.result() is Outcome.FINISHED
    assert book.numbers == ["late"]


@pytest.mark.asyncio
async def test_the_layer_is_closed_after_the_handlers() -> None:
    layer, book = Brittle(), Book()
    book.gate.clear()
    worker = Worker(book, ["jobs"], layer)
    async with running(worker) as task:
        await layer.send("jobs", {"type": "job", "n": 1})
        await book.until("jobs", "begun")
        worker.stop()
        await asyncio.wait({task}, timeout=0.05)
        assert layer.closed == 0
        book.gate.set()
    assert layer.closed == 1


@pytest.mark.asyncio
async def test_a_consumer_that_answers_to_a_client_is_told_that_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    layer, book = InMemoryChannelLayer(), Book()
    worker = Worker(book, ["jobs"], layer)
    with caplog.at_level(logging.ERROR):
        async with running(worker):
            await layer.send("jobs", {"type": "send"})
            await layer.send("jobs", {"type": "job", "n": 1})
            await book.until("jobs", 1)
            worker.stop()
    assert "'http.response' to its client" in caplog.text
