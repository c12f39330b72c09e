"""Ways to a server that are barred: the error, and a line in the log, say why in one sentence and show no secret."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cluster.certificates import Authority
from support.documented import PASSWORD, USER, acl_rules
from support.flavours import REDIS_7
from support.servers import RedisServer, free_port
from trunkline import LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, receive, within

pytestmark = pytest.mark.redis


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(host: str | dict[str, Any], **options: Any) -> RedisChannelLayer:
        layer = RedisChannelLayer(hosts=[host], **{"retry_time": 2, **options})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


class TlsServer:
    """A server that asks for a certificate, and two authorities of which it knows the first."""

    def __init__(self, folder: Path, start: Callable[..., RedisServer]) -> None:
        self.authority, self.stranger = Authority(folder / "ours"), Authority(folder / "theirs")
        certificate, key = self.authority.issue("server", "redis", hosts=("localhost",))
        self.port = free_port()
        self.server = start(
            flavour=REDIS_7,
            tls_port=self.port,
            tls_cert_file=str(certificate),
            tls_key_file=str(key),
            tls_ca_cert_file=str(self.authority.certificate),
        )

    def host(self, authority: Authority, signer: Authority | None, name: str = "localhost") -> dict[str, Any]:
        host = {"address": f"rediss://{name}:{self.port}/0", "ssl_ca_certs": str(authority.certificate)}
        if signer is not None:
            certificate, key = signer.issue("client", "trunkline")
            host |= {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
        return host


@pytest.fixture
def tls_server(tmp_path: Path, start_redis: Callable[..., RedisServer]) -> TlsServer:
    return TlsServer(tmp_path, start_redis)


@pytest.mark.asyncio
async def test_tls_with_an_authority_and_a_certificate_of_ones_own(
    tls_server: TlsServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(tls_server.host(tls_server.authority, tls_server.authority), retry_time=10)
    await layer.send("orders", numbered(1))
    assert await receive(layer, "orders") == numbered(1)


async def refusal(layer: RedisChannelLayer, caplog: pytest.LogCaptureFixture, *, same: bool = True) -> str:
    """What a send raises, after it was seen that a receive waits and that the log tells too (and the ``same``)."""
    caplog.set_level(logging.WARNING)
    async with Tasks() as tasks:
        [waiting] = await tasks.start_waiting(layer.receive("orders"))
        with pytest.raises(LayerUnavailable) as caught:
            await within(layer.send("orders", numbered(1)), 10, "the failure of the send")
        await asyncio.sleep(0.5)
        assert not waiting.done(), "a receive waits"
    lines = [record.getMessage() for record in caplog.records if "is away, and the layer waits" in record.getMessage()]
    assert len(lines) == 1, "one line for each outage, and not one for each attempt"
    problem = lines[0].partition("waits for it: ")[2]
    assert problem
    assert problem in str(caught.value) or not same
    return str(caught.value)


@pytest.mark.asyncio
async def test_a_wrong_authority_is_named_in_one_sentence(
    tls_server: TlsServer, make_layer: Callable[..., RedisChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    layer = make_layer(tls_server.host(tls_server.stranger, tls_server.authority))
    sentence = await refusal(layer, caplog)
    assert f"rediss://localhost:{tls_server.port}/0: its certificate is not trusted (" in sentence
    assert "see ssl_ca_certs" in sentence


@pytest.mark.asyncio
async def test_a_certificate_for_another_name_is_told(
    tls_server: TlsServer, make_layer: Callable[..., RedisChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    layer = make_layer(tls_server.host(tls_server.authority, tls_server.authority, name="127.0.0.1"))
    sentence = await refusal(layer, caplog)
    assert "its certificate is not trusted (IP address mismatch" in sentence
    assert "ssl_check_hostname" in sentence


@pytest.mark.asyncio
@pytest.mark.parametrize("signer", ["nobody", "a stranger"])
async def test_a_client_s_certificate_that_the_server_does_not_take_is_told(
    tls_server: TlsServer,
    make_layer: Callable[..., RedisChannelLayer],
    caplog: pytest.LogCaptureFixture,
    signer: str,
) -> None:
    layer = make_layer(tls_server.host(tls_server.authority, None if signer == "nobody" else tls_server.stranger))
    sentence = await refusal(layer, caplog, same=False)
    # With TLS 1.3 the server's reason comes after the greeting; the end of the connection may overtake it.
    assert any(words in sentence for words in ("TLS failed (", "closed the connection", "reset by peer")), sentence


@pytest.mark.asyncio
async def test_a_wrong_password_is_told_without_showing_it(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    sentence = await refusal(make_layer(redis_server.url.replace("redis://", "redis://app:S3cret@")), caplog)
    assert "invalid username-password pair" in sentence
    assert "S3cret" not in sentence + caplog.text


@pytest.mark.asyncio
async def test_a_user_of_another_prefix_is_told_what_it_lacks(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", USER, *acl_rules()[0])
    url = redis_server.url.replace("redis://", f"redis://{USER}:{PASSWORD}@")
    sentence = await refusal(make_layer(url, prefix="another"), caplog)
    assert "permissions" in sentence
    layer = make_layer(url, retry_time=10)
    await layer.send("orders", numbered(1))
    assert await receive(layer, "orders") == numbered(1)


@pytest.mark.asyncio
async def test_a_user_without_info_is_warned_of_and_served(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", USER, *acl_rules()[0], "-info")
    layer = make_layer(redis_server.url.replace("redis://", f"redis://{USER}:{PASSWORD}@"), retry_time=10)
    await layer.send("orders", numbered(1))
    assert await receive(layer, "orders") == numbered(1)
    assert [record for record in caplog.records if "could not be checked" in record.getMessage()]


@pytest.mark.asyncio
async def test_the_documented_user_with_its_additions_delivers_at_least_once_and_tells_statistics(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    with redis_server.client() as client:
        for rules in acl_rules()[:2]:
            client.execute_command("ACL", "SETUSER", USER, *rules)
        layer = make_layer(redis_server.url.replace("redis://", f"redis://{USER}:{PASSWORD}@"), retry_time=10)
        for number in range(3):
            await layer.send("orders", numbered(number))
        await (await within(layer.receive_reliably("orders"), 10)).done()
        for _ in range(2):
            await (await within(layer.receive_reliably("orders"), 10)).failed("no stock", again=False)
        first, second = await layer.dead_letters()
        # The answer is what was not found.
        assert await layer.requeue_dead_letters([first.id]) == []
        assert await layer.drop_dead_letters([second.id]) == []
        await (await within(layer.receive_reliably("orders"), 10)).done()
        end = time.monotonic() + 10
        while (await layer.statistics()).total.messages_count < 3:  # they are reported about once a second
            assert time.monotonic() < end, f"no statistics, but {client.acl_log()}"
            await asyncio.sleep(0.1)
        await layer.channel_statistics("orders")
        await layer.close()
        assert not (refused := client.acl_log()), refused


@pytest.mark.asyncio
async def test_a_socket_with_a_user_and_a_database(
    tmp_path: Path, start_redis: Callable[..., RedisServer], make_layer: Callable[..., RedisChannelLayer]
) -> None:
    path = tmp_path / "redis.sock"
    server = start_redis(unixsocket=str(path))
    with server.client() as client:
        for rules in (acl_rules()[0], acl_rules()[3]):
            client.execute_command("ACL", "SETUSER", USER, *rules)
    layer = make_layer(f"unix://{USER}:{PASSWORD}@{path}?db=1", retry_time=10)
    await layer.send("orders", numbered(1))
    assert await receive(layer, "orders") == numbered(1)
    with server.client() as client:
        assert not client.dbsize()
        assert not (refused := client.acl_log()), refused


@pytest.mark.asyncio
async def test_flush_looks_for_its_keys_without_stopping_the_server(
    redis_server: RedisServer, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    layer = make_layer(redis_server.url, capacity=1000, retry_time=10)
    with redis_server.client() as client:
        client.eval("for i = 1, 3000 do redis.call('SET', 'others:' .. i, i) end", 0)
        for number in range(500):
            await layer.send("orders", numbered(number))
        await layer.flush()
        told = client.info("commandstats")
        assert "cmdstat_keys" not in told
        assert told["cmdstat_scan"]["calls"] >= 3, "it is a walk in steps"
        assert "cmdstat_flushdb" not in told
        assert len(list(client.scan_iter(match="others:*", count=1000))) == 3000
        assert not [key for key in client.scan_iter(match="tl1:*", count=1000) if ":q:" in key]
