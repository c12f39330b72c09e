"""Which names are legal, and what new_channel makes."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.contract.base import Contract, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import Tasks, cancelled, numbered, receive

ILLEGAL: list[Any] = ["", "x" * 100, "a b", "a/b", "a:b", "a{b}", "a!b!c", "!", "!a", None, 5, b"bytes", ["a"]]
# These pass checks that use "$" for the end or "\d" and "\w" for ASCII.
LOOK_LEGAL: list[Any] = ["a\n", "a٣", "aé", "a!é", "a!b\n", "a!٣", "\na"]
OPERATIONS = ["send", "receive", "group_add", "group_discard", "group_add to", "group_discard from", "group_send"]
CHANNEL_NAME = re.compile(r"[A-Za-z0-9._-]+![A-Za-z0-9._-]+")


async def _use(layer: ChannelLayer, operation: str, name: Any) -> None:
    if operation == "send":
        await layer.send(name, numbered(1))
    elif operation == "receive":
        await layer.receive(name)
    elif operation == "group_add":
        await layer.group_add("legal-group", name)
    elif operation == "group_discard":
        await layer.group_discard("legal-group", name)
    elif operation == "group_add to":
        await layer.group_add(name, "legal-channel")
    elif operation == "group_discard from":
        await layer.group_discard(name, "legal-channel")
    else:
        await layer.group_send(name, numbered(1))


async def _not_refused(layer: ChannelLayer, operation: str, illegal: list[Any]) -> dict[str, str]:
    """Which of the names don't make ``operation`` raise TypeError, with what happened instead."""
    attempts = [asyncio.ensure_future(_use(layer, operation, name)) for name in illegal]
    await asyncio.wait(attempts, timeout=2)  # a receive that takes the name would wait for ever
    wrong: dict[str, str] = {}
    for name, attempt in zip(illegal, attempts, strict=True):
        if not attempt.done():
            wrong[repr(name)] = "it waits"
            await cancelled(attempt)
        elif not isinstance(attempt.exception(), TypeError):
            wrong[repr(name)] = repr(attempt.exception()) if attempt.exception() else "it was accepted"
    return wrong


class Naming(Contract):
    """Names: of channels and groups, and those that new_channel makes."""

    @requires("groups")
    @pytest.mark.asyncio
    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_an_illegal_name_is_a_type_error(self, layer: ChannelLayer, operation: str) -> None:
        assert await _not_refused(layer, operation, ILLEGAL) == {}

    @requires("groups")
    @pytest.mark.asyncio
    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_a_name_that_only_looks_legal_is_a_type_error(self, layer: ChannelLayer, operation: str) -> None:
        assert await _not_refused(layer, operation, LOOK_LEGAL) == {}

    @requires("groups")
    @pytest.mark.asyncio
    @pytest.mark.parametrize("operation", ["group_add to", "group_discard from", "group_send"])
    async def test_a_groups_name_has_no_exclamation_mark(self, layer: ChannelLayer, operation: str) -> None:
        assert await _not_refused(layer, operation, ["a!b", "a!"]) == {}

    @pytest.mark.asyncio
    async def test_a_normal_channel_may_have_99_characters(
        self, layer: ChannelLayer, names: Names, tasks: Tasks
    ) -> None:
        channel = names.channel().ljust(99, "x")
        [receiving] = await tasks.start_waiting(receive(layer, channel))
        await layer.send(channel, numbered(1))
        assert await receiving == numbered(1)

    @pytest.mark.asyncio
    async def test_a_process_specific_channel_may_have_99_characters(self, layer: ChannelLayer, tasks: Tasks) -> None:
        channel = (await layer.new_channel()).ljust(99, "x")
        [receiving] = await tasks.start_waiting(receive(layer, channel))
        await layer.send(channel, numbered(1))
        assert await receiving == numbered(1)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_a_group_may_have_99_characters(self, layer: ChannelLayer, names: Names) -> None:
        name, group = await layer.new_channel(), names.group().ljust(99, "x")
        await layer.group_add(group, name)
        await layer.group_send(group, numbered(1))
        assert await receive(layer, name) == numbered(1)

    @pytest.mark.asyncio
    async def test_every_legal_character_is_taken(self, layer: ChannelLayer, names: Names, tasks: Tasks) -> None:
        channel = f"{names.channel()}.AZ_az-09.."
        [receiving] = await tasks.start_waiting(receive(layer, channel))
        await layer.send(channel, numbered(1))
        assert await receiving == numbered(1)

    @pytest.mark.asyncio
    async def test_names_that_differ_in_case_or_punctuation_are_different_channels(self, layer: ChannelLayer) -> None:
        head = await layer.new_channel()
        channels = [head + tail for tail in ("a", "A", "-", "_", ".", "..", "a.", "0", "00")]
        for number, channel in enumerate(channels):
            await layer.send(channel, numbered(number))
        received = [await receive(layer, channel) for channel in channels]
        assert received == [numbered(number) for number in range(len(channels))]

    @pytest.mark.asyncio
    async def test_new_channel_makes_legal_process_specific_names(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        assert CHANNEL_NAME.fullmatch(name), f"{name!r} is no process-specific channel name"
        assert len(name) <= 99

    @pytest.mark.asyncio
    async def test_new_channel_never_makes_a_name_twice(self, layer: ChannelLayer) -> None:
        made = [await layer.new_channel() for _ in range(500)]
        assert len(set(made)) == 500

    @pytest.mark.asyncio
    async def test_new_channel_begins_with_the_prefix_it_was_given(self, layer: ChannelLayer) -> None:
        assert (await layer.new_channel("invoice")).startswith("invoice")
        assert (await layer.new_channel(prefix="receipt")).startswith("receipt")

    @requires("prefix_receive")
    @pytest.mark.asyncio
    async def test_receiving_from_the_prefix_gets_messages_of_every_name_with_it(self, layer: ChannelLayer) -> None:
        head = (await layer.new_channel()).partition("!")[0] + "!"
        await layer.send(head + "one", numbered(1))
        await layer.send(head + "two", numbered(2))
        await layer.send(head + "one", numbered(3))
        received = [(await receive(layer, head))["number"] for _ in range(3)]
        assert sorted(received) == [1, 2, 3]
        assert received.index(1) < received.index(3), "messages of one name stay in order"

    @requires("prefix_receive")
    @pytest.mark.asyncio
    async def test_receiving_from_the_prefix_waits_for_a_message(self, layer: ChannelLayer, tasks: Tasks) -> None:
        name = await layer.new_channel()
        [receiving] = await tasks.start_waiting(receive(layer, name.partition("!")[0] + "!"))
        await layer.send(name, numbered(1))
        assert await receiving == numbered(1)
