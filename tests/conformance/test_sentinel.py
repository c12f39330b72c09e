"""The contract on the Sentinel layer with two services that it asks the Sentinels for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from support.sentinels import Sentinels
from trunkline.conformance import Capabilities, ChannelLayerContract

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels("one", "two") as started:
        yield started


@pytest.fixture
def channel_layer_config(sentinels: Sentinels) -> tuple[str, dict[str, Any]]:
    return "trunkline.RedisSentinelChannelLayer", {"hosts": sentinels.hosts, "prefix": f"t{uuid.uuid4().hex[:8]}"}


@pytest.fixture
def channel_layer_capabilities() -> Capabilities:
    return Capabilities(
        ordered_normal_channels=False,
        reasons={"ordered_normal_channels": "a normal channel is divided evenly over all services"},
    )


class TestRedisSentinelChannelLayer(ChannelLayerContract):
    pass
