"""A store of its own for each test, and a bell that only notes who was rung."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.config import IPCOptions
from trunkline.ipc.environment import Environment


class NotedBells:
    """Stands for the ringer: notes each (doorbell, line); the dead don't answer."""

    def __init__(self) -> None:
        self.rung: list[tuple[bytes, bytes]] = []
        self.dead: set[bytes] = set()

    def __call__(self, bell: bytes, line: bytes) -> bool:
        if bell in self.dead:
            return False
        self.rung.append((bell, line))
        return True


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    made = Environment(IPCOptions(directory=str(tmp_path / "store"), size=8 * 1024 * 1024))
    yield made
    made.close()


@pytest.fixture
def ring() -> NotedBells:
    return NotedBells()


@pytest.fixture
def everything(environment: Environment) -> Any:
    """All keys of the store but those that belong to nobody."""
    return lambda: [
        key for key in environment.write(lambda txn: [key for key, _ in txn.cursor()]) if key[:1] not in b"ms"
    ]
