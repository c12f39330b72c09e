"""The contract on every server that the layer supports: each class has one of its own, so they run side by side.

Left out are the tests of what doesn't depend on the server: forked processes and a long silence, which test_redis.py
shows.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from support.flavours import REDIS_5, REDIS_6, REDIS_7, REDIS_8, VALKEY_8, Flavour
from support.servers import RedisServer
from trunkline.conformance import Capabilities, ChannelLayerContract

pytestmark = [pytest.mark.redis, pytest.mark.matrix]


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(flavour=request.cls.flavour) as server:
        yield server


class _OnItsOwnServer(ChannelLayerContract):
    flavour: ClassVar[Flavour]

    @pytest.fixture
    def channel_layer_config(self, server: RedisServer) -> tuple[str, dict[str, Any]]:
        return "trunkline.RedisChannelLayer", {"hosts": [server.url], "prefix": f"t{uuid.uuid4().hex[:8]}"}

    @pytest.fixture
    def channel_layer_capabilities(self) -> Capabilities:
        elsewhere = "does not depend on the server; shown in test_redis.py"
        return Capabilities(fork=False, idle=0, reasons={"fork": elsewhere, "idle": elsewhere})

    def test_the_server_is_the_one_that_was_asked_for(
        self, server: RedisServer, record_property: pytest.RecordProperty
    ) -> None:
        product, version = server.identity()
        record_property("server", f"{product.capitalize()} {version}")
        assert product == self.flavour.product
        assert self.flavour.matches(version)


class TestRedis5(_OnItsOwnServer):
    flavour = REDIS_5


class TestRedis6(_OnItsOwnServer):
    flavour = REDIS_6


class TestRedis7(_OnItsOwnServer):
    flavour = REDIS_7


class TestRedis8(_OnItsOwnServer):
    flavour = REDIS_8


class TestValkey8(_OnItsOwnServer):
    flavour = VALKEY_8
