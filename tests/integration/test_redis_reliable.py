"""Delivery at least once: what is not done is given again, counted, and goes to the dead letters in the end."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.documented import acl_rules
from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import ChannelFull, RedisChannelLayer
from trunkline.conformance.waiting import Tasks, numbered, within
from trunkline.layers.deliveries import Delivery
from trunkline.redis import reliable
from trunkline.redis.scripts import script

pytestmark = [pytest.mark.redis, pytest.mark.asyncio]

GIVEN_AGAIN_S = (
    20.0  # what is lost track of, or was a dead reader's, is given again within about 8 s of an idle machine
)

NewLayer = Callable[..., RedisChannelLayer]


@pytest_asyncio.fixture
async def new_layer(shared_redis: list[RedisServer]) -> AsyncIterator[NewLayer]:
    """Makes layers of one prefix, each like a process of its own."""
    prefix, layers = uuid.uuid4().hex, []

    def make(**options: Any) -> RedisChannelLayer:
        options = {"hosts": [shared_redis[0].url], "prefix": prefix, "capacity": 10_000, **options}
        layers.append(RedisChannelLayer(**options))
        return layers[-1]

    yield make
    for layer in layers:
        await within(layer.close(), what="the end of close()")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed messages are given again sooner."""
    monkeypatch.setattr(reliable, "FIRST_PAUSE_S", 0.01)


async def take(layer: RedisChannelLayer, channel: str = "jobs", deadline_s: float = 10.0) -> Delivery:
    return await within(layer.receive_reliably(channel), deadline_s, what="a delivery")


async def nothing_comes(layer: RedisChannelLayer, channel: str = "jobs", seconds: float = 0.3) -> None:
    waiting = asyncio.ensure_future(layer.receive_reliably(channel))
    await asyncio.wait({waiting}, timeout=seconds)
    assert not waiting.done(), f"{waiting.result()} {waiting.result().message}"
    waiting.cancel()
    await asyncio.wait({waiting})


def held(server: RedisServer, layer: RedisChannelLayer) -> int:
    """How many messages are held on a server for a layer's prefix."""
    with server.client() as client:
        return sum(client.xlen(key) for key in client.scan_iter(match=f"tl1:{layer.prefix}:*:held:*", count=1000))


async def test_what_is_done_is_removed_and_not_given_again(
    new_layer: NewLayer, shared_redis: list[RedisServer]
) -> None:
    sender, first, second = new_layer(), new_layer(), new_layer()
    for number in range(3):
        await sender.send("jobs", numbered(number))
    for number in range(3):
        delivery = await take(first)
        assert (delivery.message, delivery.deliveries, delivery.channel) == (numbered(number), 1, "jobs")
        assert held(shared_redis[0], first) == 1
        await delivery.done()
        await delivery.done()
    assert held(shared_redis[0], first) == 0
    await first.close()
    await nothing_comes(second)


async def test_what_failed_is_given_again_with_its_count_and_becomes_a_dead_letter(
    new_layer: NewLayer, quick: None
) -> None:
    sender, first, second = new_layer(), new_layer(), new_layer()
    before = time.time()
    await sender.send("jobs", numbered(7))
    for deliveries in range(1, 6):
        delivery = await take(first if deliveries % 2 else second)
        assert (delivery.message, delivery.deliveries) == (numbered(7), deliveries)
        await delivery.failed(f"failure {deliveries} " + "x" * 1000)
        await delivery.failed("said twice")
    await nothing_comes(first)
    [letter] = await second.dead_letters()
    assert (letter.channel, letter.deliveries, letter.message) == ("jobs", 5, numbered(7))
    assert letter.reason.startswith("failure 5 ")
    assert len(letter.reason) == 500
    assert before - 1 < letter.first < letter.last < time.time() + 1
    assert await second.dead_letters("other") == []


async def test_what_failed_waits_a_moment(new_layer: NewLayer) -> None:
    layer = new_layer()
    await layer.send("jobs", numbered(0))
    await (await take(layer)).failed("not now")
    await layer.send("jobs", numbered(1))
    delivery = await take(layer)
    assert delivery.message == numbered(1), "what failed holds up what comes after it"
    await delivery.done()
    assert (await take(layer)).deliveries == 2


