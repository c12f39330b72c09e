"""The IPC layer under many short event loops and threads: nothing is left over, and nothing blocks."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from trunkline import IPCChannelLayer


@pytest.fixture
def layer() -> Iterator[IPCChannelLayer]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        layer = IPCChannelLayer(directory=directory, prefix="test", capacity=10_000)
        yield layer
        asyncio.run(layer.close())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_thousand_short_loops_leave_no_descriptors_tasks_or_warnings(layer: IPCChannelLayer) -> None:
    async def once(number: int) -> None:
        name = await layer.new_channel()
        await layer.group_add("room", name)
        await layer.send("work", {"number": number})
        assert await layer.receive("work") == {"number": number}
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(layer.receive(name), 0.0001)
        await layer.group_discard("room", name)

    asyncio.run(once(0))
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(500):
            asyncio.run(once(number), debug=number % 50 == 0)
            async_to_sync(layer.send)("sync", {"number": number})
        gc.collect()
    assert descriptors() <= before + 1


def test_sends_from_many_threads_all_arrive(layer: IPCChannelLayer) -> None:
    before = descriptors()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: async_to_sync(layer.send)("work", {"number": number}), range(1000)))

    async def read() -> list[int]:
        return [(await asyncio.wait_for(layer.receive("work"), 5))["number"] for _ in range(1000)]

    assert sorted(asyncio.run(read())) == list(range(1000))
    assert descriptors() <= before + 8  # the store and one doorbell, however many threads


def test_a_loop_that_was_closed_without_a_word_keeps_nothing_from_others(layer: IPCChannelLayer) -> None:
    names: list[str] = []

    async def wait_for_both() -> None:
        names.append(await layer.new_channel())
        await layer.group_add("room", names[0])
        names.extend(["work"])
        for name in names:
            tasks.append(asyncio.ensure_future(layer.receive(name)))
        await asyncio.sleep(0.05)

    tasks: list[asyncio.Future[Any]] = []
    gone = asyncio.new_event_loop()
    gone.run_until_complete(wait_for_both())
    gone.close()  # its receivers still wait, and it is the first that would be rung

    async def read() -> None:
        waiting = [asyncio.ensure_future(layer.receive(name)) for name in names]
        await asyncio.sleep(0.05)
        await layer.send("work", {"number": 1})
        await layer.group_send("room", {"number": 2})
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [{"number": 2}, {"number": 1}]

    asyncio.run(read())
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_receivers_in_the_loops_of_four_threads_share_the_work(layer: IPCChannelLayer) -> None:
    received: list[int] = []
    everybody = threading.Barrier(5, timeout=20)

    async def read() -> None:
        receiving = asyncio.ensure_future(layer.receive("work"))
        await asyncio.sleep(0.05)
        everybody.wait()
        while (number := (await asyncio.wait_for(receiving, 20))["number"]) >= 0:
            received.append(number)
            receiving = asyncio.ensure_future(layer.receive("work"))

    threads = [threading.Thread(target=lambda: asyncio.run(read())) for _ in range(4)]
    for thread in threads:
        thread.start()
    everybody.wait()
    for number in (*range(2000), -1, -1, -1, -1):
        async_to_sync(layer.send)("work", {"number": number})
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(received) == list(range(2000))


def test_close_gives_up_every_descriptor_and_the_layer_works_again(layer: IPCChannelLayer) -> None:
    async def use() -> None:
        before = descriptors()
        name = await layer.new_channel()
        await layer.group_add("room", name)
        await layer.send(name, {"number": 1})
        waiting = asyncio.ensure_future(layer.receive("work"))
        await asyncio.sleep(0.01)
        await layer.close()
        assert descriptors() == before
        assert await asyncio.wait_for(layer.receive(name), 5) == {"number": 1}  # what was unread is kept
        await layer.group_send("room", {"number": 2})
        assert await asyncio.wait_for(layer.receive(name), 5) == {"number": 2}
        await layer.send("work", {"number": 3})
        assert await asyncio.wait_for(waiting, 5) == {"number": 3}

    asyncio.run(use())
