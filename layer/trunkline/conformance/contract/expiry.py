"""Messages and memberships end. The sleeps here are the time that passes, not a wait for a condition."""

from __future__ import annotations

import asyncio
import time

import channels.exceptions
import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.contract.base import Contract, LayerMaker, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import Tasks, assert_silent, numbered, numbers, receive, receive_many

EXPIRY_S = 2
ChannelFull = channels.exceptions.ChannelFull
ATTEMPTS = 3  # a machine that stands still for half a second spoils an attempt, not the layer


async def _of_both_kinds(layer: ChannelLayer, names: Names) -> list[str]:
    return [names.channel(), await layer.new_channel()]


class Expiry(Contract):
    """Expiry of messages and memberships."""

    @requires("expiry", "persistence")
    @pytest.mark.asyncio
    async def test_an_expired_message_is_not_received_and_the_channel_goes_on(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        layer = make_layer(expiry=1)
        both = await _of_both_kinds(layer, names)
        for channel in both:
            await layer.send(channel, numbered(1))
        await asyncio.sleep(1.3)
        await assert_silent(layer, *both)
        for channel in both:
            await layer.send(channel, numbered(2))
            assert await receive(layer, channel) == numbered(2)

    @requires("group_expiry", "groups")
    @pytest.mark.asyncio
    async def test_a_membership_ends_when_its_time_is_over_and_adding_again_renews_it(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        layer, group = make_layer(group_expiry=1), names.group()
        renewed, forgotten = await layer.new_channel(), await layer.new_channel()
        await layer.group_add(group, renewed)
        await layer.group_add(group, forgotten)
        for _ in range(ATTEMPTS):
            await asyncio.sleep(1.5)
            await layer.group_add(group, renewed)
            added = time.monotonic()
            await asyncio.sleep(0.6)
            await layer.group_send(group, numbered(1))
            if time.monotonic() - added < 1:
                break
        assert await receive(layer, renewed) == numbered(1)
        await assert_silent(layer, forgotten)


class FurtherExpiry(Contract):
    """Expiry beyond the specification: for each message by itself, wherever it waits."""

    @requires("expiry", "capacity", "persistence")
    @pytest.mark.asyncio
    async def test_each_message_expires_by_itself_and_gives_its_room_back(
        self, make_layer: LayerMaker, names: Names
    ) -> None:
        layer = make_layer(expiry=EXPIRY_S, capacity=6)
        for _ in range(ATTEMPTS):
            normal, specific = await _of_both_kinds(layer, names)
            results = await asyncio.gather(
                self._let_five_of_six_expire(layer, normal), self._let_five_of_six_expire(layer, specific)
            )
            if all(in_time for in_time, _, _ in results):
                break
        for kind, (_, taken, received) in zip(("normal", "process-specific"), results, strict=True):
            assert taken == [6, 7, 8, 9, 10], f"{kind} channel: five had expired and one had not, so five more fit"
            assert sorted(received) == [5, *taken], f"{kind} channel"

    async def _let_five_of_six_expire(self, layer: ChannelLayer, channel: str) -> tuple[bool, list[int], list[int]]:
        """Fill the channel when most of its messages have expired, and empty it.

        :return: whether the machine was fast enough, what the channel took, and what was received.
        """
        for number in range(5):
            await layer.send(channel, numbered(number))
        await asyncio.sleep(1.8)
        second_sent = time.monotonic()
        await layer.send(channel, numbered(5))
        await asyncio.sleep(1.3)
        taken = []
        for number in range(6, 15):
            try:
                await layer.send(channel, numbered(number))
                taken.append(number)
            except ChannelFull:
                break
        received = numbers(await receive_many(layer, channel, 1 + len(taken)))
        return time.monotonic() - second_sent < EXPIRY_S - 0.2, taken, received

    @requires("expiry", "persistence")
    @pytest.mark.asyncio
    async def test_a_message_that_reached_the_process_but_no_receiver_expires_too(
        self, make_layer: LayerMaker, tasks: Tasks
    ) -> None:
        layer = make_layer(expiry=1)
        unread, read = await layer.new_channel(), await layer.new_channel()
        [reading] = await tasks.start_waiting(receive(layer, read))
        await layer.send(unread, numbered(1))
        await layer.send(read, numbered(0))
        await reading  # sent later, so the process has the other one by now
        await asyncio.sleep(1.3)
        await assert_silent(layer, unread)
        await layer.send(unread, numbered(2))
        assert await receive(layer, unread) == numbered(2)

    @requires("expiry", "capacity", "persistence")
    @pytest.mark.asyncio
    async def test_a_full_channel_that_nobody_reads_has_room_again_when_its_messages_expired(
        self, make_layer: LayerMaker
    ) -> None:
        layer = make_layer(expiry=1, capacity=3)
        name = await layer.new_channel()
        for number in range(3):
            await layer.send(name, numbered(number))
        await asyncio.sleep(1.4)
        for number in range(3, 6):
            await layer.send(name, numbered(number))
        assert numbers(await receive_many(layer, name, 3)) == [3, 4, 5]
