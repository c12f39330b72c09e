"""The contract on the local layer: normal channels over IPC, the rest over one server or two shards."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.servers import RedisServer
from trunkline.conformance import ChannelLayerContract, SpecificationContract

pytestmark = pytest.mark.redis


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in a memory file system where there is one, as in real use."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="trunkline-test-", dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True
    ) as made:
        yield Path(made)


@pytest.fixture
def server_count() -> int:
    return 1


@pytest.fixture
def channel_layer_config(
    directory: Path, shared_redis: list[RedisServer], server_count: int
) -> tuple[str, dict[str, Any]]:
    hosts = [server.url for server in shared_redis[:server_count]]
    config = {"hosts": hosts, "directory": str(directory / "layer"), "prefix": f"t{uuid.uuid4().hex[:8]}"}
    return "trunkline.RedisLocalChannelLayer", config


class TestRedisLocalChannelLayerOnOneServer(ChannelLayerContract):
    pass


class TestRedisLocalChannelLayerOnTwoShards(SpecificationContract):
    @pytest.fixture
    def server_count(self) -> int:
        return 2
