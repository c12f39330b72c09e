"""Messages as bytes, and the records that carry them; pure, no I/O."""

from trunkline.codec.jsontext import encode_json
from trunkline.codec.message import MAX_MESSAGE_BYTES, decode, encode
from trunkline.codec.record import (
    CONTROL,
    DIRECT,
    GROUP,
    REASON,
    SEALED_VERSION,
    Record,
    Undecryptable,
    UnknownVersion,
    Unreadable,
    pack_record,
    unpack_record,
)
from trunkline.codec.records import Records, records_for
from trunkline.codec.shared import Shared

__all__ = [
    "CONTROL",
    "DIRECT",
    "GROUP",
    "MAX_MESSAGE_BYTES",
    "REASON",
    "SEALED_VERSION",
    "Record",
    "Records",
    "Shared",
    "Undecryptable",
    "UnknownVersion",
    "Unreadable",
    "decode",
    "encode",
    "encode_json",
    "pack_record",
    "records_for",
    "unpack_record",
]
