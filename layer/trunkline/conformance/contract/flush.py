"""An empty layer, and a layer that was closed."""

from __future__ import annotations

import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import assert_silent, numbered, receive, within


class Flush(Contract):
    """Flush: no messages, no groups, and usable."""

    @requires("flush", "persistence")
    @pytest.mark.asyncio
    async def test_flush_leaves_no_message_and_the_layer_goes_on(self, layer: ChannelLayer, names: Names) -> None:
        name, channel = await layer.new_channel(), names.channel()
        for number in range(3):
            await layer.send(name, numbered(number))
            await layer.send(channel, numbered(number))
        await within(layer.flush(), 10, "the end of flush()")
        await assert_silent(layer, name, channel)
        await layer.send(name, numbered(8))
        await layer.send(channel, numbered(9))
        assert await receive(layer, name) == numbered(8)
        assert await receive(layer, channel) == numbered(9)

    @requires("flush", "persistence")
    @pytest.mark.asyncio
    async def test_flush_takes_messages_that_reached_the_process_but_no_receiver(self, layer: ChannelLayer) -> None:
        unread, read = await layer.new_channel(), await layer.new_channel()
        await layer.send(unread, numbered(1))
        await layer.send(read, numbered(0))
        await receive(layer, read)  # sent later, so the process has the other one by now
        await within(layer.flush(), 10, "the end of flush()")
        await assert_silent(layer, unread)

    @requires("flush", "groups")
    @pytest.mark.asyncio
    async def test_flush_leaves_no_membership_and_new_ones_can_be_made(self, layer: ChannelLayer, names: Names) -> None:
        name, group = await layer.new_channel(), names.group()
        await layer.group_add(group, name)
        await within(layer.flush(), 10, "the end of flush()")
        await layer.group_send(group, numbered(1))
        await assert_silent(layer, name)
        await layer.group_add(group, name)
        await layer.group_send(group, numbered(2))
        assert await receive(layer, name) == numbered(2)

    @requires("flush", "capacity", "persistence")
    @pytest.mark.asyncio
    async def test_flush_gives_all_room_back(self, make_layer: LayerMaker) -> None:
        layer = make_layer(capacity=2)
        name = await layer.new_channel()
        for number in range(2):
            await layer.send(name, numbered(number))
        await within(layer.flush(), 10, "the end of flush()")
        for number in range(2):
            await layer.send(name, numbered(number))
        assert await receive(layer, name) == numbered(0)


class Close(Contract):
    """Close beyond the specification: the layer is usable after it."""

    @requires("groups")
    @pytest.mark.asyncio
    async def test_a_closed_layer_can_be_used_again(self, layer: ChannelLayer, names: Names) -> None:
        name, group = await layer.new_channel(), names.group()
        await layer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)
        await within(layer.close(), what="the end of close()")
        name = await layer.new_channel()
        await layer.group_add(group, name)
        await layer.send(name, numbered(2))
        assert await receive(layer, name) == numbered(2)
        await layer.group_send(group, numbered(3))
        assert await receive(layer, name) == numbered(3)

    @pytest.mark.asyncio
    async def test_a_layer_may_be_closed_twice_and_before_its_first_use(self, layer: ChannelLayer) -> None:
        await within(layer.close(), what="the end of close()")
        await within(layer.close(), what="the end of close()")
