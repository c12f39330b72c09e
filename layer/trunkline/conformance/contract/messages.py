"""What a message may hold, and that it arrives as it was sent."""

from __future__ import annotations

import copy
import enum
import math
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from trunkline.conformance.api import ChannelLayer
from trunkline.conformance.capabilities import Capabilities
from trunkline.conformance.contract.base import Contract, requires
from trunkline.conformance.names import Names
from trunkline.conformance.waiting import numbered, receive, within


class SafeText(str):
    """Stands for Django's SafeString: what templates and translations put into messages."""


class Colour(str, enum.Enum):
    """Stands for Django's TextChoices."""

    RED = "red"


class Size(enum.IntEnum):
    """Stands for Django's IntegerChoices."""

    LARGE = 3


def _nested(depth: int) -> Any:
    return {"deeper": [_nested(depth - 1)]} if depth else "bottom"


VALUES: dict[str, Any] = {
    "text": ["", "plain", "Grüße, 世界, 🚋", "\x00\x1f\x7f", "x" * 70_000],
    "integers": [0, 1, -1, 255, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63)],
    "floats": [0.0, -0.0, 0.1, 1e308, 5e-324, -2.5, 1.0, math.inf, -math.inf],
    "booleans_and_none": [True, False, None, {"yes": True, "no": False, "neither": None}],
    "lists": [[], [[]], [1, "one", None, [2.5]], list(range(1000))],
    "dicts": [{}, {"": ""}, {"a": {"b": {"c": {}}}}, {str(number): number for number in range(1000)}],
    "nested": _nested(20),
}


BYTES: dict[str, Any] = {
    "bytes": [b"", b"plain", bytes(range(256)), b"\xff\xfe" * 40_000],
    "bytes_beside_text": {"text": "same", "bytes": b"same"},
    "bytes_in_lists": [1, "one", b"one", ["deeper", b"deeper"]],
}


