"""How one process packs what it puts into queues and inboxes, and takes apart what it finds there."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

from trunkline.codec.record import Record, Unreadable, other_version, pack_record, unpack_record


class Records(Protocol):
    """Records of one version; for any thread.

    A store in which a record's place tells its kind and name keeps only what ``wrap`` makes of the body.
    """

    def pack(self, kind: int, name: str, body: bytes) -> bytes:
        """Everything of a record after its deadline, which the server writes with its own clock."""

    def unpack(self, data: bytes) -> Record:
        """Take a record with its deadline apart.

        :raises Unreadable: if it is none, of a version that is not read here, or can't be opened.
        """

    def wrap(self, kind: int, name: str, body: bytes) -> bytes:
        """What is kept of ``body`` in the place of ``kind`` and ``name``."""

    def unwrap(self, kind: int, name: str, data: bytes) -> bytes:
        """The body that ``wrap`` was given for the same place.

        :raises Unreadable: as for ``unpack``.
        """


class PlainRecords:
    """Records in the clear."""

    __slots__ = ()

    # No methods of their own: they stand in the way of every message.
    pack = staticmethod(pack_record)
    unpack = staticmethod(unpack_record)

    @staticmethod
    def wrap(kind: int, name: str, body: bytes) -> bytes:
        return body

    @staticmethod
    def unwrap(kind: int, name: str, data: bytes) -> bytes:
        if data < b" ":  # a body in the clear begins with no control character: this is a version, or nothing
            raise other_version(data[0]) if data else Unreadable("not a record")
        return data


def records_for(keys: Sequence[bytes], prefix: str) -> Records:
    """The records of one process: sealed if there are keys, with a salt that no other process has.

    :raises ImportError: where keys are given and the package that seals is not installed.
    """
    if not keys:
        return PlainRecords()
    from trunkline.codec.sealed import SALT_BYTES, SealedRecords

    return SealedRecords(keys, prefix, secrets.token_bytes(SALT_BYTES))
