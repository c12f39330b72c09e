"""Each message once, to one reader, in order."""

from __future__ import annotations

import asyncio
import time

import channels.exceptions
import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import (
    Collector,
    Tasks,
    assert_silent,
    numbered,
    numbers,
    patience,
    receive,
    receive_many,
    within,
)

MANY_CHANNELS = 1000


class Delivery(Contract):
    """Delivery: what channels must do with messages."""

    @pytest.mark.asyncio
    async def test_a_message_sent_before_the_receive_arrives_once(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        await layer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)
        await assert_silent(layer, name)

    @requires("persistence")
    @pytest.mark.asyncio
    async def test_a_message_on_a_normal_channel_waits_for_its_reader_and_arrives_once(
        self, layer: ChannelLayer, names: Names
    ) -> None:
        channel = names.channel()
        await layer.send(channel, numbered(1))
        assert await receive(layer, channel) == numbered(1)
        await assert_silent(layer, channel)

    @pytest.mark.asyncio
    async def test_a_waiting_receive_gets_the_message(self, layer: ChannelLayer, names: Names, tasks: Tasks) -> None:
        name, channel = await layer.new_channel(), names.channel()
        specific, normal = await tasks.start_waiting(receive(layer, name), receive(layer, channel))
        await layer.send(name, numbered(1))
        await layer.send(channel, numbered(2))
        assert (await specific, await normal) == (numbered(1), numbered(2))

    @pytest.mark.asyncio
    async def test_equal_messages_are_two_messages(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        await layer.send(name, numbered(1))
        await layer.send(name, numbered(1))
        assert await receive_many(layer, name, 2) == [numbered(1), numbered(1)]

    @pytest.mark.asyncio
    async def test_receivers_of_a_normal_channel_share_its_messages_and_none_gets_one_twice(
        self, make_layer: LayerMaker, names: Names, tasks: Tasks
    ) -> None:
        layer, channel = make_layer(capacity=1000), names.channel()
        collector = Collector(200)
        await tasks.start_waiting(*(collector.read(lambda: layer.receive(channel)) for _ in range(4)))
        for number in range(200):
            await layer.send(channel, numbered(number))
        await collector.complete(10)
        assert sorted(collector.numbers) == list(range(200))

    @pytest.mark.asyncio
    async def test_one_writers_messages_keep_their_order_on_a_process_specific_channel(
        self, make_layer: LayerMaker
    ) -> None:
        layer = make_layer(capacity=1000)
        name = await layer.new_channel()
        for number in range(500):
            await layer.send(name, numbered(number))
        assert numbers(await receive_many(layer, name, 500, 10)) == list(range(500))

    @pytest.mark.asyncio
    async def test_order_holds_while_reader_and_writer_work_at_once(self, make_layer: LayerMaker, tasks: Tasks) -> None:
        layer = make_layer(capacity=1000)
        name = await layer.new_channel()
        reading = tasks.start(receive_many(layer, name, 500, 10))
        for number in range(500):
            await layer.send(name, numbered(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        assert numbers(await reading) == list(range(500))

    @requires("persistence", "ordered_normal_channels")
    @pytest.mark.asyncio
    async def test_a_normal_channel_with_one_writer_and_one_reader_keeps_its_order(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        layer, channel = make_layer(capacity=1000), names.channel()
        for number in range(300):
            await layer.send(channel, numbered(number))
        assert numbers(await receive_many(layer, channel, 300, 10)) == list(range(300))

    @pytest.mark.asyncio
    async def test_a_send_never_waits_for_a_reader(self, make_layer: LayerMaker, names: Names) -> None:
        layer, channel = make_layer(capacity=6), names.channel()
        started = time.monotonic()
        for number in range(12):  # the seventh may be refused, but must not wait
            try:
                await within(layer.send(channel, numbered(number)), 2, "the end of a send")
            except channels.exceptions.ChannelFull:
                pass
        assert time.monotonic() - started < 2

    @pytest.mark.asyncio
    async def test_channels_do_not_mix(self, layer: ChannelLayer) -> None:
        first, second = await layer.new_channel(), await layer.new_channel()
        await layer.send(second, numbered(2))
        await layer.send(first, numbered(1))
        assert await receive(layer, first) == numbered(1)
        assert await receive(layer, second) == numbered(2)

    @pytest.mark.asyncio
    async def test_each_of_a_thousand_channels_is_readable(self, make_layer: LayerMaker) -> None:
        layer = make_layer(capacity=2 * MANY_CHANNELS)  # enough where a process has one count for all its channels
        made = [await layer.new_channel() for _ in range(MANY_CHANNELS)]
        for start in range(0, MANY_CHANNELS, 50):
            batch = range(start, start + 50)
            await asyncio.gather(*(layer.send(made[number], numbered(number)) for number in batch))

        receiving = [asyncio.ensure_future(layer.receive(channel)) for channel in made]
        await asyncio.wait(receiving, timeout=2 * patience())
        received = [
            task.result()["number"] if task.done() and not task.cancelled() and not task.exception() else None
            for task in receiving
        ]
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)
        deaf = [number for number, got in enumerate(received) if got != number]
        assert not deaf, f"{len(deaf)} of {MANY_CHANNELS} channels did not get their message"

    @pytest.mark.asyncio
    async def test_a_busy_channel_does_not_keep_a_quiet_one_from_its_message(self, make_layer: LayerMaker) -> None:
        layer = make_layer(capacity=1000)
        busy, quiet = await layer.new_channel(), await layer.new_channel()
        for number in range(500):
            await layer.send(busy, numbered(number))
        await layer.send(quiet, numbered(-1))
        assert await receive(layer, quiet) == numbered(-1)
        assert numbers(await receive_many(layer, busy, 500, 10)) == list(range(500))


class FurtherDelivery(Contract):
    """Delivery beyond the specification: more kinds of readers."""

    @requires("persistence")
    @pytest.mark.asyncio
    async def test_a_name_with_a_mark_that_no_process_owns_is_a_channel_of_its_own(
        self, layer: ChannelLayer, names: Names, tasks: Tasks
    ) -> None:
        channel = f"{names.channel('custom')}!foobar"
        await layer.send(channel, numbered(1))
        assert await receive(layer, channel) == numbered(1)
        [receiving] = await tasks.start_waiting(receive(layer, channel))
        await layer.send(channel, numbered(2))
        assert await receiving == numbered(2)
        await assert_silent(layer, channel)

    @requires("prefix_receive")
    @pytest.mark.asyncio
    async def test_a_receive_of_the_full_name_goes_before_one_of_the_prefix(
        self, layer: ChannelLayer, tasks: Tasks
    ) -> None:
        name = await layer.new_channel()
        head = name.partition("!")[0] + "!"
        by_prefix, by_name = await tasks.start_waiting(receive(layer, head), receive(layer, name))
        await layer.send(name, numbered(1))
        assert await by_name == numbered(1)
        await layer.send(name, numbered(2))
        assert await by_prefix == numbered(2)

    @pytest.mark.asyncio
    async def test_receivers_of_one_process_specific_channel_get_each_message_once(
        self, make_layer: LayerMaker, tasks: Tasks
    ) -> None:
        layer = make_layer(capacity=1000)
        name = await layer.new_channel()
        readers = await tasks.start_waiting(*(receive_many(layer, name, 50, 10) for _ in range(3)))
        for number in range(150):
            await layer.send(name, numbered(number))
        received = [message for reader in readers for message in await reader]
        assert sorted(numbers(received)) == list(range(150))

    @pytest.mark.asyncio
    async def test_many_receivers_wait_side_by_side(self, make_layer: LayerMaker, names: Names, tasks: Tasks) -> None:
        layer = make_layer(capacity=1000)
        targets = [await layer.new_channel() for _ in range(100)] + [names.channel() for _ in range(20)]
        waiting = await tasks.start_waiting(*(receive(layer, channel, 10) for channel in targets))
        await asyncio.gather(*(layer.send(channel, numbered(number)) for number, channel in enumerate(targets)))
        assert numbers([await task for task in waiting]) == list(range(len(targets)))