def _same(left: Any, right: Any) -> bool:
    """Equal, with equal types all the way down (``1 == True == 1.0`` and ``b"" != ""`` told apart)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


class Messages(Contract):
    """Messages: types, sizes."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("kind", VALUES)
    async def test_a_message_arrives_with_its_values_and_types(self, layer: ChannelLayer, kind: str) -> None:
        name = await layer.new_channel()
        message = {"type": "test.message", "value": VALUES[kind]}
        await layer.send(name, copy.deepcopy(message))
        assert _same(await receive(layer, name), message)

    @requires("bytes")
    @pytest.mark.asyncio
    @pytest.mark.parametrize("kind", BYTES)
    async def test_byte_strings_arrive_as_byte_strings(self, layer: ChannelLayer, kind: str) -> None:
        name = await layer.new_channel()
        message = {"type": "test.message", "value": BYTES[kind]}
        await layer.send(name, copy.deepcopy(message))
        assert _same(await receive(layer, name), message)

    @pytest.mark.asyncio
    async def test_not_a_number_arrives(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        await layer.send(name, {"type": "test.message", "value": math.nan})
        assert math.isnan((await receive(layer, name))["value"])

    @pytest.mark.asyncio
    async def test_a_tuple_arrives_as_a_list(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        await layer.send(name, {"type": "test.message", "value": (1, ("two", 3.0))})
        assert _same((await receive(layer, name))["value"], [1, ["two", 3.0]])

    @pytest.mark.asyncio
    async def test_subclasses_of_the_allowed_types_travel_by_value(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        sent = {
            "type": SafeText("test.message"),
            SafeText("key"): 1,
            "text": SafeText("<b>bold</b>"),
            "ordered": OrderedDict(first=1, second=2),
        }
        await layer.send(name, sent)
        received = await receive(layer, name)
        assert received == {
            "type": "test.message",
            "key": 1,
            "text": "<b>bold</b>",
            "ordered": {"first": 1, "second": 2},
        }

    @pytest.mark.asyncio
    async def test_choices_of_a_model_travel_by_value(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        await layer.send(name, {"type": "test.message", "colour": Colour.RED, "size": Size.LARGE})
        received = await receive(layer, name)
        assert (received["colour"], received["size"]) == ("red", 3)

    @pytest.mark.asyncio
    async def test_an_empty_message_arrives(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        await layer.send(name, {})
        assert await receive(layer, name) == {}

    @pytest.mark.asyncio
    async def test_a_message_of_one_megabyte_arrives(self, layer: ChannelLayer) -> None:
        name, value = await layer.new_channel(), "é" * 500_000
        await within(layer.send(name, {"type": "test.message", "value": value}))
        assert (await receive(layer, name))["value"] == value

    @requires("bytes")
    @pytest.mark.asyncio
    async def test_a_message_of_one_megabyte_of_bytes_arrives(self, layer: ChannelLayer) -> None:
        name, value = await layer.new_channel(), os.urandom(750_000)
        await within(layer.send(name, {"type": "test.message", "value": value}))
        assert (await receive(layer, name))["value"] == value

    @requires("groups")
    @pytest.mark.asyncio
    async def test_a_message_of_one_megabyte_arrives_through_a_group(self, layer: ChannelLayer, names: Names) -> None:
        name, group = await layer.new_channel(), names.group()
        value = os.urandom(375_000).hex()
        await layer.group_add(group, name)
        await within(layer.group_send(group, {"type": "test.message", "value": value}))
        assert (await receive(layer, name))["value"] == value

    @requires("persistence")
    @pytest.mark.asyncio
    async def test_a_message_of_one_megabyte_arrives_on_a_normal_channel(
        self, layer: ChannelLayer, names: Names
    ) -> None:
        channel, value = names.channel(), os.urandom(375_000).hex()
        await within(layer.send(channel, {"type": "test.message", "value": value}))
        assert (await receive(layer, channel))["value"] == value


def _cycle() -> dict[str, Any]:
    message: dict[str, Any] = {"type": "test.message"}
    message["itself"] = message
    return message


BAD_MESSAGES: dict[str, list[Any]] = {
    "no_dict": [["type", "test.message"], None, "test.message", b"test.message", [("type", "test.message")]],
    "a_key_that_is_no_text": [{1: "one"}, {b"type": "test.message"}, {None: 1}, {"value": [{"counts": {1: "one"}}]}],
    "an_integer_beyond_64_bits": [{"value": 2**63}, {"value": -(2**63) - 1}, {"value": [{"deeper": 2**200}]}],
    "a_value_of_another_type": [
        {"value": object()},
        {"value": {1, 2}},
        {"value": datetime(2020, 1, 1, tzinfo=timezone.utc)},
        {"value": [{"deeper": dict}]},
    ],
    "text_that_is_no_unicode": [{"value": "\ud83d"}, {"\ud83d": 1}],
}


async def _not_refused(send: Callable[[Any], Awaitable[None]], messages: list[Any]) -> dict[str, str]:
    """Which of the messages ``send`` didn't refuse with a TypeError, and what happened instead."""
    wrong: dict[str, str] = {}
    for message in messages:
        try:
            await within(send(message))
        except TypeError:
            continue
        except Exception as error:
            wrong[repr(message)] = repr(error)
        else:
            wrong[repr(message)] = "it was accepted"
    return wrong


class BadMessages(Contract):
    """Messages that can't travel, and that sender and receiver share none."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("kind", BAD_MESSAGES)
    async def test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing(
        self, layer: ChannelLayer, kind: str
    ) -> None:
        name = await layer.new_channel()
        assert await _not_refused(lambda message: layer.send(name, message), BAD_MESSAGES[kind]) == {}
        await layer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)

    @requires("groups")
    @pytest.mark.asyncio
    @pytest.mark.parametrize("kind", BAD_MESSAGES)
    async def test_a_group_message_that_cannot_travel_is_a_type_error_and_sends_nothing(
        self, layer: ChannelLayer, names: Names, kind: str
    ) -> None:
        name, group = await layer.new_channel(), names.group()
        assert await _not_refused(lambda message: layer.group_send(group, message), BAD_MESSAGES[kind]) == {}
        await layer.group_add(group, name)
        assert await _not_refused(lambda message: layer.group_send(group, message), BAD_MESSAGES[kind]) == {}
        await layer.group_send(group, numbered(1))
        assert await receive(layer, name) == numbered(1)

    @pytest.mark.asyncio
    async def test_byte_strings_are_a_type_error_where_they_cannot_travel(
        self, layer: ChannelLayer, channel_layer_capabilities: Capabilities
    ) -> None:
        if channel_layer_capabilities.bytes:
            pytest.skip("bytes: this channel layer carries them")
        name = await layer.new_channel()
        bad = [{"value": b"raw"}, {"value": [{"deeper": b"raw"}]}]
        assert await _not_refused(lambda message: layer.send(name, message), bad) == {}
        await layer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)

    @pytest.mark.asyncio
    async def test_a_message_that_holds_itself_is_refused_and_sends_nothing(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        with pytest.raises((TypeError, ValueError)):
            await within(layer.send(name, _cycle()))
        await layer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)

    @pytest.mark.asyncio
    async def test_what_the_sender_changes_after_the_send_changes_nothing(self, layer: ChannelLayer) -> None:
        name = await layer.new_channel()
        message: dict[str, Any] = {"type": "test.message", "list": [1], "dict": {"a": 1}}
        await layer.send(name, message)
        message["list"].append(2)
        message["dict"]["b"] = 2
        message["new"] = True
        assert await receive(layer, name) == {"type": "test.message", "list": [1], "dict": {"a": 1}}

    @requires("groups")
    @pytest.mark.asyncio
    async def test_sending_leaves_the_senders_message_as_it_was(self, layer: ChannelLayer, names: Names) -> None:
        name, group = await layer.new_channel(), names.group()
        await layer.group_add(group, name)
        message = {"type": "test.message", "list": [1, (2, 3)], "dict": {"a": "1"}}
        before = copy.deepcopy(message)
        await layer.send(name, message)
        await layer.group_send(group, message)
        assert message == before
