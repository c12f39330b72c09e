"""A message that several members share: each gets an object of its own."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.codec import Shared, Unreadable, decode, encode, encode_json

FLAT = {"type": "a.b", "text": "é", "data": b"\x00", "n": -(2**63), "x": 1.5, "yes": True, "nothing": None}
NESTED = {"type": "a.b", "list": [1, {"x": [2]}], "dict": {"y": 3}}


@pytest.mark.parametrize("message", [FLAT, NESTED, {}], ids=["flat", "nested", "empty"])
def test_each_call_gives_the_same_message_in_a_new_object(message: dict[str, Any]) -> None:
    shared = Shared(encode(message))
    for _ in range(3):
        got = shared.message(decode)
        assert got == message
        assert list(map(type, got.values())) == list(map(type, message.values()))
        got["type"] = "changed"
        for value in got.values():
            if isinstance(value, (list, dict)):
                value.clear()


def test_a_message_in_json_is_shared_as_well() -> None:
    shared = Shared(encode_json({"type": "a", "text": "b"}))
    assert [shared.message(decode) for _ in range(2)] == [{"type": "a", "text": "b"}] * 2
    assert shared.flat == {"type": "a", "text": "b"}


def test_what_is_no_message_stays_unreadable() -> None:
    shared = Shared(b"\xc1")
    for _ in range(2):
        with pytest.raises(Unreadable):
            shared.message(decode)
