"""Counted: event loops that stop, close without a word or are busy while the layer closes, and what they leave."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.proxy import Proxy
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import numbered, receive, within
from trunkline.errors import LayerUnavailable
from trunkline.redis.engine import Engine
from trunkline.redis.runtime import Runtime
from trunkline.redis.scripts import script

pytestmark = pytest.mark.redis


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def make(redis_server: RedisServer, prefix: str) -> Iterator[Callable[..., RedisChannelLayer]]:
    made = []

    def make(url: str = redis_server.url, **options: Any) -> RedisChannelLayer:
        made.append(RedisChannelLayer(hosts=[url], prefix=prefix, **options))
        return made[-1]

    yield make
    for layer in made:
        asyncio.run(within(layer.close(), 20, "the end of close()"))


def until(condition: Callable[[], bool], what: str, deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {deadline_s:g} s"
        time.sleep(0.02)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("trunkline")]


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(found) is kind for found in gc.get_objects())


def test_a_loop_that_stands_still_keeps_no_other_from_its_messages(make: Callable[..., RedisChannelLayer]) -> None:
    layer = make()

    async def talk() -> str:
        name = await layer.new_channel()
        await layer.send(name, numbered(1))
        assert await receive(layer, name) == numbered(1)
        return name

    still = asyncio.new_event_loop()
    try:
        name = still.run_until_complete(talk())
        asyncio.run(talk())
        asyncio.run(layer.send(name, numbered(2)))
        assert still.run_until_complete(receive(layer, name)) == numbered(2), "it does not go on where it stood"
        still.run_until_complete(talk())
    finally:
        still.run_until_complete(within(layer.close()))
        still.close()


def test_a_loop_that_comes_to_a_stand_gives_the_inboxes_away(make: Callable[..., RedisChannelLayer]) -> None:
    layer = make()
    waits, heard = threading.Event(), []

    async def wait() -> None:
        receiving = asyncio.ensure_future(receive(layer, await layer.new_channel("other"), 15))
        await asyncio.sleep(0)
        names.append(await layer.new_channel("other"))
        receiving.cancel()
        receiving = asyncio.ensure_future(receive(layer, names[0], 15))
        await asyncio.sleep(0)
        waits.set()
        heard.append(await receiving)

    async def begin() -> None:
        name = await layer.new_channel()
        await layer.send(name, numbered(0))
        assert await receive(layer, name) == numbered(0)  # this loop reads the inboxes
        thread.start()
        await asyncio.to_thread(waits.wait, 10)

    names: list[str] = []
    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    still = asyncio.new_event_loop()
    try:
        still.run_until_complete(begin())
        asyncio.run(layer.send(names[0], numbered(1)))
        thread.join(20)
        assert heard == [numbered(1)]
    finally:
        still.run_until_complete(within(layer.close()))
        still.run_until_complete(still.shutdown_default_executor())
        still.close()


def test_close_while_another_loop_is_busy_leaves_nothing_that_runs(
    redis_server: RedisServer, make: Callable[..., RedisChannelLayer]
) -> None:
    layer, other = make(), make()
    ready, closed = threading.Event(), threading.Event()

    async def use() -> None:
        await layer.group_add("room", await layer.new_channel())
        receiving = asyncio.ensure_future(layer.receive("orders"))
        while not any(entry["cmd"] == "blpop" for entry in redis_server.connections()):
            await asyncio.sleep(0.01)
        ready.set()
        closed.wait(20)  # this loop is busy for as long as the other closes the layer
        receiving.cancel()
        await asyncio.wait({receiving})
        await asyncio.sleep(0.1)

    before = our_threads()
    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    try:
        assert ready.wait(10)
        asyncio.run(within(layer.close(), 15, "the end of close()"))
        asyncio.run(other.send("orders", numbered(1)))
    finally:
        closed.set()
        thread.join(20)
    assert asyncio.run(receive(other, "orders")) == numbered(1)
    asyncio.run(within(other.close(), 15))
    until(lambda: our_threads() == before, "the end of the layer's threads")
    until(lambda: redis_server.connections() == [], "the end of the layer's connections")


def test_loops_that_closed_without_a_word_leave_no_descriptor_and_no_engine(
    make: Callable[..., RedisChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    layer = make()

    async def use() -> None:
        name = await layer.new_channel()
        await layer.send(name, numbered(1))
        await receive(layer, name)

    def loops(count: int) -> None:
        for _ in range(count):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(use())
            loop.close()

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    others = alive(Engine)
    loops(3)
    until(lambda: alive(Engine) <= others + 1, "the end of the engines")  # the background thread's is left
    before = descriptors()
    gc.collect()  # what earlier tests left is not ours
    with caplog.at_level(logging.WARNING), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loops(30)
        until(lambda: alive(Engine) <= others + 1, "the end of the engines")
        gc.collect()
    until(lambda: descriptors() <= before + 2, "the end of the descriptors")
    assert [record.getMessage() for record in caplog.records] == []
    assert [str(warning.message) for warning in warned] == []


def test_close_leaves_nothing_in_memory(make: Callable[..., RedisChannelLayer]) -> None:
    layer = make()
    before = alive(Runtime)

    async def use() -> None:
        name = await layer.new_channel()
        await layer.send(name, numbered(1))
        await receive(layer, name)
        await layer.close()

    for _ in range(3):
        asyncio.run(use())
    assert alive(Runtime) == before


def test_a_layer_that_is_dropped_ends_its_thread(redis_server: RedisServer, prefix: str) -> None:
    before = our_threads()
    layer = [RedisChannelLayer(hosts=[redis_server.url], prefix=prefix)]
    asyncio.run(layer[0].send("orders", numbered(1)))
    layer.clear()
    gc.collect()
    until(lambda: our_threads() == before, "the end of the layer's thread")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_dropping_a_layer_in_a_forked_child_waits_for_nothing_and_stops_nothing(
    redis_server: RedisServer, prefix: str
) -> None:
    layer = [RedisChannelLayer(hosts=[redis_server.url], prefix=prefix)]
    asyncio.run(layer[0].send("orders", numbered(1)))
    runtime = layer[0]._runtime
    assert runtime is not None
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with runtime._lock:
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(5)
        child = os.fork()
        if not child:
            signal.alarm(5)  # ends a child that hangs
            layer.clear()
            gc.collect()
            os._exit(0)
    finally:
        release.set()
        holder.join(5)
    assert os.waitpid(child, 0)[1] == 0
    assert asyncio.run(receive(layer[0], "orders")) == numbered(1)
    asyncio.run(within(layer[0].close()))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_process_without_descriptors_is_told_so_and_may_try_again(make: Callable[..., RedisChannelLayer]) -> None:
    layer = make()
    loop = asyncio.new_event_loop()
    errors: list[BaseException] = []

    def send() -> None:
        try:
            loop.run_until_complete(layer.send("orders", numbered(1)))
        except BaseException as error:
            errors.append(error)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    thread = threading.Thread(target=send, daemon=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        thread.start()
        thread.join(5)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not thread.is_alive(), "it waits for a thread that could not start"
    assert [type(error) for error in errors] == [LayerUnavailable]
    assert isinstance(errors.pop().__cause__, OSError)
    gc.collect()  # asyncio's half-made event loop, whose end is noisy
    send()
    assert errors == []
    loop.close()
    assert asyncio.run(receive(layer, "orders")) == numbered(1)


@pytest.mark.slow
def test_a_take_whose_loop_ended_in_a_long_outage_is_finished_after_it(
    redis_server: RedisServer, start_proxy: Callable[..., Proxy], make: Callable[..., RedisChannelLayer]
) -> None:
    proxy = start_proxy(redis_server)
    layer, other = make(proxy.url, expiry=120), make(expiry=120)

    async def take_and_end() -> None:
        receiving = asyncio.ensure_future(layer.receive("orders"))
        while not any(entry["cmd"] == "blpop" for entry in redis_server.connections()):
            await asyncio.sleep(0.01)
        swallowed = proxy.swallow_reply(script("take").sha)
        await other.send("orders", numbered(1))
        await asyncio.to_thread(swallowed.wait)
        proxy.refuse()
        receiving.cancel()
        await asyncio.wait({receiving})

    asyncio.run(take_and_end())
    time.sleep(14)  # the outage
    proxy.refuse(False)
    assert asyncio.run(receive(other, "orders", 10)) == numbered(1)
