"""The contract on the machine-local layer."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.conformance import ChannelLayerContract


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in a memory file system where there is one, as in real use."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="trunkline-test-", dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True
    ) as made:
        yield Path(made)


@pytest.fixture
def channel_layer_config(directory: Path) -> tuple[str, dict[str, Any]]:
    return "trunkline.IPCChannelLayer", {"directory": str(directory / "layer"), "prefix": f"t{uuid.uuid4().hex[:8]}"}


class TestIPCChannelLayer(ChannelLayerContract):
    pass
