"""Records come back as they were packed; anything else is refused in one known way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.codec import CONTROL, DIRECT, GROUP, Record, pack_record, unpack_record

NAMES = st.text("abcXYZ019._-!", min_size=1, max_size=99)
DEADLINE = b"1790000000000"


@given(st.sampled_from([DIRECT, GROUP, CONTROL]), NAMES, st.binary(max_size=300))
def test_a_record_comes_back_as_it_was_packed(kind: int, name: str, body: bytes) -> None:
    assert unpack_record(DEADLINE + pack_record(kind, name, body)) == Record(int(DEADLINE), kind, name, body)


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error_or_a_record_and_nothing_else(data: bytes) -> None:
    try:
        record = unpack_record(data)
    except ValueError:
        return
    assert record.kind in (DIRECT, GROUP, CONTROL)


def test_a_record_of_another_version_is_refused_with_both_versions() -> None:
    data = DEADLINE + b"\x02" + pack_record(DIRECT, "a", b"")[1:]
    with pytest.raises(ValueError, match="version 2; this release reads version 1"):
        unpack_record(data)


def test_a_record_that_is_cut_inside_its_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not a record"):
        unpack_record(DEADLINE + pack_record(DIRECT, "channel", b"")[:6])
