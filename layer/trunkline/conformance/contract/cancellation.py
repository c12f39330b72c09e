"""A receive that is cancelled loses nothing: consumers end, timeouts strike, and the message is for somebody."""

from __future__ import annotations

import asyncio
import random

import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.cancelling import receive_under_cancellation
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import Tasks, cancelled, numbered, numbers, receive, receive_many, within

MESSAGES = 2000
ROUNDS = 200


class Cancellation(Contract):
    """Cancelled receives."""

    @pytest.mark.asyncio
    async def test_cancelled_receives_on_a_process_specific_channel_lose_nothing(
        self, make_layer: LayerMaker, tasks: Tasks
    ) -> None:
        layer = make_layer(capacity=MESSAGES)
        name = await layer.new_channel()
        received = await self._exchange(layer, name, tasks, seed=1)
        self._assert_complete(received)
        assert received == list(range(MESSAGES)), "the order changed"

    @requires("persistence")
    @pytest.mark.asyncio
    async def test_cancelled_receives_on_a_normal_channel_lose_nothing(
        self, make_layer: LayerMaker, names: Names, tasks: Tasks
    ) -> None:
        layer, channel = make_layer(capacity=3 * MESSAGES), names.channel()
        self._assert_complete(await self._exchange(layer, channel, tasks, seed=2))

    @requires("persistence", "ordered_normal_channels")
    @pytest.mark.asyncio
    async def test_cancelled_receives_keep_the_order_of_a_normal_channel(
        self, make_layer: LayerMaker, names: Names, tasks: Tasks
    ) -> None:
        layer, channel = make_layer(capacity=3 * MESSAGES), names.channel()
        received = await self._exchange(layer, channel, tasks, seed=3)
        self._assert_complete(received)
        assert received == list(range(MESSAGES)), "the order changed"

    async def _exchange(self, layer: ChannelLayer, channel: str, tasks: Tasks, seed: int) -> list[int]:
        chance = random.Random(seed)

        async def write() -> None:
            for number in range(MESSAGES):
                await layer.send(channel, numbered(number))
                if chance.random() < 0.1:
                    await asyncio.sleep(chance.random() * 0.003)

        writing = tasks.start(write())
        received, cancellations = await within(
            receive_under_cancellation(layer, channel, MESSAGES, seed, writing.done), 60, "the end of the exchange"
        )
        await writing
        assert cancellations > 100, "hardly anything was cancelled, so this test showed nothing"
        # A doubled message would be next.
        again = tasks.start(layer.receive(channel))
        await asyncio.wait({again}, timeout=0.2)
        await cancelled(again)
        return received if again.cancelled() else [*received, again.result()["number"]]

    @staticmethod
    def _assert_complete(received: list[int]) -> None:
        lost, doubled = MESSAGES - len(set(received)), len(received) - len(set(received))
        assert (lost, doubled) == (0, 0), f"{lost} messages lost and {doubled} doubled of {MESSAGES}"

    @pytest.mark.asyncio
    async def test_a_cancelled_receive_leaves_the_message_to_the_next_one(
        self, layer: ChannelLayer, names: Names, tasks: Tasks
    ) -> None:
        name = await layer.new_channel()
        [first] = await tasks.start_waiting(layer.receive(name))
        await cancelled(first)
        await layer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)

    @pytest.mark.asyncio
    async def test_messages_behind_a_cancelled_receive_stay_in_order(self, layer: ChannelLayer, tasks: Tasks) -> None:
        name = await layer.new_channel()
        for _ in range(20):
            [waiting] = await tasks.start_waiting(layer.receive(name))
            for number in range(5):
                await layer.send(name, numbered(number))
            await cancelled(waiting)
            received = [] if waiting.cancelled() else [waiting.result()]
            received += await receive_many(layer, name, 5 - len(received))
            assert numbers(received) == [0, 1, 2, 3, 4]

    @pytest.mark.asyncio
    async def test_a_message_for_a_cancelled_receive_goes_to_another_that_waits(
        self, layer: ChannelLayer, names: Names, tasks: Tasks
    ) -> None:
        await self._second_receiver_gets_it(layer, names.channel(), tasks)

    @pytest.mark.asyncio
    async def test_a_message_for_a_cancelled_receive_of_a_process_specific_channel_goes_to_another_that_waits(
        self, layer: ChannelLayer, tasks: Tasks
    ) -> None:
        await self._second_receiver_gets_it(layer, await layer.new_channel(), tasks)

    async def _second_receiver_gets_it(self, layer: ChannelLayer, channel: str, tasks: Tasks) -> None:
        chance = random.Random(4)
        for number in range(ROUNDS):
            first, second = tasks.start(layer.receive(channel)), tasks.start(layer.receive(channel))
            await asyncio.sleep(0.002)
            if number % 3 == 0:
                await cancelled(first)  # before there is anything to lose
            await layer.send(channel, numbered(number))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(chance.choice([0, 0.0005]))
            first.cancel()  # while the message may be on its way to it
            await asyncio.wait({first}, timeout=5)
            if first.done() and not first.cancelled():
                assert first.result() == numbered(number)
                await cancelled(second)
                assert second.cancelled(), f"message {number} was received, and {second.result()} by the other receiver"
            else:
                received = await within(second, what=f"message {number}, which a cancelled receive left behind,")
                assert received == numbered(number)
