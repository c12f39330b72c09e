"""Silence is not an error."""

from __future__ import annotations

import asyncio

import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.capabilities import Capabilities
from trunkline.conformance.contract.base import Contract, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import Tasks, numbered, numbers


class Idle(Contract):
    """Receives that wait long."""

    @requires("idle")
    @pytest.mark.asyncio
    async def test_a_receive_waits_through_silence_and_gets_the_next_message(
        self, layer: ChannelLayer, names: Names, tasks: Tasks, channel_layer_capabilities: Capabilities
    ) -> None:
        channels = [await layer.new_channel() for _ in range(4)] + [names.channel() for _ in range(8)]
        waiting = [tasks.start(layer.receive(channel)) for channel in channels]
        ended, _ = await asyncio.wait(
            waiting, timeout=channel_layer_capabilities.idle, return_when=asyncio.FIRST_COMPLETED
        )
        assert [task.exception() or task.result() for task in ended] == [], "a receive ended although nothing was sent"
        for number, channel in enumerate(channels):
            await layer.send(channel, numbered(number))
        await asyncio.wait(waiting, timeout=5)
        assert all(task.done() for task in waiting), "a receive that had waited long did not get its message"
        assert numbers(task.result() for task in waiting) == list(range(len(channels)))
