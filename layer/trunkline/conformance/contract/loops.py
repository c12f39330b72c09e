"""Any event loop and any thread: layers are made once in a process and used from all of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from asgiref.sync import async_to_sync

from trunkline.conformance.api import ChannelLayer, Message
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import numbered, numbers, receive, receive_many, within

T = TypeVar("T")
JOIN_DEADLINE_S = 15.0


def in_threads(*calls: Callable[[], T]) -> list[T]:
    """Run the calls at once, each in a thread of its own, and return their results."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(JOIN_DEADLINE_S) for future in [pool.submit(call) for call in calls]]


def _throw_away(task: asyncio.Task[Any]) -> None:
    """End what a closed loop left, now and silently, rather than when the collector finds it in some later test."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    try:
        task.get_coro().close()
    except RuntimeError:
        pass  # its clean-up asked for the closed loop


class Loops(Contract):
    """Event loops and threads."""

    @requires("loops")
    def test_a_channel_made_and_sent_to_in_one_loop_is_read_in_another(self, loopless_layer: ChannelLayer) -> None:
        name = asyncio.run(loopless_layer.new_channel())
        asyncio.run(loopless_layer.send(name, numbered(1)))
        assert asyncio.run(receive(loopless_layer, name)) == numbered(1)

    @requires("loops", "groups")
    def test_a_membership_made_in_one_loop_holds_in_another(self, loopless_layer: ChannelLayer, names: Names) -> None:
        name, group = asyncio.run(loopless_layer.new_channel()), names.group()
        asyncio.run(loopless_layer.group_add(group, name))
        asyncio.run(loopless_layer.group_send(group, numbered(1)))
        assert asyncio.run(receive(loopless_layer, name)) == numbered(1)
        asyncio.run(loopless_layer.group_discard(group, name))
        asyncio.run(loopless_layer.group_send(group, numbered(2)))
        asyncio.run(loopless_layer.send(name, numbered(3)))
        assert asyncio.run(receive(loopless_layer, name)) == numbered(3)

    @requires("loops")
    def test_messages_that_a_closed_loop_did_not_read_are_kept(self, loopless_layer: ChannelLayer) -> None:
        async def read_one_of_three() -> str:
            name = await loopless_layer.new_channel()
            for number in range(3):
                await loopless_layer.send(name, numbered(number))
            assert await receive(loopless_layer, name) == numbered(0)
            return name

        name = asyncio.run(read_one_of_three())
        assert numbers(asyncio.run(receive_many(loopless_layer, name, 2))) == [1, 2]

    @requires("loops")
    def test_receivers_of_a_loop_that_closed_without_a_word_take_nothing(
        self, loopless_layer: ChannelLayer, names: Names
    ) -> None:
        channel = names.channel()

        async def leave_receivers(name: str) -> None:
            abandoned.extend(asyncio.create_task(loopless_layer.receive(target)) for target in (name, channel))
            await asyncio.sleep(0.1)

        async def use(name: str) -> list[Message]:
            waiting = [asyncio.ensure_future(receive(loopless_layer, target)) for target in (name, channel)]
            await asyncio.sleep(0.1)
            await loopless_layer.send(name, numbered(1))
            await loopless_layer.send(channel, numbered(2))
            return list(await asyncio.gather(*waiting))

        abandoned: list[asyncio.Task[Message]] = []
        name = asyncio.run(loopless_layer.new_channel())
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)  # it would log that tasks were destroyed, as intended
        loop.run_until_complete(leave_receivers(name))
        loop.close()
        try:
            assert asyncio.run(use(name)) == [numbered(1), numbered(2)]
        finally:
            for task in abandoned:
                _throw_away(task)

    @requires("threads")
    @pytest.mark.asyncio
    async def test_a_plain_thread_sends_with_async_to_sync(self, layer: ChannelLayer, names: Names) -> None:
        name, group = await layer.new_channel(), names.group()
        await layer.group_add(group, name)
        waiting = asyncio.ensure_future(receive_many(layer, name, 2))
        await asyncio.sleep(0.05)

        def send() -> None:
            async_to_sync(layer.send)(name, numbered(1))
            async_to_sync(layer.group_send)(group, numbered(2))

        await asyncio.get_running_loop().run_in_executor(None, send)
        assert sorted(numbers(await waiting)) == [1, 2]

    @requires("threads", "loops")
    def test_a_hundred_sends_from_threads_all_arrive_and_warn_of_nothing(self, loopless_layer: ChannelLayer) -> None:
        name = asyncio.run(loopless_layer.new_channel())

        def send(first: int) -> None:
            for number in range(first, first + 25):
                async_to_sync(loopless_layer.send)(name, numbered(number))

        gc.collect()  # what earlier tests left is not ours
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            in_threads(*(lambda first=first: send(first) for first in range(0, 100, 25)))
            gc.collect()
        assert [str(warning.message) for warning in caught] == []
        assert sorted(numbers(asyncio.run(receive_many(loopless_layer, name, 100)))) == list(range(100))

    @requires("threads", "loops")
    def test_loops_in_two_threads_exchange_messages(self, loopless_layer: ChannelLayer) -> None:
        names = [asyncio.run(loopless_layer.new_channel()) for _ in range(2)]

        async def play(own: str, other: str, first: bool) -> list[int]:
            received: list[int] = []
            for number in range(50):
                if first:
                    await loopless_layer.send(other, numbered(number))
                received.append((await receive(loopless_layer, own))["number"])
                if not first:
                    await loopless_layer.send(other, numbered(number))
            return received

        results = in_threads(
            lambda: asyncio.run(play(names[0], names[1], True)), lambda: asyncio.run(play(names[1], names[0], False))
        )
        assert results == [list(range(50)), list(range(50))]

    @requires("threads", "persistence")
    def test_loops_in_two_threads_share_a_normal_channel(self, loopless_layer: ChannelLayer, names: Names) -> None:
        channel = names.channel()
        received: list[int] = []
        complete = threading.Event()

        async def read() -> None:
            async def collect() -> None:
                while True:
                    received.append((await loopless_layer.receive(channel))["number"])
                    if len(received) >= 100:
                        complete.set()

            collecting = asyncio.ensure_future(collect())
            await asyncio.get_running_loop().run_in_executor(None, complete.wait, 10)
            collecting.cancel()
            await asyncio.wait({collecting}, timeout=5)

        async def write() -> None:
            for number in range(100):
                await within(loopless_layer.send(channel, numbered(number)))

        in_threads(lambda: asyncio.run(read()), lambda: asyncio.run(read()), lambda: asyncio.run(write()))
        assert sorted(received) == list(range(100))

    @requires("processes")
    @pytest.mark.asyncio
    async def test_two_layer_objects_of_one_process_are_two_readers(self, make_layer: LayerMaker, names: Names) -> None:
        first, second = make_layer(), make_layer()
        group = names.group()
        own: list[tuple[Any, str]] = [(layer, await layer.new_channel()) for layer in (first, second)]
        for layer, name in own:
            await layer.group_add(group, name)
        await first.send(own[1][1], numbered(1))
        await second.send(own[0][1], numbered(2))
        await first.group_send(group, numbered(3))
        assert numbers(await receive_many(first, own[0][1], 2)) == [2, 3]
        assert sorted(numbers(await receive_many(second, own[1][1], 2))) == [1, 3]
