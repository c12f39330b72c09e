"""Between processes: each peer is a Python process of its own with a layer of the same CONFIG."""

from __future__ import annotations

import asyncio

import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.names import Names
from trunkline.conformance.peers import PeerError, Peers
from trunkline.conformance.waiting import (
    Collector,
    Tasks,
    assert_silent,
    eventually,
    numbered,
    numbers,
    receive,
    receive_many,
    within,
)


async def send_every_fourth(layer: ChannelLayer, channel: str, part: int, count: int) -> None:
    """Send every fourth of the numbers below ``count``."""
    for number in range(part, count, 4):
        await layer.send(channel, numbered(number))


class Processes(Contract):
    """Messages between processes."""

    @requires("processes")
    @pytest.mark.asyncio
    async def test_another_process_can_send_to_a_new_channel_name(
        self, layer: ChannelLayer, peers: Peers, tasks: Tasks
    ) -> None:
        peer = await peers.start()
        name = await layer.new_channel()
        await peer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)
        [waiting] = await tasks.start_waiting(receive(layer, name))
        await peer.send(name, numbered(2))
        assert await waiting == numbered(2)
        theirs = await peer.new_channel()
        await layer.send(theirs, numbered(3))
        assert await peer.receive(theirs) == numbered(3)

    @requires("processes")
    @pytest.mark.asyncio
    async def test_order_holds_between_processes(self, make_layer: LayerMaker, peers: Peers) -> None:
        layer, peer = make_layer(capacity=5000), await peers.start()
        name = await layer.new_channel()
        sending = asyncio.ensure_future(peer.send_numbered(name, 500))
        assert numbers(await receive_many(layer, name, 500, 15)) == list(range(500))
        await sending

    @requires("processes", "persistence")
    @pytest.mark.asyncio
    async def test_a_message_of_a_process_that_ended_is_still_there(
        self, layer: ChannelLayer, names: Names, peers: Peers
    ) -> None:
        peer, channel, name = await peers.start(), names.channel(), await layer.new_channel()
        await peer.send(channel, numbered(1))
        await peer.send(name, numbered(2))
        assert await peer.end() == 0
        assert await receive(layer, channel) == numbered(1)
        assert await receive(layer, name) == numbered(2)

    @requires("processes", "persistence")
    @pytest.mark.asyncio
    async def test_a_message_of_a_process_that_was_killed_is_still_there(
        self, layer: ChannelLayer, names: Names, peers: Peers
    ) -> None:
        peer, channel, name = await peers.start(), names.channel(), await layer.new_channel()
        await peer.send(channel, numbered(1))
        await peer.send(name, numbered(2))
        peer.child.kill()
        await peer.child.ended()
        assert await receive(layer, channel) == numbered(1)
        assert await receive(layer, name) == numbered(2)

    @requires("processes")
    @pytest.mark.asyncio
    async def test_processes_share_a_normal_channel_and_none_gets_a_message_twice(
        self, make_layer: LayerMaker, names: Names, peers: Peers, tasks: Tasks
    ) -> None:
        layer, channel = make_layer(capacity=5000), names.channel()
        readers = await asyncio.gather(peers.start(), peers.start())
        count = 1000  # many, because a doubled one may be rare
        collector = Collector(count)
        await tasks.start_waiting(
            *(collector.read(lambda reader=reader: reader.receive(channel, 60)) for reader in readers for _ in range(3))  # type: ignore[misc]
        )
        await asyncio.gather(*(send_every_fourth(layer, channel, part, count) for part in range(4)))
        await collector.complete(15)
        assert sorted(collector.numbers) == list(range(count))

    @requires("processes", "groups")
    @pytest.mark.asyncio
    async def test_a_group_spans_processes(self, layer: ChannelLayer, names: Names, peers: Peers) -> None:
        peer, group = await peers.start(), names.group()
        ours, theirs = await layer.new_channel(), await peer.new_channel()
        await layer.group_add(group, ours)
        await peer.group_add(group, theirs)
        await peer.group_send(group, numbered(1))
        assert (await receive(layer, ours), await peer.receive(theirs)) == (numbered(1), numbered(1))
        await layer.group_send(group, numbered(2))
        assert (await receive(layer, ours), await peer.receive(theirs)) == (numbered(2), numbered(2))
        await peer.group_discard(group, theirs)
        await layer.group_send(group, numbered(3))
        assert await receive(layer, ours) == numbered(3)
        with pytest.raises(AssertionError, match="did not return"):
            await peer.receive(theirs, 0.3)

    @requires("processes", "flush", "groups", "persistence")
    @pytest.mark.asyncio
    async def test_a_flush_in_another_process_empties_the_layer_for_all(
        self, layer: ChannelLayer, names: Names, peers: Peers
    ) -> None:
        peer, group, channel = await peers.start(), names.group(), names.channel()
        name, read = await layer.new_channel(), await layer.new_channel()
        await layer.group_add(group, name)
        await layer.send(channel, numbered(1))
        await layer.send(name, numbered(2))
        await layer.send(read, numbered(3))
        await receive(layer, read)  # by now this process has the message for `name`, which nobody received
        await peer.call("flush")
        await peer.group_send(group, numbered(4))
        await assert_silent(layer, name, channel)
        await peer.send(name, numbered(5))
        assert await receive(layer, name) == numbered(5)


