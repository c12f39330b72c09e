"""Sealed records open in the place that they were sealed for, with the right key, as they were, or not at all."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.codec import CONTROL, DIRECT, GROUP, Record, Undecryptable, UnknownVersion, Unreadable, records_for
from trunkline.codec.records import PlainRecords
from trunkline.codec.sealed import KNOWN_SENDERS, OVERHEAD, SALT_BYTES, SealedRecords

NAMES = st.text("abcXYZ019._-!", min_size=1, max_size=99)
KINDS = st.sampled_from([DIRECT, GROUP, CONTROL])
DEADLINE = b"1790000000000"
OLD, NEW = (hashlib.sha256(text).digest() for text in (b"the old key", b"the new key"))


def records(*keys: bytes, prefix: str = "site") -> SealedRecords:
    made = records_for(keys, prefix)
    assert isinstance(made, SealedRecords)
    return made


SENDER, READER = records(OLD), records(OLD)


@settings(deadline=None)
@given(KINDS, NAMES, st.binary(max_size=300))
def test_another_process_with_the_key_reads_what_was_sealed(kind: int, name: str, body: bytes) -> None:
    data = DEADLINE + SENDER.pack(kind, name, body)
    assert READER.unpack(data) == Record(int(DEADLINE), kind, name, body)
    assert READER.unwrap(kind, name, SENDER.wrap(kind, name, body)) == body
    assert len(data) == len(DEADLINE) + 3 + len(name) + len(body) + OVERHEAD
    assert not body[4:] or body not in data


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    rolled = [records(*keys) for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW])]
    reads = [
        [_opens(reader, DEADLINE + sender.pack(DIRECT, "chat", b"hello")) for sender in rolled] for reader in rolled
    ]
    assert reads == [
        [True, True, False, False],
        [True, True, True, True],
        [True, True, True, True],
        [False, False, True, True],
    ]


def _opens(reader: SealedRecords, data: bytes) -> bool:
    try:
        return reader.unpack(data).body == b"hello"
    except Undecryptable:
        return False


def test_every_changed_byte_is_noticed_but_in_the_deadline_which_the_server_writes() -> None:
    data = DEADLINE + SENDER.pack(DIRECT, "chat", b"hello")
    for position in range(len(DEADLINE), len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << random.randrange(8)
        with pytest.raises(Unreadable):
            READER.unpack(bytes(changed))
    assert READER.unpack(b"9" + data[1:]).body == b"hello"


def test_a_record_that_is_cut_anywhere_is_refused() -> None:
    data, kept = DEADLINE + SENDER.pack(DIRECT, "chat", b"hello"), SENDER.wrap(DIRECT, "chat", b"hello")
    for length in range(len(data)):
        with pytest.raises(Unreadable):
            READER.unpack(data[:length])
    for length in range(len(kept)):
        with pytest.raises(Unreadable):
            READER.unwrap(DIRECT, "chat", kept[:length])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_in_one_known_way(data: bytes) -> None:
    for read in (
        lambda: READER.unpack(data),
        lambda: READER.unpack(DEADLINE + b"\2d\4chat" + data),
        lambda: READER.unwrap(DIRECT, "chat", data),
        lambda: READER.unwrap(DIRECT, "chat", b"\2" + data),
    ):
        with pytest.raises(Unreadable):
            read()


OTHER_PLACES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("another name of the same length", lambda packed: packed.replace(b"chat", b"spam", 1)),
    ("a longer name", lambda packed: packed[:2] + b"\5chat1" + packed[7:]),
    ("a shorter name", lambda packed: packed[:2] + b"\3cha" + packed[7:]),
    ("a group", lambda packed: packed[:1] + b"g" + packed[2:]),
    ("a control record", lambda packed: packed[:1] + b"c" + packed[2:]),
]


@pytest.mark.parametrize(("what", "move"), OTHER_PLACES, ids=[what for what, _ in OTHER_PLACES])
def test_a_record_opens_nowhere_but_in_the_place_that_it_was_sealed_for(
    what: str, move: Callable[[bytes], bytes]
) -> None:
    packed = SENDER.pack(DIRECT, "chat", b"hello")
    READER.unpack(DEADLINE + packed)
    with pytest.raises(Undecryptable, match="another place"):
        READER.unpack(DEADLINE + move(packed))


def test_what_was_wrapped_for_one_place_opens_in_no_other() -> None:
    kept = SENDER.wrap(DIRECT, "chat", b"hello")
    for kind, name in ((DIRECT, "spam"), (DIRECT, "chat1"), (GROUP, "chat")):
        with pytest.raises(Undecryptable):
            READER.unwrap(kind, name, kept)


def test_a_layer_with_another_prefix_and_the_same_keys_opens_nothing() -> None:
    with pytest.raises(Undecryptable):
        records(OLD, prefix="other").unpack(DEADLINE + SENDER.pack(DIRECT, "chat", b"hello"))


def test_who_has_keys_takes_nothing_in_the_clear() -> None:
    with pytest.raises(Undecryptable, match="is not encrypted, and this process has keys"):
        READER.unpack(DEADLINE + PlainRecords.pack(DIRECT, "chat", b"hello"))
    with pytest.raises(Undecryptable, match="is not encrypted, and this process has keys"):
        READER.unwrap(DIRECT, "chat", PlainRecords.wrap(DIRECT, "chat", b"\x80"))


def test_who_has_no_keys_takes_nothing_sealed() -> None:
    with pytest.raises(Undecryptable, match="has no keys"):
        PlainRecords.unpack(DEADLINE + SENDER.pack(DIRECT, "chat", b"hello"))
    with pytest.raises(Undecryptable, match="has no keys"):
        PlainRecords.unwrap(DIRECT, "chat", SENDER.wrap(DIRECT, "chat", b"hello"))


def test_a_newer_version_is_told_apart_with_keys_and_without() -> None:
    for reader in (READER, PlainRecords()):
        with pytest.raises(UnknownVersion, match="version 3"):
            reader.unpack(DEADLINE + b"\3" + SENDER.pack(DIRECT, "chat", b"hello")[1:])
        with pytest.raises(UnknownVersion, match="version 3"):
            reader.unwrap(DIRECT, "chat", b"\3" + SENDER.wrap(DIRECT, "chat", b"hello")[1:])


def test_a_refused_direct_message_tells_its_channel_so_that_it_counts_as_read() -> None:
    for kind, channel in ((DIRECT, "chat"), (GROUP, "")):
        with pytest.raises(Undecryptable) as caught:
            records(NEW).unpack(DEADLINE + SENDER.pack(kind, "chat", b"hello"))
        assert caught.value.channel == channel


def test_no_salt_and_number_come_twice_from_any_threads() -> None:
    sender, other = records(OLD), records(OLD)
    with ThreadPoolExecutor(8) as pool:
        packed = list(pool.map(lambda _: sender.pack(DIRECT, "c", b""), range(5000)))
    packed += [other.pack(DIRECT, "c", b"") for _ in range(5000)]
    assert len({data[4 : 4 + SALT_BYTES + 8] for data in packed}) == 10_000
    assert len({data[4 : 4 + SALT_BYTES] for data in packed}) == 2


def test_the_form_of_a_sealed_record_stays_as_other_releases_know_it() -> None:
    salt = bytes(range(SALT_BYTES))
    sender = SealedRecords([OLD], "site", salt)
    sender.pack(DIRECT, "chat", b"the first")
    packed = sender.pack(GROUP, "room", b"hello")
    head, number = b"\x02g\x04room", (1).to_bytes(8, "big")
    assert packed.startswith(head + salt + number)
    extracted = hmac.digest(salt, OLD, "sha256")  # HKDF (RFC 5869) by hand
    expanded = hmac.digest(extracted, b"trunkline record 2 site\1", "sha256")
    opened = AESGCM(expanded).decrypt(bytes(4) + number, packed[len(head) + len(salt) + 8 :], head)
    assert opened == b"hello"


def test_only_what_opens_is_remembered_and_no_more_than_so_many_senders() -> None:
    reader = records(OLD)
    for _ in range(20):
        with pytest.raises(Undecryptable):
            reader.unpack(DEADLINE + records(NEW).pack(DIRECT, "chat", b""))
    assert reader._openers == {}
    for number in range(KNOWN_SENDERS + 20):
        sender = SealedRecords([OLD], "site", number.to_bytes(SALT_BYTES, "big"))
        reader.unpack(DEADLINE + sender.pack(DIRECT, "chat", b""))
    assert 0 < len(reader._openers) <= KNOWN_SENDERS


def test_no_repr_shows_a_key() -> None:
    assert repr(READER) == "<SealedRecords 1 keys>"
