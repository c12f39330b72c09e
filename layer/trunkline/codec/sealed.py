"""Records whose bodies are encrypted and authenticated: AES-256-GCM, one subkey for each process.

In place of a body in the clear stand a salt (16 bytes), a number (8 bytes, big-endian) and the body sealed (its length
and 16 bytes). HKDF makes the subkey from the key, the salt and the layer's prefix; the salt is random and belongs to
one process, whose records the number counts: so no nonce ever comes twice under one subkey, however many messages a key
sees. What stands before the sealed body in the clear (version, kind, name, salt, number) is authenticated with it; the
deadline is not, as the server writes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trunkline.codec.record import (
    DEADLINE_DIGITS,
    DIRECT,
    SEALED_VERSION,
    VERSION,
    Record,
    Undecryptable,
    Unreadable,
    other_version,
    unpack_record,
)

SALT_BYTES = 16
NUMBER_BYTES = 8
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD = SALT_BYTES + NUMBER_BYTES + TAG_BYTES  # bytes that a sealed body is longer

KNOWN_SENDERS = 4096  # subkeys of other processes that are kept; about 1 KB each, and 5 µs to make anew

_MARK = bytes((SEALED_VERSION,))
_ZEROS = bytes(NONCE_BYTES - NUMBER_BYTES)  # begin every nonce
_PURPOSE = b"trunkline record 2 "


def subkey(key: bytes, salt: bytes, prefix: str) -> bytes:
    """The 32 bytes with which the process of ``salt`` seals."""
    return HKDF(SHA256(), 32, salt, _PURPOSE + prefix.encode()).derive(key)


class SealedRecords:
    """See ``Records``.

    :param keys: of 32 bytes each; the first seals, all of them open.
    :param prefix: the layer's; records of another one can't be opened.
    :param salt: ``SALT_BYTES`` random bytes, which no other object may ever get, not even in a forked child.
    """

    def __init__(self, keys: Sequence[bytes], prefix: str, salt: bytes) -> None:
        self._keys = tuple(keys)
        self._prefix = prefix
        self._salt = salt
        self._numbers = itertools.count()  # next() is one step, whatever thread asks
        self._seal = AESGCM(subkey(keys[0], salt, prefix)).encrypt
        self._open_from: dict[bytes, AESGCM] = {}

    def __repr__(self) -> str:
        return f"<SealedRecords {len(self._keys)} keys>"

    def pack(self, kind: int, name: str, body: bytes) -> bytes:
        encoded = name.encode("ascii")
        number = next(self._numbers).to_bytes(NONCE_BYTES, "big")
        head = b"".join((bytes((SEALED_VERSION, kind, len(encoded))), encoded, self._salt, number[-NUMBER_BYTES:]))
        return head + self._seal(number, body, head)

    def unpack(self, data: bytes) -> Record:
        record = unpack_record(data, SEALED_VERSION)
        start = len(data) - len(record.body)
        try:
            body = self._open(data[DEADLINE_DIGITS:start], data[start:])
        except Undecryptable as error:
            if record.kind == DIRECT:
                error.channel = record.name
            raise
        return Record(record.deadline, record.kind, record.name, body)

    def wrap(self, kind: int, name: str, body: bytes) -> bytes:
        packed = self.pack(kind, name, body)
        return packed[:1] + packed[3 + len(name) :]

    def unwrap(self, kind: int, name: str, data: bytes) -> bytes:
        if data[:1] != _MARK:
            if not data:
                raise Unreadable("not a record")
            raise other_version(data[0] if data < b" " else VERSION)
        encoded = name.encode("ascii")
        return self._open(bytes((SEALED_VERSION, kind, len(encoded))) + encoded, data[1:])

    def _open(self, head: bytes, data: bytes) -> bytes:
        """Open what stands after the name; ``head`` is what stands before it."""
        salt = data[:SALT_BYTES]
        start = SALT_BYTES + NUMBER_BYTES
        nonce = _ZEROS + data[SALT_BYTES:start]
        if len(data) < OVERHEAD:
            raise Undecryptable("it is encrypted and too short: cut or damaged on its way")
        sealed, head = data[start:], head + data[:start]
        known = self._open_from.get(salt)
        if known is not None:
            try:
                return known.decrypt(nonce, sealed, head)
            except InvalidTag:
                raise _refused() from None
        for key in self._keys:
            opener = AESGCM(subkey(key, salt, self._prefix))
            try:
                body = opener.decrypt(nonce, sealed, head)
            except InvalidTag:
                continue
            if len(self._open_from) >= KNOWN_SENDERS:
                self._open_from.clear()
            self._open_from[salt] = opener  # only now: garbage must not push out what is in use
            return body
        raise _refused()


def _refused() -> Undecryptable:
    return Undecryptable(
        "none of this process' keys opens it: it was encrypted with another key, or changed, or meant for another place"
    )
