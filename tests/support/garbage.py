"""Records that no release of ours writes: a corpus of the kinds, and a hypothesis strategy for the rest."""

from __future__ import annotations

from hypothesis import strategies as st

from trunkline.codec.record import SEALED_VERSION, VERSION

FUTURE = b"9999999999999"  # a deadline that is far away
PAST = b"1000000000000"
NEXT_VERSION = max(VERSION, SEALED_VERSION) + 1  # of a release to come


def record(deadline: bytes, version: int, kind: bytes, name: bytes, body: bytes = b"\x80") -> bytes:
    return deadline + bytes((version,)) + kind + bytes((len(name),)) + name + body


# Each of them is no record, or one that this release can't read.
CORPUS = {
    "nothing": b"",
    "one byte": b"\x00",
    "an expired number": b"17",
    "a deadline and no more": FUTURE,
    "an expired deadline and no more": PAST,
    "cut after the kind": FUTURE + b"\x01d",
    "an expired one cut after the kind": PAST + b"\x01d",
    "cut inside the name": FUTURE + b"\x01d\x20custom",
    "no deadline": b"x" * 40,
    "a deadline that is no number": b"9999-99-99999" + b"\x01d\x01a\x80",
    "another deadline that is no number": b"nan          " + b"\x01d\x01a\x80",
    "an unknown kind": record(FUTURE, 1, b"?", b"custom"),
    "a name that is not ASCII": record(FUTURE, 1, b"d", b"\xff\xfe"),
    "version 0": record(FUTURE, 0, b"d", b"custom"),
    "an encrypted one, without a key": record(FUTURE, SEALED_VERSION, b"d", b"custom", b"x" * 60),
    "the next version": record(FUTURE, NEXT_VERSION, b"d", b"custom"),
    "a far future version": record(FUTURE, 255, b"d", b"custom"),
    "text": "früher war mehr Lametta".encode(),
    "JSON": b'{"type": "chat.message", "text": "hello"}',
    "a message without a record": b"\x81\xa4type\xa1m",
    "large": b"\xc1" * 100_000,
}


def mutations(genuine: bytes) -> st.SearchStrategy[bytes]:
    """Random bytes, and what becomes of a genuine record by cutting, flipped bits, and changed or repeated parts."""
    places = st.integers(0, len(genuine) - 1)
    flipped = st.builds(_flip, st.just(genuine), st.lists(st.tuples(places, st.integers(1, 255)), min_size=1))
    cut = places.map(lambda place: genuine[:place])
    beheaded = places.map(lambda place: genuine[place:])
    spliced = st.builds(lambda place, part: genuine[:place] + part + genuine[place:], places, st.binary(max_size=20))
    return st.one_of(
        st.binary(max_size=60), st.binary(max_size=60).map(FUTURE.__add__), flipped, cut, beheaded, spliced
    )


def _flip(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, bits in changes:
        changed[place] ^= bits
    return bytes(changed)
