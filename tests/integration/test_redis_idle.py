"""Counted: receives that wait far longer than every timeout, on connections that live and on half-open ones."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

import pytest

from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, within
from trunkline.redis import inbox, queue

pytestmark = pytest.mark.redis

AT_ONCE_S = 3.0  # on a busy machine, and still below each of the timeouts


async def wait_and_hear(
    redis_server: RedisServer, proxy: Proxy, idle_s: float, caplog: pytest.LogCaptureFixture
) -> tuple[int, int]:
    """Wait in all ways over both kinds of connections; returns how many connections the proxy saw, before and after."""
    prefix = uuid.uuid4().hex
    live, half_open, sender = (
        RedisChannelLayer(hosts=[url], prefix=prefix) for url in (redis_server.url, proxy.url, redis_server.url)
    )
    try:
        async with Tasks() as tasks:
            waiting = {}
            for number, layer in enumerate((live, half_open)):
                own, joined, other = [await layer.new_channel() for _ in range(3)]
                await layer.group_add(f"room-{number}", joined)
                by_prefix = await layer.new_channel("prefixed")
                names = [own, joined, by_prefix, f"orders-{number}", f"mail-{number}"]
                heads = [own, joined, by_prefix.partition("!")[0] + "!", f"orders-{number}", f"mail-{number}"]
                for name, head in zip(names, heads, strict=True):
                    waiting[name] = tasks.start(layer.receive(head))
                await sender.send(other, numbered(0))
                assert await within(layer.receive(other)) == numbered(0)  # the inboxes are being read
            await asyncio.sleep(0.3)
            before = proxy.connections
            proxy.freeze()
            with caplog.at_level(logging.WARNING):
                ended, _ = await asyncio.wait(waiting.values(), timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
            assert not ended, f"a receive ended although nothing was sent: {ended}"
            assert caplog.messages == [], "silence is nothing to warn of"
            after = proxy.connections
            for number, name in enumerate(waiting):
                await sender.send(name, numbered(number))
            done, _ = await asyncio.wait(waiting.values(), timeout=AT_ONCE_S)
            assert len(done) == len(waiting), "a message did not come at once"
            assert [task.result() for task in waiting.values()] == [numbered(number) for number in range(len(waiting))]
            for number in range(2):
                joined = list(waiting)[5 * number + 1]
                again = tasks.start((live, half_open)[number].receive(joined))
                await sender.group_send(f"room-{number}", numbered(100))
                assert await within(again, AT_ONCE_S) == numbered(100), "the membership is gone"
    finally:
        for layer in (live, half_open, sender):
            await within(layer.close(), 15, "the end of close()")
    return before, after


@pytest.mark.slow
@pytest.mark.asyncio
async def test_half_a_minute_of_silence_is_no_error_and_the_next_message_comes_at_once(
    redis_server: RedisServer, start_proxy: Callable[..., Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    before, after = await wait_and_hear(redis_server, start_proxy(redis_server), inbox.PATIENCE + 6, caplog)
    assert after >= before + 3, "the half-open connections were not noticed"


@pytest.mark.asyncio
async def test_forty_times_every_timeout_is_no_error(
    redis_server: RedisServer,
    start_proxy: Callable[..., Proxy],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "BLOCK_MS", 50)
    monkeypatch.setattr(inbox, "PATIENCE", 1.0)
    monkeypatch.setattr(queue, "BLOCK_S", 0.05)
    monkeypatch.setattr(queue, "PATIENCE", 1.0)
    proxy = start_proxy(redis_server)
    with redis_server.client() as client:
        client.config_resetstat()
        await wait_and_hear(redis_server, proxy, 4.0, caplog)
        calls = client.info("commandstats")
    # They really ended and began anew; each of the two layers has one of each kind, one of them for half of the time.
    assert calls["cmdstat_xread"]["calls"] > 40
    assert calls["cmdstat_blpop"]["calls"] > 40
