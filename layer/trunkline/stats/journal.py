"""What of some counters was reported, and what has to be: numbered batches, so that nothing is ever added twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Values = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """What was counted since the batch before.

    :ivar number: from 1; whoever adds batches up adds each number once.
    :ivar added: by name; only what is not 0 throughout.
    """

    number: int
    added: tuple[tuple[str, Values], ...]


class Journal:
    """Makes batches. One that was not confirmed comes again as it is, whatever was counted since.

    :param values: the totals up to now, by name.
    :ivar id: who reports.
    """

    def __init__(self, values: Callable[[], Iterable[tuple[str, Values]]]) -> None:
        self.id = secrets.token_hex(12)
        self._values = values
        self._batch = Batch(0, ())
        self._reported: dict[str, Values] = {}

    def batch(self) -> Batch:
        """The batch that was not confirmed yet, else a new one, which may be empty."""
        if not self._batch.added:
            self._batch = Batch(self._batch.number + 1, tuple(self._added()))
        return self._batch

    def confirm(self, number: int) -> None:
        """The batch with this number was added up."""
        if self._batch.number == number:
            self._batch = Batch(number, ())

    def _added(self) -> Iterable[tuple[str, Values]]:
        for name, values in self._values():
            before = self._reported.get(name) or (0,) * len(values)
            if values != before:
                self._reported[name] = values
                yield name, tuple(value - past for value, past in zip(values, before, strict=True))
