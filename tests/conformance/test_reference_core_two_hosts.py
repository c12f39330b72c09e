"""Direct sends of channels_redis' core layer over two hosts, as a reference.

Its send chooses the host by the full name and its receive by the part before the mark, so that about half of all names
are deaf. Which half is a matter of chance, so only the test that uses a thousand names says anything here.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from support.servers import RedisServer
from trunkline.conformance import Capabilities, ChannelLayerContract
from trunkline.conformance.contract.base import Contract

pytestmark = pytest.mark.redis

EXPECTED_FAILURES = {
    "test_each_of_a_thousand_channels_is_readable": "send and receive choose the host by different parts of the name",
}


@pytest.fixture
def channel_layer_config(shared_redis: list[RedisServer]) -> tuple[str, dict[str, Any]]:
    hosts = [server.url for server in shared_redis[:2]]
    return "channels_redis.core.RedisChannelLayer", {"hosts": hosts, "prefix": uuid.uuid4().hex}


@pytest.fixture
def channel_layer_capabilities() -> Capabilities:
    return Capabilities(patience=2.0)


class TestCoreRedisChannelLayerOnTwoHosts(Contract):
    test_each_of_a_thousand_channels_is_readable = ChannelLayerContract.test_each_of_a_thousand_channels_is_readable