async def test_dead_letters_are_requeued_and_dropped(new_layer: NewLayer, quick: None) -> None:
    layer = new_layer(expiry=1)
    for number in range(3):
        await layer.send(f"jobs-{number}", numbered(number))
        await (await take(layer, f"jobs-{number}")).failed("hopeless", again=False)
    letters = {letter.channel: letter.id for letter in await layer.dead_letters()}
    assert len(letters) == 3
    assert await layer.drop_dead_letters([letters["jobs-0"], letters["jobs-0"]]) == []
    assert await layer.drop_dead_letters([letters["jobs-0"]]) == [letters["jobs-0"]]
    assert await layer.requeue_dead_letters([letters["jobs-1"], letters["jobs-0"]]) == [letters["jobs-0"]]
    with pytest.raises(ValueError, match="no id of a dead letter"):
        await layer.drop_dead_letters([letters["jobs-2"], "12.1-1"])
    assert [letter.channel for letter in await layer.dead_letters()] == ["jobs-2"]
    await asyncio.sleep(1.5)  # longer than the expiry: what was requeued stays
    delivery = await take(layer, "jobs-1")
    assert (delivery.message, delivery.deliveries) == (numbered(1), 1)


async def test_closing_gives_back_what_is_not_done(new_layer: NewLayer, shared_redis: list[RedisServer]) -> None:
    sender, first, second = new_layer(), new_layer(), new_layer()
    await sender.send("jobs", numbered(0))
    kept = await take(first)
    await first.close()
    with shared_redis[0].client() as client:
        [again] = client.scan_iter(match=f"tl1:{first.prefix}:*:again:jobs", count=1000)
        assert client.zcard(again) == 1
    delivery = await take(second)
    assert (delivery.message, delivery.deliveries) == (numbered(0), 2)
    await kept.failed("too late")  # it is another's now
    await kept.done()  # and this says that it was handled after all
    await delivery.failed("too late as well")
    await nothing_comes(second, seconds=2.5)


async def test_a_delivery_that_nobody_keeps_is_given_again(new_layer: NewLayer) -> None:
    layer = new_layer()
    await layer.send("jobs", numbered(0))
    kept = await take(layer)
    await layer.send("jobs", numbered(1))
    await take(layer)
    gc.collect()
    delivery = await take(layer, deadline_s=GIVEN_AGAIN_S)
    assert (delivery.message, delivery.deliveries) == (numbered(1), 2)
    await nothing_comes(layer, seconds=1)
    await kept.done()


async def test_an_event_loop_that_ends_without_a_word_loses_nothing(new_layer: NewLayer) -> None:
    sender, other, layer = new_layer(), new_layer(), new_layer()
    await sender.send("jobs", numbered(0))
    kept = []

    def use() -> None:
        loop = asyncio.new_event_loop()
        kept.append(loop.run_until_complete(layer.receive_reliably("jobs")))
        loop.close()

    await asyncio.to_thread(use)
    await sender.send("jobs", numbered(1))
    assert (await take(other)).message == numbered(1)
    await kept[0].done()  # from another loop than the one that received it
    await nothing_comes(other, seconds=1)


async def test_cancelled_receives_lose_nothing_and_do_not_count(new_layer: NewLayer) -> None:
    sender, last, layers, chance = new_layer(), new_layer(), [new_layer(), new_layer()], random.Random(5)
    seen: dict[int, list[int]] = {}
    over = False

    async def read(layer: RedisChannelLayer) -> None:
        while not over:
            receiving = asyncio.ensure_future(layer.receive_reliably("jobs"))
            await asyncio.wait({receiving}, timeout=chance.choice((0.0, 0.001, 0.005, 1.0)))
            receiving.cancel()
            await asyncio.wait({receiving})
            if not receiving.cancelled():
                await note(receiving.result())

    async def note(delivery: Delivery) -> None:
        seen.setdefault(delivery.message["number"], []).append(delivery.deliveries)
        await delivery.done()

    async with Tasks() as tasks:
        reading = [tasks.start(read(layer)) for layer in layers * 3]
        for number in range(500):
            await sender.send("jobs", numbered(number))
        end = time.monotonic() + 20
        while len(seen) < 300 and time.monotonic() < end:
            await asyncio.sleep(0.001)
        over = True
        await asyncio.wait(reading, timeout=10)
        while len(seen) < 500:  # what those had taken and did not receive, others get
            await note(await take(last, deadline_s=5))
    assert sorted(seen) == list(range(500))
    assert {tuple(counts) for counts in seen.values()} == {(1,)}


