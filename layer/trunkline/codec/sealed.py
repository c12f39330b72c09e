"""Records whose bodies are encrypted and authenticated: AES-256-GCM, one subkey for each process.

In place of a body in the clear stand a salt (16 bytes), a number (8 bytes, big-endian) and the body sealed (its length
and 16 bytes). HKDF makes the subkey from the key, the salt and the layer's prefix; the salt is random and belongs to
one process, whose records the number counts: so no nonce ever comes twice under one subkey, however many messages a key
sees. Version, kind and name are authenticated with the body; salt and number are too, as key and nonce come from them.
The deadline is not, as the server writes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

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
_SEALED_AT = SALT_BYTES + NUMBER_BYTES
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
        self._openers: dict[bytes, Callable[[bytes, bytes, bytes], bytes]] = {}  # by salt

    def __repr__(self) -> str:
        return f"<SealedRecords {len(self._keys)} keys>"

    def pack(self, kind: int, name: str, body: bytes) -> bytes:
        encoded = name.encode("ascii")
        head = bytes((SEALED_VERSION, kind, len(encoded))) + encoded
        return head + self._sealed(head, body)

    def unpack(self, data: bytes) -> Record:
        deadline, kind, name, sealed = unpack_record(data, SEALED_VERSION)
        try:
            return Record(deadline, kind, name, self._open(data[DEADLINE_DIGITS : len(data) - len(sealed)], sealed))
        except Undecryptable as error:
            if kind == DIRECT:
                error.channel = name
            raise

    def wrap(self, kind: int, name: str, body: bytes) -> bytes:
        encoded = name.encode("ascii")
        return _MARK + self._sealed(bytes((SEALED_VERSION, kind, len(encoded))) + encoded, body)

    def unwrap(self, kind: int, name: str, data: bytes) -> bytes:
        if data[:1] != _MARK:
            if not data:
                raise Unreadable("not a record")
            raise other_version(data[0] if data < b" " else VERSION)
        encoded = name.encode("ascii")
        return self._open(bytes((SEALED_VERSION, kind, len(encoded))) + encoded, data[1:])

    def _sealed(self, head: bytes, body: bytes) -> bytes:
        """What stands after the name; ``head`` is what stands before it, from the version on."""
        nonce = next(self._numbers).to_bytes(NONCE_BYTES, "big")
        return self._salt + nonce[-NUMBER_BYTES:] + self._seal(nonce, body, head)

    def _open(self, head: bytes, data: bytes) -> bytes:
        """The body of what ``_sealed`` made, maybe in another process."""
        if len(data) < OVERHEAD:
            raise Undecryptable("it is encrypted and too short: cut or damaged on its way")
        salt, nonce, sealed = data[:SALT_BYTES], _ZEROS + data[SALT_BYTES:_SEALED_AT], data[_SEALED_AT:]
        known = self._openers.get(salt)
        if known is not None:
            try:
                return known(nonce, sealed, head)
            except InvalidTag:
                raise _refused() from None
        for key in self._keys:
            opener = AESGCM(subkey(key, salt, self._prefix)).decrypt
            try:
                body = opener(nonce, sealed, head)
            except InvalidTag:
                continue
            if len(self._openers) >= KNOWN_SENDERS:
                self._openers.clear()
            self._openers[salt] = opener  # only now: garbage must not push out what is in use
            return body
        raise _refused()


def _refused() -> Undecryptable:
    return Undecryptable(
        "none of this process' keys opens it: it was encrypted with another key, or changed, or meant for another place"
    )
