"""Groups: who is a member, what members get."""

from __future__ import annotations

import asyncio

import pytest
from channels.exceptions import ChannelFull

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.contract.capacity import room
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import (
    Tasks,
    assert_silent,
    numbered,
    numbers,
    receive,
    receive_many,
    within,
)


class Groups(Contract):
    """Groups: add, discard, send."""

    @requires("groups")
    @pytest.mark.asyncio
    async def test_a_group_send_reaches_every_member_once(self, layer: ChannelLayer, names: Names) -> None:
        group = names.group()
        members = [await layer.new_channel() for _ in range(3)]
        for member in members:
            await layer.group_add(group, member)
        await layer.group_send(group, numbered(1))
        assert [await receive(layer, member) for member in members] == [numbered(1)] * 3
        await assert_silent(layer, *members)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_waiting_members_get_the_group_send(self, layer: ChannelLayer, names: Names, tasks: Tasks) -> None:
        group = names.group()
        members = [await layer.new_channel() for _ in range(3)]
        for member in members:
            await layer.group_add(group, member)
        waiting = await tasks.start_waiting(*(receive(layer, member) for member in members))
        await layer.group_send(group, numbered(1))
        assert [await task for task in waiting] == [numbered(1)] * 3

    @requires("groups")
    @pytest.mark.asyncio
    async def test_adding_a_member_twice_is_adding_it_once(self, layer: ChannelLayer, names: Names) -> None:
        name, group = await layer.new_channel(), names.group()
        await layer.group_add(group, name)
        await layer.group_add(group, name)
        await layer.group_send(group, numbered(1))
        await layer.group_send(group, numbered(2))
        assert await receive_many(layer, name, 2) == [numbered(1), numbered(2)]
        await layer.group_discard(group, name)
        await layer.group_send(group, numbered(3))
        await assert_silent(layer, name)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_a_discarded_member_hears_no_more_and_the_others_do(self, layer: ChannelLayer, names: Names) -> None:
        group = names.group()
        stays, leaves = await layer.new_channel(), await layer.new_channel()
        await layer.group_add(group, stays)
        await layer.group_add(group, leaves)
        await layer.group_discard(group, leaves)
        await layer.group_send(group, numbered(1))
        assert await receive(layer, stays) == numbered(1)
        await assert_silent(layer, leaves)
        await layer.group_add(group, leaves)
        await layer.group_send(group, numbered(2))
        assert await receive(layer, leaves) == numbered(2)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_discarding_what_is_no_member_does_nothing(self, layer: ChannelLayer, names: Names) -> None:
        group = names.group()
        member, stranger = await layer.new_channel(), await layer.new_channel()
        await layer.group_discard(group, stranger)
        await layer.group_add(group, member)
        await layer.group_discard(group, stranger)
        await layer.group_send(group, numbered(1))
        assert await receive(layer, member) == numbered(1)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_a_send_to_an_empty_group_does_nothing(self, layer: ChannelLayer, names: Names) -> None:
        await within(layer.group_send(names.group(), numbered(1)))

    @requires("groups")
    @pytest.mark.asyncio
    async def test_groups_do_not_mix(self, layer: ChannelLayer, names: Names) -> None:
        first_group, second_group = names.group(), names.group()
        first, second, both = [await layer.new_channel() for _ in range(3)]
        for group, member in [
            (first_group, first),
            (second_group, second),
            (first_group, both),
            (second_group, both),
        ]:
            await layer.group_add(group, member)
        await layer.group_send(first_group, numbered(1))
        await layer.group_send(second_group, numbered(2))
        assert await receive(layer, first) == numbered(1)
        assert await receive(layer, second) == numbered(2)
        assert sorted(numbers(await receive_many(layer, both, 2))) == [1, 2]
        await assert_silent(layer, first, second, both)

    @requires("groups", "capacity")
    @pytest.mark.asyncio
    async def test_a_group_send_to_a_full_member_does_not_raise(self, make_layer: LayerMaker, names: Names) -> None:
        layer, group = make_layer(capacity=2), names.group()
        name = await layer.new_channel()
        await layer.group_add(group, name)
        for number in range(10):
            await within(layer.group_send(group, numbered(number)))
        try:  # what is received before the last of them has come makes room for it
            other = await layer.new_channel()
            await layer.send(other, numbered(10))
            assert await receive(layer, other) == numbered(10)
        except ChannelFull:  # a layer whose channels share one count has counted them all
            pass
        assert numbers(await receive_many(layer, name, 2)) == [0, 1]
        await assert_silent(layer, name)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_one_senders_group_messages_keep_their_order(self, make_layer: LayerMaker, names: Names) -> None:
        layer, group = make_layer(capacity=1000), names.group()
        members = [await layer.new_channel() for _ in range(2)]
        for member in members:
            await layer.group_add(group, member)
        for number in range(200):
            await layer.group_send(group, numbered(number))
        for member in members:
            assert numbers(await receive_many(layer, member, 200, 10)) == list(range(200))


