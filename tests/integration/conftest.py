"""Two IPC layer objects on one store; a module says with a ``config`` of its own what is different there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from trunkline import IPCChannelLayer


@pytest.fixture
def config() -> Iterator[dict[str, Any]]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        yield {"directory": directory + "/inner", "prefix": "test"}


@pytest_asyncio.fixture
async def ours(config: dict[str, Any]) -> AsyncIterator[IPCChannelLayer]:
    layer = IPCChannelLayer(**config)
    yield layer
    await layer.close()


@pytest_asyncio.fixture
async def theirs(config: dict[str, Any]) -> AsyncIterator[IPCChannelLayer]:
    """To the store a layer object of its own is another process."""
    layer = IPCChannelLayer(**config)
    yield layer
    await layer.close()
