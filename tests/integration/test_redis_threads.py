"""Counted: threads, forks, and the connections that they cost."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from support.counting import Ledger
from support.processes import Child
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.conformance.waiting import numbered, receive_many, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
SENDS = 1000


@pytest.fixture
def config(redis_server: RedisServer) -> dict[str, Any]:
    return {"hosts": [redis_server.url], "prefix": uuid.uuid4().hex, "capacity": 50_000}


def ids(server: RedisServer) -> set[str]:
    return {entry["id"] for entry in server.connections()}


@pytest.mark.parametrize("threads", [10, 1000])
def test_a_thousand_sends_from_threads_add_two_connections_at_most_and_warn_of_nothing(
    redis_server: RedisServer, config: dict[str, Any], threads: int
) -> None:
    layer = RedisChannelLayer(**config)
    received: list[int] = []
    most = 0
    running = threading.Event()
    finish = threading.Event()

    async def read() -> None:
        name = await layer.new_channel()
        await layer.group_add("room", name)
        await layer.send(name, numbered(-1))
        received.extend(message["number"] for message in await receive_many(layer, name, 1))
        names.append(name)
        running.set()
        received.extend(message["number"] for message in await receive_many(layer, name, 2 * SENDS, 60))
        await asyncio.to_thread(finish.wait, 30)
        await layer.close()

    names: list[str] = []
    errors_before = threading.excepthook
    reader = threading.Thread(target=lambda: asyncio.run(read()))
    reader.start()
    try:
        assert running.wait(20)
        before = len(ids(redis_server))

        def send(number: int) -> None:
            async_to_sync(layer.send)(names[0], numbered(number))
            async_to_sync(layer.group_send)("room", numbered(SENDS + number))

        gc.collect()  # what earlier tests left is not ours
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with ThreadPoolExecutor(threads) as pool:
                futures = [pool.submit(send, number) for number in range(SENDS)]
                while not all(future.done() for future in futures):
                    most = max(most, len(ids(redis_server)))
            for future in futures:
                future.result()
            gc.collect()
        most = max(most, len(ids(redis_server)))
        assert most - before <= 2, f"{most - before} connections more than the {before} of a receiving loop"
        assert [str(warning.message) for warning in caught] == []
    finally:
        finish.set()
        reader.join(70)
    assert threading.excepthook is errors_before
    assert sorted(received) == list(range(-1, 2 * SENDS))


def test_fifty_threads_of_two_hundred_sends_each_keep_their_order_on_a_flat_number_of_connections(
    redis_server: RedisServer, config: dict[str, Any]
) -> None:
    threads, sends, ledger, most = 50, 200, Ledger(), 0
    layer, reader = RedisChannelLayer(**config), RedisChannelLayer(**config)

    async def read(name: str) -> None:
        for _ in range(threads * sends):
            ledger.take(name, await reader.receive(name))

    def work(client: int) -> None:
        # As synchronous views do; each call of async_to_sync makes an event loop of its own.
        for number in range(sends // 2):
            async_to_sync(layer.send)(name, {"client": f"{client}", "number": number})
            async_to_sync(layer.group_send)("room", {"client": f"{client} to all", "number": number})

    async def run() -> None:
        nonlocal most
        reading = asyncio.ensure_future(read(name))
        pool = ThreadPoolExecutor(threads)
        working = [asyncio.get_running_loop().run_in_executor(pool, work, client) for client in range(threads)]
        while not all(task.done() for task in working):
            await asyncio.wait(working, timeout=0.2)
            most = max(most, len(await asyncio.to_thread(ids, redis_server)))
        await asyncio.gather(*working)
        pool.shutdown()
        await within(reading, 30, "the last message")
        await reader.close()
        await layer.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left"

    async def begin() -> str:
        name = await reader.new_channel()
        await reader.group_add("room", name)
        return name

    gc.collect()  # what earlier tests left is not ours
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        name = asyncio.run(begin())
        asyncio.run(run())
        gc.collect()
    for client in range(threads):
        ledger.count(name, f"{client}", sends // 2)
        ledger.count(name, f"{client} to all", sends // 2)
    ledger.check(in_order=[name], at_least=sends // 2)
    assert most <= 10, f"{most} connections for {threads} threads and a reader"
    assert [str(warning.message) for warning in caught] == []
    assert ids(redis_server) == set(), "close() leaves no connection"


def test_a_thousand_loops_that_come_and_go_leave_no_connection(
    redis_server: RedisServer, config: dict[str, Any]
) -> None:
    layer = RedisChannelLayer(**config)

    async def send(name: str, number: int) -> None:
        await layer.send(name, numbered(number))

    gc.collect()  # what earlier tests left is not ours
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        name = asyncio.run(layer.new_channel())
        for number in range(1000):
            asyncio.run(send(name, number))
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert len(ids(redis_server)) <= 4
    received = asyncio.run(receive_many(layer, name, 1000, 20))
    assert [message["number"] for message in received] == list(range(1000))
    asyncio.run(within(layer.close()))
    assert ids(redis_server) == set(), "close() leaves no connection"


@pytest.mark.asyncio
async def test_a_fork_that_ends_takes_no_connection_of_its_parent_with_it(
    redis_server: RedisServer, config: dict[str, Any]
) -> None:
    child = await Child.start("support.workers:fork_and_end", {"path": LAYER, "config": config})
    try:
        assert await child.hear(30) == 1
        before = ids(redis_server)
        await child.tell("fork")
        assert await child.hear(30) == 2
        assert before <= ids(redis_server), "a connection of the parent is gone"
        await child.tell("end")
        await child.result()
    finally:
        await child.close()


def test_close_ends_every_thread_and_socket_of_a_layer(redis_server: RedisServer, config: dict[str, Any]) -> None:
    async def use() -> None:
        layer = RedisChannelLayer(**config)
        name = await layer.new_channel()
        await layer.group_add("room", name)
        await layer.group_send("room", numbered(1))
        await receive_many(layer, name, 1)
        receiving = asyncio.create_task(layer.receive("orders"))
        await asyncio.to_thread(async_to_sync(layer.send), name, numbered(2))
        await receive_many(layer, name, 1)
        receiving.cancel()
        await asyncio.wait({receiving})
        await within(layer.close())

    before, sockets = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        asyncio.run(use())
    gc.collect()
    assert ids(redis_server) == set()
    assert threading.active_count() <= before
    assert len(os.listdir("/proc/self/fd")) <= sockets + 2
