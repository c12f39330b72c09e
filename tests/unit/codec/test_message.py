"""Both serializers carry the same messages, but for byte strings, and each one's messages are read by everybody."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.codec import MAX_MESSAGE_BYTES, Unreadable, decode, encode, encode_json
from trunkline.errors import MessageTooLarge

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_a_message_comes_back_from_either_serializer(message: dict[str, Any]) -> None:
    assert decode(encode(message)) == message
    assert decode(encode_json(message)) == message


def test_not_a_number_and_infinity_come_back_from_either_serializer() -> None:
    for pack in (encode, encode_json):
        back = decode(pack({"nan": math.nan, "inf": -math.inf, "zero": -0.0}))
        assert math.isnan(back["nan"])
        assert back["inf"] == -math.inf
        assert math.copysign(1, back["zero"]) == -1


def test_json_is_written_short_and_readable() -> None:
    assert encode_json({"type": "chat.message", "text": "Grüße"}) == '{"type":"chat.message","text":"Grüße"}'.encode()


@pytest.mark.parametrize("value", [b"raw", [b"raw"], {"deeper": b"raw"}], ids=repr)
def test_bytes_in_json_are_a_type_error_that_says_what_to_do(value: Any) -> None:
    with pytest.raises(TypeError, match=r"no byte strings.*set option 'serializer_format' to 'msgpack'"):
        encode_json({"type": "test", "value": value})


REFUSED = [
    ["no dict"],
    {1: "one"},
    {"value": {None: 1}},
    {"value": {True: 1}},
    {"value": 2**63},
    {"value": {1, 2}},
    {"value": "\ud800"},
    {"value": object()},
]


@pytest.mark.parametrize("message", REFUSED, ids=repr)
@pytest.mark.parametrize("pack", [encode, encode_json])
def test_both_serializers_refuse_the_same(pack: Callable[[object], bytes], message: Any) -> None:
    with pytest.raises(TypeError):
        pack(message)


def test_both_serializers_have_one_limit() -> None:
    for pack in (encode, encode_json):
        with pytest.raises(MessageTooLarge):
            pack({"value": "x" * MAX_MESSAGE_BYTES})
    with pytest.raises(MessageTooLarge):  # longer in JSON than in MessagePack
        encode_json({"value": "\n" * (MAX_MESSAGE_BYTES - 100)})


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_a_message_or_refused_in_one_known_way(data: bytes) -> None:
    for body in (data, b"{" + data, b'{"a":' + data):
        try:
            assert isinstance(decode(body), dict)
        except Unreadable:
            continue


def test_json_that_is_no_message_is_refused() -> None:
    for body in (b"", b"{", b"[]", json.dumps([1]).encode(), b'{"a":' * 100_000):
        with pytest.raises(Unreadable, match="not an encoded message"):
            decode(body)
