"""Records come back as they were packed; anything else is refused in one known way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.codec import (
    CONTROL,
    DIRECT,
    GROUP,
    Record,
    Undecryptable,
    UnknownVersion,
    Unreadable,
    pack_record,
    unpack_record,
)

NAMES = st.text("abcXYZ019._-!", min_size=1, max_size=99)
DEADLINE = b"1790000000000"


@settings(deadline=None)
@given(st.sampled_from([DIRECT, GROUP, CONTROL]), NAMES, st.binary(max_size=300))
def test_a_record_comes_back_as_it_was_packed(kind: int, name: str, body: bytes) -> None:
    assert unpack_record(DEADLINE + pack_record(kind, name, body)) == Record(int(DEADLINE), kind, name, body)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_value_error_or_a_record_and_nothing_else(data: bytes) -> None:
    try:
        record = unpack_record(data)
    except Unreadable:
        return
    assert record.kind in (DIRECT, GROUP, CONTROL)


@pytest.mark.parametrize("version", [0, 3, 255])
def test_a_newer_version_is_told_from_garbage_and_its_sentence_says_what_to_do(version: int) -> None:
    data = DEADLINE + bytes((version,)) + pack_record(DIRECT, "chat", b"")[1:]
    with pytest.raises(
        UnknownVersion, match=f"version {version} and .* reads versions 1 and 2; bring .* release"
    ) as it:
        unpack_record(data)
    assert (it.value.counter, it.value.channel) == ("unknown_version", "chat")


def test_only_direct_messages_are_counted_for_a_channel() -> None:
    with pytest.raises(UnknownVersion) as caught:
        unpack_record(DEADLINE + b"\3" + pack_record(GROUP, "chat", b"")[1:])
    assert caught.value.channel == ""


def test_a_sealed_record_is_refused_by_who_has_no_keys() -> None:
    with pytest.raises(Undecryptable, match="is encrypted, and this process has no keys"):
        unpack_record(DEADLINE + b"\2" + pack_record(DIRECT, "chat", b"")[1:])


def test_a_record_that_is_cut_inside_its_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not a record"):
        unpack_record(DEADLINE + pack_record(DIRECT, "channel", b"")[:6])
