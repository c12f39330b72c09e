"""One encoded message for many receivers in one process, each of whom gets an object of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ATOMS = frozenset((str, int, float, bool, bytes, type(None)))
_MOST_BYTES = 4096  # of a body that is kept beside what was read of it


class Shared:
    """An encoded group message.

    A small message without lists or dicts inside is read once, and every receiver gets a copy of that dict, which is as
    good as reading it again and takes a third of the time; any other is read for each receiver.

    :ivar body: the encoded message.
    :ivar flat: what to copy, once it is known.
    """

    __slots__ = ("_nested", "body", "flat")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.flat: dict[str, Any] | None = None
        self._nested = False

    def message(self, decode: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
        """A new object on every call.

        :param decode: what reads ``body``.
        :raises Unreadable: as ``decode`` does.
        """
        if self.flat is not None:
            return self.flat.copy()
        message = decode(self.body)
        if not self._nested:
            if len(self.body) <= _MOST_BYTES and all(value.__class__ in _ATOMS for value in message.values()):
                self.flat = message.copy()
            else:
                self._nested = True
        return message
