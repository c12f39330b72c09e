"""Finding services through Sentinels: with passwords, late, among plain hosts, and without Sentinels afterwards."""

from __future__ import annotations

import asyncio
import re
import shlex
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cluster.certificates import Authority
from support.flavours import REDIS_7
from support.sentinels import Sentinels, SentinelServer
from support.servers import RedisServer, free_port
from trunkline import ConfigurationError, LayerUnavailable, RedisChannelLayer, RedisSentinelChannelLayer
from trunkline.conformance.waiting import Tasks, eventually, numbered, receive, within

pytestmark = pytest.mark.redis

PASSWORD = "hunter2-of-the-sentinels"


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    """One Sentinel with a password, two services without replicas: nothing here fails over."""
    with Sentinels("beta", "alpha", sentinels=1, replicas=0, password=PASSWORD) as started:
        yield started


Make = Callable[..., Any]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    made: list[RedisChannelLayer] = []

    def build(path: type[RedisChannelLayer], **config: Any) -> RedisChannelLayer:
        made.append(path(**{"prefix": f"t{uuid.uuid4().hex[:8]}", **config}))
        return made[-1]

    yield build
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


async def carries(layer: RedisChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.send(channel, numbered(1))
    assert await receive(layer, channel) == numbered(1)
    await layer.group_send("room", numbered(2))
    assert await receive(layer, channel) == numbered(2)
    await layer.send("normal", numbered(3))
    assert await receive(layer, "normal") == numbered(3)


@pytest.mark.asyncio
async def test_services_are_asked_for_with_the_sentinels_password_and_used_in_the_order_of_their_names(
    sentinels: Sentinels, make: Make
) -> None:
    layer = make(RedisSentinelChannelLayer, hosts=sentinels.hosts, sentinel_kwargs={"password": PASSWORD})
    assert "all of sentinel://" in repr(layer)
    await carries(layer)
    assert [host.label.rpartition("/")[2] for host in layer.options.hosts] == ["alpha", "beta"]
    assert PASSWORD not in repr(layer) + repr(layer.options)


@pytest.mark.asyncio
async def test_without_the_sentinels_password_the_error_says_so(sentinels: Sentinels, make: Make) -> None:
    for kwargs in ({}, {"sentinel_kwargs": {"password": "hunter3"}}):
        layer = make(RedisSentinelChannelLayer, hosts=sentinels.hosts, retry_time=0.2, **kwargs)
        with pytest.raises(LayerUnavailable, match=r"(?i)auth|password") as caught:
            await within(layer.send("a", numbered(1)), 10)
        assert "hunter" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_user_of_the_sentinels_needs_no_more_than_the_page_says(sentinels: Sentinels, make: Make) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "sentinel.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^redis-cli -p 26379 (ACL SETUSER trunkline .*)$", page, re.MULTILINE)
    with sentinels.client(sentinels.sentinels[0]) as client:
        client.execute_command(*shlex.split(line))
        kwargs = {"username": "trunkline", "password": "the-password"}
        layer = make(RedisSentinelChannelLayer, hosts=sentinels.hosts, sentinel_kwargs=kwargs)
        await carries(layer)

        async def listens() -> None:
            assert any(each["user"] == "trunkline" and each["sub"] == "2" for each in client.client_list())

        await eventually(listens, 10)


@pytest.mark.asyncio
async def test_a_service_that_no_sentinel_knows_is_named_in_the_error(sentinels: Sentinels, make: Make) -> None:
    layer = make(
        RedisSentinelChannelLayer,
        hosts=sentinels.hosts,
        services=["gamma"],
        sentinel_kwargs={"password": PASSWORD},
        retry_time=0.3,
    )
    with pytest.raises(LayerUnavailable, match="the Sentinels don't know the service 'gamma'"):
        await within(layer.send("a", numbered(1)), 10)


@pytest.mark.asyncio
async def test_hosts_of_channels_redis_mix_services_with_plain_servers(
    sentinels: Sentinels, shared_redis: list[RedisServer], make: Make
) -> None:
    service = {"sentinels": sentinels.hosts, "master_name": "beta", "sentinel_kwargs": {"password": PASSWORD}}
    layer = make(RedisChannelLayer, hosts=[service, shared_redis[0].url])
    await carries(layer)
    with sentinels.services["beta"].servers[0].client() as at_service, shared_redis[0].client() as at_plain:
        for client in (at_service, at_plain):
            assert list(client.scan_iter(f"tl1:{layer.prefix}:*")), "one of the hosts is not used"