class FurtherGroups(Contract):
    """Groups beyond the specification: members apart from each other, and of every kind."""

    @requires("groups", "capacity", "capacity_per_channel")
    @pytest.mark.asyncio
    async def test_a_group_send_is_dropped_for_a_full_member_only(self, make_layer: LayerMaker, names: Names) -> None:
        layer, group = make_layer(capacity=3), names.group()
        full, empty = await layer.new_channel(), await layer.new_channel()
        await layer.group_add(group, full)
        await layer.group_add(group, empty)
        assert await room(layer, full) == 3
        await layer.group_send(group, numbered(100))
        assert await receive(layer, empty) == numbered(100)
        assert numbers(await receive_many(layer, full, 3)) == [0, 1, 2]
        await assert_silent(layer, full)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_each_member_gets_a_message_object_of_its_own(self, layer: ChannelLayer, names: Names) -> None:
        group = names.group()
        members = [await layer.new_channel() for _ in range(3)]
        for member in members:
            await layer.group_add(group, member)
        await layer.group_send(group, {"type": "test.message", "list": [1], "dict": {"a": []}})
        for member in members:
            message = await receive(layer, member)
            assert message == {"type": "test.message", "list": [1], "dict": {"a": []}}
            message["list"].append(member)
            message["dict"]["a"].append(member)
            message["seen"] = True

    @requires("groups")
    @pytest.mark.asyncio
    async def test_two_hundred_members_all_hear(self, layer: ChannelLayer, names: Names) -> None:
        group = names.group()
        members = [await layer.new_channel() for _ in range(200)]
        for member in members:
            await layer.group_add(group, member)
        await layer.group_send(group, numbered(1))
        received = await within(asyncio.gather(*(receive(layer, member, 10) for member in members)), 15)
        assert received == [numbered(1)] * 200

    @requires("groups", "persistence")
    @pytest.mark.asyncio
    async def test_a_normal_channel_can_be_a_member(self, layer: ChannelLayer, names: Names) -> None:
        group, channel, name = names.group(), names.channel(), await layer.new_channel()
        await layer.group_add(group, channel)
        await layer.group_add(group, name)
        await layer.group_send(group, numbered(1))
        assert await receive(layer, channel) == numbered(1)
        assert await receive(layer, name) == numbered(1)
        await layer.group_discard(group, channel)
        await layer.group_send(group, numbered(2))
        assert await receive(layer, name) == numbered(2)
        await assert_silent(layer, channel)

    @requires("groups", "persistence")
    @pytest.mark.asyncio
    async def test_a_group_and_a_channel_may_share_a_name(self, layer: ChannelLayer, names: Names) -> None:
        shared, name = names.channel(), await layer.new_channel()
        await layer.group_add(shared, name)
        await layer.send(shared, numbered(1))
        await layer.group_send(shared, numbered(2))
        assert await receive(layer, shared) == numbered(1)
        assert await receive(layer, name) == numbered(2)
        await assert_silent(layer, shared, name)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_direct_and_group_messages_of_one_channel_both_arrive(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        layer, group = make_layer(capacity=1000), names.group()
        name = await layer.new_channel()
        await layer.group_add(group, name)
        for number in range(50):
            await layer.send(name, {"path": "direct", "number": number})
            await layer.group_send(group, {"path": "group", "number": number})
        received = await receive_many(layer, name, 100, 10)
        for path in ("direct", "group"):
            assert numbers(message for message in received if message["path"] == path) == list(range(50))
