"""The contract on every server that the layer supports, and on the ways to reach one: by TLS, as a user with the rights
that docs/how-to/redis-security.md gives, by a socket. Each class has a server of its own, so they run side by side.

Left out are the tests of what doesn't depend on the server: forked processes and a long silence, which test_redis.py
shows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cluster.certificates import Authority
from support.documented import PASSWORD, USER, acl_rules
from support.flavours import REDIS_5, REDIS_6, REDIS_7, REDIS_8, VALKEY_8, Flavour
from support.servers import RedisServer, free_port
from trunkline.conformance import Capabilities, ChannelLayerContract
from trunkline.conformance.contract.delivery import Delivery
from trunkline.conformance.contract.flush import Flush
from trunkline.conformance.contract.groups import Groups
from trunkline.conformance.contract.otherprocesses import Processes

pytestmark = [pytest.mark.redis, pytest.mark.matrix]


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("server")
    with RedisServer(flavour=request.cls.flavour, **request.cls.settings(folder)) as server:
        request.cls.prepare(server)
        yield server
        request.cls.finish(server)


class _OnItsOwnServer:
    """To be mixed with parts of the contract."""

    flavour: ClassVar[Flavour] = REDIS_7

    @classmethod
    def settings(cls, folder: Path) -> dict[str, Any]:
        """Further settings of the server, whose files go into ``folder``."""
        return {}

    @classmethod
    def prepare(cls, server: RedisServer) -> None:
        """Called once when the server runs."""

    @classmethod
    def finish(cls, server: RedisServer) -> None:
        """Called once before it ends."""

    @classmethod
    def host(cls, server: RedisServer) -> str | dict[str, Any]:
        """What stands in ``hosts``."""
        return server.url

    @pytest.fixture
    def prefix(self) -> str:
        return f"t{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    def channel_layer_config(self, server: RedisServer, prefix: str) -> tuple[str, dict[str, Any]]:
        return "trunkline.RedisChannelLayer", {"hosts": [self.host(server)], "prefix": prefix}

    @pytest.fixture
    def channel_layer_capabilities(self) -> Capabilities:
        elsewhere = "does not depend on the server; shown in test_redis.py"
        return Capabilities(fork=False, idle=0, reasons={"fork": elsewhere, "idle": elsewhere})

    def test_the_server_is_the_one_that_was_asked_for(
        self, server: RedisServer, record_property: Callable[[str, object], None]
    ) -> None:
        product, version = server.identity()
        record_property("server", f"{product.capitalize()} {version}")
        assert product == self.flavour.product
        assert self.flavour.matches(version)


class TestRedis5(_OnItsOwnServer, ChannelLayerContract):
    flavour = REDIS_5


class TestRedis6(_OnItsOwnServer, ChannelLayerContract):
    flavour = REDIS_6


class TestRedis7(_OnItsOwnServer, ChannelLayerContract):
    flavour = REDIS_7


class TestRedis8(_OnItsOwnServer, ChannelLayerContract):
    flavour = REDIS_8


class TestValkey8(_OnItsOwnServer, ChannelLayerContract):
    flavour = VALKEY_8


class _AsTheDocumentedUser(_OnItsOwnServer):
    """Nothing that the layer does is refused to this user."""

    @classmethod
    def prepare(cls, server: RedisServer) -> None:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", USER, *acl_rules()[0])

    @classmethod
    def finish(cls, server: RedisServer) -> None:
        with server.client() as client:
            assert not (refused := client.acl_log()), refused

    @classmethod
    def host(cls, server: RedisServer) -> str:
        return server.url.replace("redis://", f"redis://{USER}:{PASSWORD}@")

    @pytest.fixture
    def prefix(self) -> str:
        return "trunkline"  # the keys of any other are not the user's


class TestDocumentedUser(_AsTheDocumentedUser, ChannelLayerContract):
    pass


class TestDocumentedUserOfRedis6(_AsTheDocumentedUser, Delivery, Groups, Flush):
    flavour = REDIS_6


class TestDocumentedUserOfValkey(_AsTheDocumentedUser, Delivery, Groups, Flush):
    flavour = VALKEY_8


class TestTls(_OnItsOwnServer, Delivery, Groups, Flush, Processes):
    """With an authority of its own, which the client's certificate is signed by too."""

    files: ClassVar[dict[str, str]] = {}

    @classmethod
    def settings(cls, folder: Path) -> dict[str, Any]:
        authority = Authority(folder)
        certificate, key = authority.issue("server", "redis", hosts=("127.0.0.1",))
        own, own_key = authority.issue("client", "trunkline")
        ca = str(authority.certificate)
        cls.files = {"ssl_ca_certs": ca, "ssl_certfile": str(own), "ssl_keyfile": str(own_key)}
        return {
            "tls_port": free_port(),
            "tls_cert_file": str(certificate),
            "tls_key_file": str(key),
            "tls_ca_cert_file": ca,
        }

    @classmethod
    def host(cls, server: RedisServer) -> dict[str, Any]:
        return {"address": f"rediss://127.0.0.1:{server.settings['tls-port']}/0", **cls.files}


class TestUnixSocket(_OnItsOwnServer, Delivery, Groups, Flush, Processes):
    @classmethod
    def settings(cls, folder: Path) -> dict[str, Any]:
        return {"unixsocket": str(folder / "redis.sock")}

    @classmethod
    def host(cls, server: RedisServer) -> str:
        return f"unix://{server.settings['unixsocket']}?db=3"
