"""Messages as bytes, and the records that carry them; pure, no I/O."""

from trunkline.codec.message import MAX_MESSAGE_BYTES, decode, encode
from trunkline.codec.record import CONTROL, DIRECT, GROUP, Record, pack_record, unpack_record
from trunkline.codec.records import Records

__all__ = [
    "CONTROL",
    "DIRECT",
    "GROUP",
    "MAX_MESSAGE_BYTES",
    "Record",
    "Records",
    "decode",
    "encode",
    "pack_record",
    "unpack_record",
]
