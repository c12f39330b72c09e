"""Bounded channels: when a send is refused, and when there is room again."""

from __future__ import annotations

import re

import channels.exceptions
import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import eventually, numbered, numbers, receive, receive_many, within

ChannelFull = channels.exceptions.ChannelFull


async def room(layer: ChannelLayer, channel: str, at_most: int = 50) -> int:
    """Send until the channel is full; return how many messages it took."""
    for number in range(at_most):
        try:
            await within(layer.send(channel, numbered(number)))
        except ChannelFull:
            return number
    return at_most


class Capacity(Contract):
    """Capacity: bounds and ChannelFull."""

    @requires("capacity", "persistence")
    @pytest.mark.asyncio
    async def test_a_normal_channel_takes_as_many_unread_messages_as_its_capacity(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        layer, channel = make_layer(capacity=6), names.channel()
        assert await room(layer, channel) == 6
        assert sorted(numbers(await receive_many(layer, channel, 6))) == list(range(6))

    @requires("capacity")
    @pytest.mark.asyncio
    async def test_a_process_specific_channel_takes_as_many_unread_messages_as_its_capacity(
        self, make_layer: LayerMaker
    ) -> None:
        layer = make_layer(capacity=5)
        name = await layer.new_channel()
        assert await room(layer, name) == 5
        assert numbers(await receive_many(layer, name, 5)) == list(range(5))

    @requires("capacity", "persistence")
    @pytest.mark.asyncio
    async def test_a_capacity_of_one_takes_one(self, make_layer: LayerMaker, names: Names) -> None:
        layer = make_layer(capacity=1)
        name, channel = await layer.new_channel(), names.channel()
        assert await room(layer, name) == 1
        assert await room(layer, channel) >= 1  # one for each server, where a channel is divided over several
        assert await receive(layer, name) == numbered(0)
        assert await receive(layer, channel) == numbered(0)

    @requires("capacity")
    @pytest.mark.asyncio
    async def test_a_message_that_was_received_makes_room(self, make_layer: LayerMaker) -> None:
        layer = make_layer(capacity=3)
        name = await layer.new_channel()
        assert await room(layer, name) == 3
        assert await receive(layer, name) == numbered(0)
        await layer.send(name, numbered(3))
        with pytest.raises(ChannelFull):
            await layer.send(name, numbered(4))
        assert numbers(await receive_many(layer, name, 3)) == [1, 2, 3]

    @requires("capacity", "persistence")
    @pytest.mark.asyncio
    async def test_a_message_that_was_received_makes_room_on_a_normal_channel(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        layer, channel = make_layer(capacity=6), names.channel()
        assert await room(layer, channel) == 6
        first = await receive(layer, channel)

        async def send_one_more() -> None:
            try:
                await layer.send(channel, numbered(6))
            except ChannelFull as error:
                raise AssertionError("a message was received, but the channel is full still") from error

        await eventually(send_one_more)
        assert sorted(numbers([first, *await receive_many(layer, channel, 6)])) == list(range(7))

    @requires("channel_capacity")
    @pytest.mark.asyncio
    async def test_the_first_pattern_that_matches_sets_a_channels_capacity(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        unique = names.short()
        layer = make_layer(
            capacity=8,
            channel_capacity={
                f"{unique}.tight*": 2,
                f"{unique}.tight-but-late*": 6,
                re.compile(re.escape(unique) + r"\.(expression|other)"): 4,
                f"{unique}.expression*": 6,
                f"{unique}.mark*!*": 3,
            },
        )
        expected = {"tight": 2, "tight-but-late": 2, "expression": 4, "mark": 3, "unmatched": 8}
        found = {kind: await room(layer, await layer.new_channel(f"{unique}.{kind}")) for kind in expected}
        assert found == expected


class FairCapacity(Contract):
    """Capacity beyond the specification: whose count it is, and what the error says."""

    @requires("capacity", "capacity_per_channel")
    @pytest.mark.asyncio
    async def test_one_slow_consumer_does_not_take_its_neighbours_room(self, make_layer: LayerMaker) -> None:
        layer = make_layer(capacity=3)
        slow, neighbour = await layer.new_channel(), await layer.new_channel()
        assert await room(layer, slow) == 3
        assert await room(layer, neighbour) == 3
        assert numbers(await receive_many(layer, neighbour, 3)) == [0, 1, 2]
        with pytest.raises(ChannelFull):
            await layer.send(slow, numbered(3))
        assert numbers(await receive_many(layer, slow, 3)) == [0, 1, 2]

    @requires("capacity", "capacity_per_channel")
    @pytest.mark.asyncio
    async def test_messages_that_reached_the_process_but_no_receiver_still_count(self, make_layer: LayerMaker) -> None:
        layer = make_layer(capacity=3)
        unread, read = await layer.new_channel(), await layer.new_channel()
        assert await room(layer, unread) == 3
        await layer.send(read, numbered(0))
        await receive(layer, read)  # sent later, so the process has the other three by now
        with pytest.raises(ChannelFull):
            await layer.send(unread, numbered(3))
        assert numbers(await receive_many(layer, unread, 3)) == [0, 1, 2]

    @requires("capacity")
    @pytest.mark.asyncio
    async def test_channel_full_names_the_channel_and_its_capacity(self, make_layer: LayerMaker) -> None:
        layer = make_layer(capacity=3)
        name = await layer.new_channel()
        await room(layer, name)
        with pytest.raises(ChannelFull) as caught:
            await layer.send(name, numbered(3))
        assert name in str(caught.value)
        assert "3" in str(caught.value).replace(name, "")
