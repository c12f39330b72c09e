"""The contract with options that change how every message travels: encrypted, and as JSON."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from support.servers import RedisServer
from trunkline.conformance import Capabilities, ChannelLayerContract
from trunkline.conformance.contract.groups import FurtherGroups, Groups
from trunkline.conformance.contract.messages import BadMessages, Messages
from trunkline.conformance.contract.otherprocesses import Processes

KEYS = {"symmetric_encryption_keys": ["a key that encrypts and is long", "a key that only decrypts"]}


@pytest.fixture
def channel_layer_config(shared_redis: list[RedisServer], chosen: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "trunkline.RedisChannelLayer", {
        "hosts": [shared_redis[0].url],
        "prefix": f"t{uuid.uuid4().hex[:8]}",
        **chosen,
    }


@pytest.mark.redis
@pytest.mark.matrix
class TestRedisChannelLayerWithEncryption(ChannelLayerContract):
    @pytest.fixture
    def chosen(self) -> dict[str, Any]:
        return KEYS

    @pytest.fixture
    def channel_layer_capabilities(self) -> Capabilities:
        return Capabilities(idle=0, reasons={"idle": "shown without encryption"})


class _InJSON(Messages, BadMessages, Groups):
    @pytest.fixture
    def channel_layer_capabilities(self) -> Capabilities:
        return Capabilities(bytes=False, reasons={"bytes": "JSON has no byte strings"})


@pytest.mark.redis
@pytest.mark.matrix
class TestRedisChannelLayerInJSON(_InJSON):
    @pytest.fixture
    def chosen(self) -> dict[str, Any]:
        return {"serializer_format": "json"}


@pytest.fixture
def directory() -> Any:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="trunkline-test-", dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True
    ) as made:
        yield Path(made) / "layer"


@pytest.mark.matrix
class TestIPCChannelLayerWithEncryption(Messages, Groups, FurtherGroups, Processes):
    @pytest.fixture
    def channel_layer_config(self, directory: Path) -> tuple[str, dict[str, Any]]:
        return "trunkline.IPCChannelLayer", {"directory": str(directory), **KEYS}


@pytest.mark.matrix
class TestIPCChannelLayerInJSON(_InJSON):
    @pytest.fixture
    def channel_layer_config(self, directory: Path) -> tuple[str, dict[str, Any]]:
        return "trunkline.IPCChannelLayer", {"directory": str(directory), "serializer_format": "json"}