class FurtherProcesses(Contract):
    """Between processes, beyond the specification."""

    @requires("processes")
    @pytest.mark.asyncio
    async def test_receiving_another_processs_channel_is_a_value_error(self, layer: ChannelLayer, peers: Peers) -> None:
        peer = await peers.start()
        theirs = await peer.new_channel()
        with pytest.raises(ValueError, match=r"(?i)process"):
            await receive(layer, theirs, 2)
        ours = await layer.new_channel()
        with pytest.raises(PeerError) as caught:
            await peer.receive(ours, 2)
        assert caught.value.kind == "ValueError"

    @requires("processes", "groups")
    @pytest.mark.asyncio
    async def test_another_process_can_add_and_discard_a_channel(
        self, layer: ChannelLayer, names: Names, peers: Peers
    ) -> None:
        peer, group, name = await peers.start(), names.group(), await layer.new_channel()
        await peer.group_add(group, name)
        await peer.group_send(group, numbered(1))
        assert await receive(layer, name) == numbered(1)
        await layer.group_send(group, numbered(2))
        assert await receive(layer, name) == numbered(2)
        await peer.group_discard(group, name)
        await peer.group_send(group, numbered(3))
        await layer.group_send(group, numbered(4))
        await assert_silent(layer, name)

    @requires("processes", "groups")
    @pytest.mark.asyncio
    async def test_one_process_discards_what_another_added(
        self, layer: ChannelLayer, names: Names, peers: Peers
    ) -> None:
        peer, group, name = await peers.start(), names.group(), await layer.new_channel()
        await layer.group_add(group, name)
        await peer.group_discard(group, name)
        await peer.group_send(group, numbered(1))
        await assert_silent(layer, name)
        await layer.group_add(group, name)
        await peer.group_send(group, numbered(2))
        assert await receive(layer, name) == numbered(2)

    @requires("processes", "persistence")
    @pytest.mark.asyncio
    async def test_any_process_may_read_a_name_with_a_mark_that_no_process_owns(
        self, layer: ChannelLayer, names: Names, peers: Peers
    ) -> None:
        peer, channel = await peers.start(), f"{names.channel('custom')}!foobar"
        await layer.send(channel, numbered(1))
        assert await peer.receive(channel) == numbered(1)
        await peer.send(channel, numbered(2))
        assert await receive(layer, channel) == numbered(2)

    @requires("processes", "capacity")
    @pytest.mark.asyncio
    async def test_a_full_channel_is_full_for_every_process_and_has_room_for_every_process(
        self, make_layer: LayerMaker, peers: Peers
    ) -> None:
        layer, peer = make_layer(capacity=3), await peers.start(config={"capacity": 3})
        name = await layer.new_channel()
        await peer.send_numbered(name, 3)
        with pytest.raises(PeerError) as caught:
            await peer.send(name, numbered(3))
        assert caught.value.kind == "ChannelFull"
        assert await receive(layer, name) == numbered(0)

        async def send_one_more() -> None:
            await peer.send(name, numbered(3))  # a PeerError is an AssertionError: try again

        await eventually(send_one_more, 2)
        assert numbers(await receive_many(layer, name, 3)) == [1, 2, 3]

    @requires("processes", "groups")
    @pytest.mark.asyncio
    async def test_a_process_that_ended_leaves_nothing_that_blocks_its_groups(
        self, layer: ChannelLayer, names: Names, peers: Peers
    ) -> None:
        peer, group, name = await peers.start(), names.group(), await layer.new_channel()
        await layer.group_add(group, name)
        await peer.group_add(group, await peer.new_channel())
        await peer.end()
        for number in range(20):
            await within(layer.group_send(group, numbered(number)))
        assert numbers(await receive_many(layer, name, 20)) == list(range(20))