@pytest.mark.asyncio
async def test_more_services_than_the_layer_can_use_are_refused(make: Make) -> None:
    names = [f"s{number}" for number in range(13)]
    with Sentinels(*names, sentinels=1, replicas=0, shared_server=True) as many:
        layer = make(RedisSentinelChannelLayer, hosts=many.hosts)
        with pytest.raises(ConfigurationError, match="know 13 services, and at most 12 can be used"):
            await within(layer.send("a", numbered(1)), 10)


@pytest.mark.asyncio
async def test_the_layer_waits_for_sentinels_that_come_later_and_does_without_them_afterwards(make: Make) -> None:
    with Sentinels("main", sentinels=1, replicas=0) as late:
        (sentinel,) = late.sentinels
        sentinel.stop()
        layer = make(RedisSentinelChannelLayer, hosts=late.hosts, retry_time=2, sentinel_refresh_interval=1)
        async with Tasks() as tasks:
            waiting = tasks.start(layer.receive("normal"))
            began = time.monotonic()
            with pytest.raises(LayerUnavailable, match="no Sentinel answered"):
                await within(layer.send("other", numbered(1)), 15)
            assert time.monotonic() - began >= 2
            assert not waiting.done(), "a receive waits through outages"
            sentinel.start()

            async def send() -> None:
                while True:
                    try:
                        return await layer.send("normal", numbered(2))
                    except LayerUnavailable:  # for the first moment after their return
                        await asyncio.sleep(0.1)

            await within(send(), 20)
            assert await within(waiting, 10) == numbered(2)
        sentinel.stop()
        await carries(layer)
        await asyncio.sleep(1.5)  # an address is asked for anew only where a connection is
        await carries(layer)


def test_plain_threads_find_the_services_too(sentinels: Sentinels) -> None:
    layer = RedisSentinelChannelLayer(
        hosts=sentinels.hosts, sentinel_kwargs={"password": PASSWORD}, prefix=f"t{uuid.uuid4().hex[:8]}"
    )

    async def read() -> object:
        try:
            return await receive(layer, "normal")
        finally:
            await layer.close()

    layer.send_sync("normal", numbered(1))
    assert asyncio.run(read()) == numbered(1)


@pytest.fixture
def tls_sentinel(sentinels: Sentinels, tmp_path: Path) -> Iterator[tuple[int, Authority]]:
    """The TLS port of a further Sentinel, which asks for a certificate, and the authority that it knows."""
    authority, port, tls_port = Authority(tmp_path), free_port(), free_port()
    certificate, key = authority.issue("sentinel", "sentinel", hosts=("localhost",))
    lines = [f"port {port}", "bind 127.0.0.1", 'logfile "redis.log"', f"tls-port {tls_port}"]
    lines += [f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {authority.certificate}"]
    lines += [f"sentinel monitor {name} 127.0.0.1 {sentinels.primary_port(name)} 1" for name in ("alpha", "beta")]
    with SentinelServer(port, lines, REDIS_7):
        yield tls_port, authority


@pytest.mark.asyncio
async def test_sentinels_are_asked_over_tls_with_a_certificate_of_ones_own(
    tls_sentinel: tuple[int, Authority], make: Make
) -> None:
    port, authority = tls_sentinel
    certificate, key = authority.issue("client", "trunkline")
    tls = {"ssl": True, "ssl_ca_certs": str(authority.certificate)}
    own = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    hosts = [("localhost", port)]
    await carries(make(RedisSentinelChannelLayer, hosts=hosts, services=["alpha"], sentinel_kwargs={**tls, **own}))
    nameless = make(RedisSentinelChannelLayer, hosts=hosts, services=["alpha"], sentinel_kwargs=tls, retry_time=2)
    with pytest.raises(LayerUnavailable):
        await within(nameless.send("orders", numbered(1)), 10, "a send without a certificate")
