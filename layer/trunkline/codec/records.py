"""How one process packs what it puts into queues and inboxes, and takes apart what it finds there."""

from __future__ import annotations

from trunkline.codec.record import pack_record, unpack_record


class Records:
    """Records in the clear.

    ``pack(kind, name, body)`` gives everything of a record after its deadline, and ``unpack(data)`` takes a record with
    its deadline apart; it raises ValueError for what is none or of a version that this release does not know.
    """

    __slots__ = ()

    # No methods of their own: they stand in the way of every message.
    pack = staticmethod(pack_record)
    unpack = staticmethod(unpack_record)
