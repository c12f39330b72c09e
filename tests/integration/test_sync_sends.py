"""Counted: sends of threads, forks and commands that have no event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import trunkline
from support.counting import Ledger
from support.processes import Child
from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import ChannelFull, IPCChannelLayer, LayerUnavailable, MessageTooLarge, RedisChannelLayer
from trunkline.conformance.waiting import numbered, receive_many, within
from trunkline.redis.scripts import script

THREADS, SENDS = 50, 200
OWN, GROUP = "own", "group"
SHARED_REDIS = ["redis-1", "redis-3"]


@pytest.fixture(params=[*(pytest.param(name, marks=pytest.mark.redis) for name in SHARED_REDIS), "ipc"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """The path of a layer, and its CONFIG."""
    common: dict[str, Any] = {"prefix": uuid.uuid4().hex, "capacity": 100_000}
    if request.param == "ipc":
        return "trunkline.IPCChannelLayer", {"directory": str(tmp_path / "ipc"), "size": 2**28, **common}
    servers: list[RedisServer] = request.getfixturevalue("shared_redis")
    hosts = [server.url for server in servers[: int(request.param[-1])]]
    return "trunkline.RedisChannelLayer", {"hosts": hosts, **common}


@pytest.fixture
def layer(kind: tuple[str, dict[str, Any]]) -> Iterator[RedisChannelLayer | IPCChannelLayer]:
    path, config = kind
    made = getattr(trunkline, path.rpartition(".")[2])(**config)
    yield made
    asyncio.run(within(made.close()))


class Reader:
    """Receives in a thread with an event loop of its own: an own channel, a member of GROUP, and ``orders``."""

    def __init__(self, layer: RedisChannelLayer | IPCChannelLayer) -> None:
        self._layer = layer
        self._ready: Future[str] = Future()
        self._last = Future[bool]()
        self.ledger = Ledger()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self) -> Reader:
        self._thread.start()
        self.own = self._ready.result(20)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._last.done():
            self._last.set_result(False)
        self._thread.join(90)

    def finish(self) -> None:
        """Wait for all that the ledger says was sent."""
        self._last.set_result(True)
        self._thread.join(90)

    async def _main(self) -> None:
        layer = self._layer
        own, member = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("room", member)

        async def drain(channel: str, name: str) -> None:
            while True:
                self.ledger.take(name, await layer.receive(channel))

        tasks = [
            asyncio.create_task(drain(own, OWN)),
            asyncio.create_task(drain(member, GROUP)),
            asyncio.create_task(drain("orders", "orders")),
        ]
        self._ready.set_result(own)
        if await asyncio.wrap_future(self._last):
            end = time.monotonic() + 60
            while self.ledger.missing > 0 and time.monotonic() < end:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)  # a doubled message would come now
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await layer.close()


def connections(layer: RedisChannelLayer | IPCChannelLayer, servers: list[RedisServer]) -> int:
    """How many clients the servers of a layer have."""
    if isinstance(layer, IPCChannelLayer):
        return 0
    return sum(len(server.connections()) for server in servers[: len(layer.options.hosts)])


def test_fifty_threads_send_two_hundred_each_in_order_over_a_flat_number_of_connections(
    layer: RedisChannelLayer | IPCChannelLayer, request: pytest.FixtureRequest
) -> None:
    servers = request.getfixturevalue("shared_redis") if isinstance(layer, RedisChannelLayer) else []
    gc.collect()  # what earlier tests left is not ours
    with warnings.catch_warnings(record=True) as caught, Reader(layer) as reader:
        warnings.simplefilter("always")
        ledger, most = reader.ledger, 0

        def send(client: str) -> None:
            for number in range(SENDS):
                name = (OWN, GROUP, "orders")[number % 3]
                message = ledger.next(name, client)
                if name == GROUP:
                    layer.group_send_sync("room", message)
                else:
                    layer.send_sync(reader.own if name == OWN else name, message)
                ledger.count(name, client)

        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(send, f"thread-{thread}") for thread in range(THREADS)]
            while not all(future.done() for future in futures):
                most = max(most, connections(layer, servers))
                time.sleep(0.05)
            for future in futures:
                future.result()
        reader.finish()
        gc.collect()
    assert ledger.sent.total() == THREADS * SENDS
    ledger.check(in_order=(OWN, GROUP), at_least=SENDS // 3)
    # To each server: beats, inboxes, bells, sends of the reader's loop, of the layer's own and of one thread at a time.
    assert most <= 6 * len(servers), f"{most} connections"
    assert [str(warning.message) for warning in caught] == []


def test_they_raise_what_the_awaited_methods_raise(layer: RedisChannelLayer | IPCChannelLayer) -> None:
    with pytest.raises(TypeError):
        layer.send_sync("no name", {"type": "m"})
    with pytest.raises(TypeError):
        layer.send_sync("orders", "no message")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        layer.group_send_sync("no name", {"type": "m"})
    with pytest.raises(TypeError):
        layer.group_send_sync("room", {"number": 2**70})
    with pytest.raises(MessageTooLarge):
        layer.send_sync("orders", {"body": b"x" * 17 * 2**20})
    with pytest.raises(MessageTooLarge):
        layer.group_send_sync("room", {"body": b"x" * 17 * 2**20})


def test_a_full_channel_is_an_error_and_a_full_member_of_a_group_is_none(kind: tuple[str, dict[str, Any]]) -> None:
    path, config = kind
    layer = getattr(trunkline, path.rpartition(".")[2])(**{**config, "capacity": 3})
    try:
        own = asyncio.run(layer.new_channel())
        for channel in (own, "orders"):
            for number in range(3):
                layer.send_sync(channel, numbered(number))
            with pytest.raises(ChannelFull) as caught:
                layer.send_sync(channel, numbered(3))
            assert (caught.value.channel, caught.value.capacity) == (channel, 3)
        asyncio.run(layer.group_add("room", own))
        asyncio.run(layer.group_add("room", "orders"))
        layer.group_send_sync("room", numbered(4))
        assert layer.counters.full >= 2
        assert layer.counters.group_dropped >= 1
        received = asyncio.run(receive_many(layer, "orders", 3, 10))
        assert sorted(message["number"] for message in received) == [0, 1, 2]
    finally:
        asyncio.run(within(layer.close()))


def test_in_a_thread_that_runs_an_event_loop_they_say_what_to_write(
    layer: RedisChannelLayer | IPCChannelLayer,
) -> None:
    async def wrong() -> None:
        with pytest.raises(RuntimeError, match=r"await layer\.send\(\.\.\.\) there"):
            layer.send_sync("orders", {"type": "m"})
        with pytest.raises(RuntimeError, match=r"await layer\.group_send\(\.\.\.\) there"):
            layer.group_send_sync("room", {"type": "m"})

    asyncio.run(wrong())
    assert layer.counters.sent == layer.counters.group_sent == 0


@pytest.mark.redis
def test_in_an_outage_they_wait_for_the_retry_time_and_then_raise_and_go_on_when_it_is_over(
    start_redis: Callable[..., RedisServer],
) -> None:
    server = start_redis(appendonly="yes", appendfsync="always")
    layer = RedisChannelLayer(hosts=[server.url], prefix="sync", retry_time=3.0)
    try:
        layer.send_sync("orders", numbered(0))
        server.stop()
        begun = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(layer.send_sync, "orders", numbered(number)) for number in (1, 2)]
            waiting += [pool.submit(layer.group_send_sync, "room", numbered(number)) for number in (3, 4)]
            for send in waiting:
                with pytest.raises(LayerUnavailable, match="has been away for more than 3 s"):
                    send.result(30)
            assert time.monotonic() - begun >= 2.5, "they did not wait"
            server.start()
            while True:
                try:
                    layer.send_sync("orders", numbered(5))
                    break
                except LayerUnavailable:
                    assert time.monotonic() - begun < 30
                    time.sleep(0.05)
            server.stop()
            waiting = [pool.submit(layer.send_sync, "orders", numbered(number)) for number in (6, 7)]
            time.sleep(0.3)
            assert not any(send.done() for send in waiting)
            server.start()
            for send in waiting:
                send.result(30)
        received = asyncio.run(receive_many(layer, "orders", 4, 20))
        assert sorted(message["number"] for message in received) == [0, 5, 6, 7]
    finally:
        asyncio.run(within(layer.close()))


@pytest.mark.redis
def test_connections_that_are_cut_under_the_sends_of_threads_lose_and_double_nothing(
    redis_server: RedisServer, start_proxy: Callable[..., Proxy]
) -> None:
    proxy = start_proxy(redis_server, seed=3)
    config = {"prefix": "sync", "capacity": 100_000}
    layer, receiving = (RedisChannelLayer(hosts=[url], **config) for url in (proxy.url, redis_server.url))
    try:
        with Reader(receiving) as reader:
            ledger = reader.ledger
            proxy.cut_at_random_bytes(10_000)

            def send(client: str) -> None:
                for number in range(300):
                    name = (OWN, GROUP, "orders")[number % 3]
                    message = ledger.next(name, client)
                    if name == GROUP:
                        layer.group_send_sync("room", message)
                    else:
                        layer.send_sync(reader.own if name == OWN else name, message)
                    ledger.count(name, client)

            with ThreadPoolExecutor(3) as pool:
                for done in [pool.submit(send, f"thread-{thread}") for thread in range(3)]:
                    done.result(90)
            proxy.cut_at_random_bytes(None)
            reader.finish()
        assert proxy.cuts > 10, "hardly a connection was cut, so this test showed nothing"
        ledger.check(in_order=(OWN, GROUP), at_least=100)
    finally:
        asyncio.run(within(layer.close(), 20))


@pytest.mark.redis
@pytest.mark.parametrize("name", ["push", "group", "direct"])
def test_a_send_whose_reply_is_lost_is_repeated_and_not_doubled(
    redis_server: RedisServer, start_proxy: Callable[..., Proxy], name: str
) -> None:
    proxy = start_proxy(redis_server)
    config = {"prefix": "sync", "capacity": 100_000}
    layer, receiving = (RedisChannelLayer(hosts=[url], **config) for url in (proxy.url, redis_server.url))
    where = {"push": "orders", "group": GROUP, "direct": OWN}[name]
    try:
        with Reader(receiving) as reader:
            ledger = reader.ledger

            def send() -> None:
                message = ledger.next(where, "main")
                if name == "group":
                    layer.group_send_sync("room", message)
                else:
                    layer.send_sync(reader.own if name == "direct" else "orders", message)
                ledger.count(where, "main")

            for _ in range(20):
                send()
                time.sleep(0.01)  # a connection is opened for this thread meanwhile
            for _ in range(3):
                swallow = proxy.swallow_reply(script(name).sha)
                send()
                swallow.wait()
                for _ in range(5):
                    send()
                    time.sleep(0.01)
            reader.finish()
        ledger.check(in_order=(OWN, GROUP, "orders"), at_least=38)
    finally:
        asyncio.run(within(layer.close(), 20))


@pytest.mark.redis
def test_refused_scripts_and_a_new_epoch_are_no_errors_for_a_thread(redis_server: RedisServer) -> None:
    layer = RedisChannelLayer(hosts=[redis_server.url], prefix="sync")
    try:
        with redis_server.client() as client:
            for number in range(40):
                if number % 10 == 5:
                    client.script_flush()
                if number % 10 == 8:
                    client.flushall()
                layer.send_sync("orders", numbered(number))
                time.sleep(0.01)
        received = asyncio.run(receive_many(layer, "orders", 2, 10))
        assert [message["number"] for message in received] == [38, 39]
    finally:
        asyncio.run(within(layer.close()))


@pytest.mark.redis
def test_close_ends_the_waiting_of_threads(
    start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis()
    layer = RedisChannelLayer(hosts=[server.url], prefix="sync", retry_time=30.0)
    for number in range(20):
        layer.send_sync("orders", numbered(number))
        time.sleep(0.01)  # a connection is opened for threads meanwhile
    server.pause()
    try:
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(layer.send_sync, "orders", numbered(number)) for number in range(4)]
            time.sleep(0.3)
            assert not any(send.done() for send in waiting)
            asyncio.run(within(layer.close(), 20))
            for send in waiting:
                with pytest.raises(LayerUnavailable):
                    send.result(20)
    finally:
        server.resume()
    gc.collect()
    assert "never retrieved" not in caplog.text
    layer.send_sync("orders", numbered(5))  # usable again
    asyncio.run(within(layer.close()))


async def receive_clients(layer: Any, ledger: Ledger, name: str, channel: str) -> None:
    while ledger.missing:
        ledger.take(name, await within(layer.receive(channel), 20))


@pytest.mark.asyncio
async def test_forked_children_send_as_their_parent_does(kind: tuple[str, dict[str, Any]]) -> None:
    path, config = kind
    layer = getattr(trunkline, path.rpartition(".")[2])(**config)
    child: Child | None = None
    try:
        own, ledger = await layer.new_channel(), Ledger()
        arguments = {"path": path, "config": config, "channel": own, "forks": 3, "sends": SENDS}
        child = await Child.start("support.sync_workers:prefork", arguments)
        assert await child.result(60) == [0, 0, 0]
        ledger.count(own, "parent", 2 * SENDS)
        for fork in range(3):
            ledger.count(own, f"child-{fork}", SENDS)
        await receive_clients(layer, ledger, own, own)
        ledger.check(in_order=[own])
        assert "Warning" not in child.output
    finally:
        if child:
            await child.close()
        await layer.close()


@pytest.mark.asyncio
async def test_a_command_that_ends_right_after_sending_loses_nothing(kind: tuple[str, dict[str, Any]]) -> None:
    path, config = kind
    layer = getattr(trunkline, path.rpartition(".")[2])(**config)
    child: Child | None = None
    try:
        own, member, ledger = await layer.new_channel(), await layer.new_channel(), Ledger()
        await layer.group_add("room", member)
        arguments = {"path": path, "config": config, "channel": own, "group": "room", "sends": SENDS}
        child = await Child.start("support.sync_workers:command", arguments)
        for client in ("main", "thread"):
            ledger.count(own, client, SENDS)
            ledger.count(member, client, SENDS)
        for _ in range(2 * SENDS):
            ledger.take(own, await within(layer.receive(own), 30))
            ledger.take(member, await within(layer.receive(member), 30))
        ledger.check(in_order=[own, member])
        assert await child.ended() == 0
        assert "Warning" not in child.output
        assert "Error" not in child.output
    finally:
        if child:
            await child.close()
        await layer.close()
