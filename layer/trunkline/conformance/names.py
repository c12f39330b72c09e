"""Names that no other test and no other run uses."""

from __future__ import annotations

import uuid


class Names:
    """Makes unique channel and group names. A fresh one for each test."""

    def __init__(self) -> None:
        self._unique = uuid.uuid4().hex[:12]
        self._count = 0

    def channel(self, label: str = "channel") -> str:
        """A normal channel's name."""
        return self._next(label)

    def group(self, label: str = "group") -> str:
        return self._next(label)

    def short(self) -> str:
        """A beginning for names that get long."""
        return f"c{self._unique[:7]}"

    def _next(self, label: str) -> str:
        self._count += 1
        return f"{label}-{self._unique}-{self._count}"
