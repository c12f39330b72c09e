"""Counted, over one real Redis: replies that get lost and requests that come back from the past."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.counting import Ledger
from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import Tasks, assert_silent, numbered, receive, within

pytestmark = pytest.mark.redis

SEND_DEADLINE_S = 5.0  # a swallowed reply is noticed at once, as its connection is cut


@pytest.fixture
def proxy(redis_server: RedisServer, start_proxy: Callable[..., Proxy]) -> Proxy:
    return start_proxy(redis_server, seed=11)


@pytest_asyncio.fixture
async def make_layer() -> AsyncIterator[Callable[..., RedisChannelLayer]]:
    made: list[RedisChannelLayer] = []

    def make(url: str, **options: Any) -> RedisChannelLayer:
        layer = RedisChannelLayer(hosts=[url], **{"prefix": "replay", "capacity": 10_000, **options})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        await within(layer.close(), what="the end of close()")


@pytest.mark.asyncio
async def test_a_group_send_whose_reply_was_swallowed_and_which_is_replayed_arrives_once(
    redis_server: RedisServer, proxy: Proxy, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(proxy.url), make_layer(redis_server.url)
    name, marker = await receiver.new_channel(), uuid.uuid4().hex
    await receiver.group_add("room", name)
    await sender.group_send("room", numbered(0))
    assert await receive(receiver, name) == numbered(0)

    swallow = proxy.swallow_reply(marker.encode())
    await within(sender.group_send("room", {"id": marker}), SEND_DEADLINE_S, "the end of the group send")
    request = await asyncio.to_thread(swallow.wait)
    assert await receive(receiver, name) == {"id": marker}
    await asyncio.to_thread(proxy.replay, request)
    await assert_silent(receiver, name, quiet_s=0.5)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["process-specific", "normal"])
async def test_a_request_that_is_replayed_after_later_sends_does_nothing(
    kind: str, redis_server: RedisServer, proxy: Proxy, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(proxy.url), make_layer(redis_server.url)
    channel, marker = (await receiver.new_channel() if kind == "process-specific" else "orders"), uuid.uuid4().hex
    swallow = proxy.swallow_reply(marker.encode())
    await within(sender.send(channel, {"id": marker}), SEND_DEADLINE_S, "the end of the send")
    request = await asyncio.to_thread(swallow.wait)
    for number in range(3):
        await sender.send(channel, {"id": number})
    await asyncio.to_thread(proxy.replay, request)
    await sender.send(channel, {"id": "last"})
    received = [(await receive(receiver, channel))["id"] for _ in range(5)]
    assert received == [marker, 0, 1, 2, "last"]
    await asyncio.to_thread(proxy.replay, request)
    await assert_silent(receiver, channel, quiet_s=0.5)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["process-specific", "normal"])
async def test_a_request_that_is_replayed_after_it_was_received_does_nothing(
    kind: str, redis_server: RedisServer, proxy: Proxy, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(proxy.url), make_layer(proxy.url)
    channel, marker = (await receiver.new_channel() if kind == "process-specific" else "orders"), uuid.uuid4().hex
    swallow = proxy.swallow_reply(marker.encode())
    await within(sender.send(channel, {"id": marker}), SEND_DEADLINE_S, "the end of the send")
    request = await asyncio.to_thread(swallow.wait)
    assert await receive(receiver, channel, 10) == {"id": marker}
    await asyncio.to_thread(proxy.replay, request)
    await assert_silent(receiver, channel, quiet_s=1.0)


@pytest.mark.asyncio
async def test_many_sends_of_one_turn_whose_reply_was_swallowed_arrive_once_each(
    redis_server: RedisServer, proxy: Proxy, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(proxy.url), make_layer(redis_server.url)
    own, marker, ledger = await receiver.new_channel(), uuid.uuid4().hex, Ledger()
    swallow = proxy.swallow_reply(marker.encode())

    async def send(channel: str) -> None:
        for _ in range(100):
            message = ledger.next(channel, "sender")
            ledger.count(channel, "sender")
            await sender.send(channel, {**message, "id": marker})

    await within(asyncio.gather(send(own), send("orders")), 10, "the end of the sends")
    request = await asyncio.to_thread(swallow.wait)
    await asyncio.to_thread(proxy.replay, request)
    for channel in (own, "orders"):
        ledger.take_all(channel, [await receive(receiver, channel) for _ in range(100)])
    ledger.check(in_order=[own, "orders"])
    await assert_silent(receiver, own, "orders", quiet_s=0.5)


@pytest.mark.asyncio
async def test_a_receivers_lost_replies_and_replayed_requests_lose_and_double_nothing(
    redis_server: RedisServer, proxy: Proxy, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver, ledger = make_layer(redis_server.url), make_layer(proxy.url), Ledger()
    own = await receiver.new_channel()
    async with Tasks() as tasks:

        async def drain(channel: str) -> None:
            while True:
                ledger.take(channel, await receiver.receive(channel))

        for channel in (own, "orders", "orders"):
            tasks.start(drain(channel))
        requests = []
        # What the reader of the inbox, the bells and the takes write carries the names of keys; each of its replies
        # is swallowed in turn, and each such request comes back later.
        for marker in [b"XREAD", b":orders", b":in:", b":orders", b"XDEL", b"XREAD", b":orders", b"BLPOP"] * 2:
            swallow = proxy.swallow_reply(marker)
            for _ in range(10):
                for channel in (own, "orders"):
                    message = ledger.next(channel, "sender")
                    ledger.count(channel, "sender")
                    await within(sender.send(channel, message))
            await asyncio.to_thread(_wait_or_give_up, swallow)
            if swallow.request:
                requests.append(swallow.request)
            for request in requests[-3:]:
                await asyncio.to_thread(proxy.replay_quietly, request)
        for request in requests:
            await asyncio.to_thread(proxy.replay_quietly, request)
        await _settle(ledger)
    assert len(requests) >= 6, "hardly a reply was swallowed, so this test showed nothing"
    ledger.check(in_order=[own], at_least=150)


def _wait_or_give_up(swallow: Any) -> None:
    """Not each marker need come by: which commands a reader uses is its own affair."""
    try:
        swallow.wait(0.5)
    except AssertionError:
        pass


async def _settle(ledger: Ledger, deadline_s: float = 10.0) -> None:
    """Wait for the last message, and a moment longer for one that should not come."""
    end = asyncio.get_running_loop().time() + deadline_s
    while ledger.missing and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["process-specific", "normal", "group"])
async def test_a_send_whose_reply_was_lost_stays_one_message_when_the_server_forgets_its_scripts(
    kind: str, redis_server: RedisServer, proxy: Proxy, make_layer: Callable[..., RedisChannelLayer]
) -> None:
    sender, receiver = make_layer(proxy.url), make_layer(redis_server.url)
    channel, marker = ("orders" if kind == "normal" else await receiver.new_channel()), uuid.uuid4().hex
    if kind == "group":
        await receiver.group_add("room", channel)

    async def send(message: dict[str, Any]) -> None:
        await (sender.group_send("room", message) if kind == "group" else sender.send(channel, message))

    for number in range(20):  # by now it has connections of its own
        await send(numbered(number))
        assert await receive(receiver, channel) == numbered(number)
    swallow = proxy.swallow_reply(marker.encode())
    async with Tasks() as tasks:
        sending = tasks.start(send({"id": marker}))
        for _ in range(5):
            await asyncio.sleep(0)
        # It is on its way; from here on the sender's event loop stands still.
        request = swallow.wait()
        assert marker.encode() in request
        with redis_server.client() as client:
            client.script_flush()
        await within(sending, SEND_DEADLINE_S, "the end of the send")
    assert await receive(receiver, channel) == {"id": marker}
    await assert_silent(receiver, channel, quiet_s=0.5)