async def test_a_receive_cancelled_at_the_moment_when_its_message_came_gives_it_to_another(
    new_layer: NewLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = new_layer(), new_layer()
    receiving = asyncio.ensure_future(first.receive_reliably("jobs"))
    hand_out = reliable.HoldQueue.put

    def cancel_too(queue: reliable.HoldQueue, taken: list[Any]) -> None:
        hand_out(queue, taken)
        if taken:
            receiving.cancel()

    monkeypatch.setattr(reliable.HoldQueue, "put", cancel_too)
    await second.send("jobs", numbered(0))
    await asyncio.wait({receiving}, timeout=10)
    assert receiving.cancelled()
    monkeypatch.undo()
    delivery = await take(second)
    assert (delivery.message, delivery.deliveries) == (numbered(0), 1)


async def test_a_message_expires_while_it_waits_but_not_once_it_was_taken(new_layer: NewLayer) -> None:
    layer = new_layer(expiry=0.5)
    await layer.send("jobs", numbered(0))
    await asyncio.sleep(0.7)
    await layer.send("jobs", numbered(1))
    delivery = await take(layer)
    assert delivery.message == numbered(1)
    await asyncio.sleep(1)
    await delivery.failed("it took long")
    assert (await take(layer)).message == numbered(1)


async def test_what_was_taken_leaves_room_for_the_next(new_layer: NewLayer) -> None:
    layer = new_layer(capacity=1)
    await layer.send("jobs", numbered(0))
    delivery = await take(layer)
    await layer.send("jobs", numbered(1))
    with pytest.raises(ChannelFull):
        await layer.send("jobs", numbered(2))
    await delivery.done()
    with pytest.raises(ChannelFull):
        await layer.send("jobs", numbered(2))


async def test_plain_and_reliable_readers_share_a_channel_message_by_message(new_layer: NewLayer) -> None:
    sender, plain, careful = new_layer(), new_layer(), new_layer()
    got: list[int] = []

    async def read_plainly() -> None:
        while True:
            got.append((await plain.receive("jobs"))["number"])

    async def read_carefully() -> None:
        while True:
            delivery = await careful.receive_reliably("jobs")
            got.append(delivery.message["number"])
            await delivery.done()

    async with Tasks() as tasks:
        tasks.start(read_plainly())
        tasks.start(read_carefully())
        for number in range(300):
            await sender.send("jobs", numbered(number))
        end = time.monotonic() + 20
        while len(got) < 300 and time.monotonic() < end:
            await asyncio.sleep(0.02)
    assert sorted(got) == list(range(300))


async def test_wrong_uses_are_told(new_layer: NewLayer) -> None:
    layer = new_layer()
    assert "at-least-once" in layer.extensions
    await layer.send("jobs", numbered(0))
    await layer.receive("jobs")
    with pytest.raises(RuntimeError, match="either receive"):
        await layer.receive_reliably("jobs")
    await layer.send("other", numbered(0))
    await (await take(layer, "other")).done()
    with pytest.raises(RuntimeError, match="either receive"):
        await layer.receive("other")
    with pytest.raises(ValueError, match="only normal"):
        await layer.receive_reliably(await layer.new_channel())
    with pytest.raises(TypeError):
        await layer.receive_reliably("no name!!")


async def test_what_cannot_be_read_is_a_dead_letter(new_layer: NewLayer, shared_redis: list[RedisServer]) -> None:
    layer = new_layer()
    await layer.send("jobs", numbered(0))
    with shared_redis[0].client() as client:
        [queue] = client.scan_iter(match=f"tl1:{layer.prefix}:*:q:jobs", count=1000)
        client.lpush(queue, f"{int(time.time() * 1000) + 60_000:013d}" + "garbage")
    delivery = await take(layer)
    assert delivery.message == numbered(0)
    [letter] = await layer.dead_letters()
    assert (letter.message, letter.deliveries) == (None, 1)
    assert "can't be read" in letter.reason


async def test_flush_removes_what_is_held_and_dead(new_layer: NewLayer, shared_redis: list[RedisServer]) -> None:
    layer = new_layer()
    for number in range(2):
        await layer.send("jobs", numbered(number))
    await (await take(layer)).failed("hopeless", again=False)
    delivery = await take(layer)
    await layer.flush()
    await delivery.done()
    assert held(shared_redis[0], layer) == 0
    assert await layer.dead_letters() == []
    await layer.send("jobs", numbered(2))
    assert (await take(layer)).message == numbered(2)


async def test_a_server_that_refuses_to_tell_of_dead_readers_is_no_secret(
    new_layer: NewLayer, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    layer = new_layer(hosts=[redis_server.url])
    await layer.send("jobs", numbered(0))
    delivery = await take(layer)
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-xpending")
    end = time.monotonic() + 15
    while "Nobody looks for dead readers of channel 'jobs'" not in caplog.text:
        assert time.monotonic() < end, caplog.text
        await asyncio.sleep(0.05)
    await delivery.done()


async def test_several_servers_hold_and_list_their_share(new_layer: NewLayer, shared_redis: list[RedisServer]) -> None:
    layer = new_layer(hosts=[server.url for server in shared_redis])
    for number in range(30):
        await layer.send("jobs", numbered(number))
    deliveries = [await take(layer) for _ in range(30)]
    assert sorted(delivery.message["number"] for delivery in deliveries) == list(range(30))
    assert min(held(server, layer) for server in shared_redis) > 0
    for delivery in deliveries:
        await delivery.failed("hopeless", again=False)
    letters = await layer.dead_letters()
    assert len({letter.id for letter in letters}) == 30
    assert await layer.requeue_dead_letters(letter.id for letter in letters) == []
    again = [await take(layer) for _ in range(30)]
    assert sorted(delivery.message["number"] for delivery in again) == list(range(30))


@pytest.mark.parametrize("operation", ["hold", "done", "again", "tend"])
async def test_a_reply_that_gets_lost_and_a_request_that_comes_late_change_nothing(
    operation: str, new_layer: NewLayer, start_proxy: Callable[..., Proxy], shared_redis: list[RedisServer]
) -> None:
    proxy = start_proxy(shared_redis[0])
    sender, layer = new_layer(), new_layer(hosts=[proxy.url])
    await sender.send("jobs", numbered(0))
    await (await take(layer)).done()  # now everything is connected and loaded
    await sender.send("jobs", numbered(1))
    await (await take(layer)).failed("only once")
    assert (await take(layer)).deliveries == 2
    swallow = proxy.swallow_reply(script(operation).sha)
    await sender.send("jobs", numbered(2))
    delivery = await take(layer)
    assert (delivery.message, delivery.deliveries) == (numbered(2), 1)
    if operation == "again":
        await within(delivery.failed("only once"))
        delivery = await take(layer)
        assert (delivery.message, delivery.deliveries) == (numbered(2), 2)
    await within(delivery.done())
    request = await asyncio.to_thread(swallow.wait)
    await sender.send("jobs", numbered(3))
    last = await take(layer)
    assert last.message == numbered(3)
    await asyncio.to_thread(proxy.replay, request)
    await last.done()
    await nothing_comes(layer)


async def test_a_user_without_the_rights_for_it_loses_nothing_and_the_log_says_why(
    new_layer: NewLayer, shared_redis: list[RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    sender, server = new_layer(), shared_redis[0]
    user = f"user-{sender.prefix}"
    suffices, *more = [[rule.replace("trunkline", sender.prefix) for rule in rules] for rules in acl_rules()]
    at_least_once = next(rules for rules in more if "+xclaim" in rules)
    for number in range(4):
        await sender.send("jobs", numbered(number))
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", user, *suffices)
        worker = new_layer(hosts=[f"redis://{user}:the-password@127.0.0.1:{server.port}"])
        try:
            waiting = asyncio.ensure_future(worker.receive_reliably("jobs"))
            await asyncio.wait({waiting}, timeout=2.0)
            assert not waiting.done()
            assert "Receiving from" in caplog.text
            assert "can't run this command" in caplog.text or "permissions" in caplog.text
            client.execute_command("ACL", "SETUSER", user, *at_least_once)
            got = [await within(waiting, 20, what="a delivery"), *[await take(worker) for _ in range(3)]]
            assert [delivery.message for delivery in got] == [numbered(number) for number in range(4)]
            for delivery in got:
                await delivery.done()
        finally:
            await worker.close()
            client.execute_command("ACL", "DELUSER", user)
