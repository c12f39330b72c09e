"""What the IPC layer takes out of the store for receivers that it has woken, and doorbells that it leaves behind."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.ipc import ring_now
from trunkline import ChannelFull, IPCChannelLayer


@pytest.fixture
def layers() -> Iterator[tuple[IPCChannelLayer, IPCChannelLayer]]:
    """Who receives, and another process' view of the same store."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        one, other = (IPCChannelLayer(directory=directory, prefix="test", capacity=2) for _ in range(2))
        yield one, other
        for layer in (one, other):
            asyncio.run(layer.close())


Layers = tuple[IPCChannelLayer, IPCChannelLayer]


async def waiting(layer: IPCChannelLayer, channel: str) -> asyncio.Task[dict[str, Any]]:
    task = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0.02)
    return task


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_message_taken_for_a_receiver_that_is_cancelled_is_the_first_again(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        for _ in range(2):  # the second time a doorbell was left at the channel
            task = await waiting(ours, name)
            await theirs.send(name, {"number": 1})
            ring_now(ours)
            await cancel(task)
            await theirs.send(name, {"number": 2})
            with pytest.raises(ChannelFull):
                await theirs.send(name, {"number": 3})
            assert [(await asyncio.wait_for(ours.receive(name), 5))["number"] for _ in range(2)] == [1, 2]

    asyncio.run(run())


def test_a_message_taken_for_a_receiver_that_is_cancelled_goes_to_the_next(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        first, second = await waiting(ours, name), await waiting(ours, name)
        await theirs.send(name, {"number": 1})
        ring_now(ours)
        await cancel(first)
        assert await asyncio.wait_for(second, 5) == {"number": 1}

    asyncio.run(run())


def test_a_message_taken_ahead_is_there_after_close(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        task = await waiting(ours, name)
        await theirs.send(name, {"number": 1})
        ring_now(ours)
        await ours.close()
        await theirs.send(name, {"number": 2})
        with pytest.raises(ChannelFull):
            await theirs.send(name, {"number": 3})
        assert await asyncio.wait_for(task, 5) == {"number": 1}
        assert await asyncio.wait_for(ours.receive(name), 5) == {"number": 2}

    asyncio.run(run())


def test_a_flush_elsewhere_takes_what_was_collected_before_this_process_received_anything(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        await ours.group_add("room", name)
        await theirs.group_send("room", {"number": 1})
        ours._participant().look_around()  # the inbox is emptied, and no event loop listens yet
        await theirs.flush()
        await theirs.send(name, {"number": 2})
        assert await asyncio.wait_for(ours.receive(name), 5) == {"number": 2}

    asyncio.run(run())


def test_a_flush_elsewhere_takes_what_was_taken_ahead(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        task = await waiting(ours, name)
        await theirs.send(name, {"number": 1})
        ring_now(ours)
        await theirs.flush()
        await ours.group_discard("other", name)  # empties the inbox before the receiver goes on
        await cancel(task)
        await theirs.send(name, {"number": 2})
        assert await asyncio.wait_for(ours.receive(name), 5) == {"number": 2}

    asyncio.run(run())


def test_a_group_message_stays_behind_a_direct_one_that_was_taken_ahead(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        await ours.group_add("room", name)
        for _ in range(2):
            task = await waiting(ours, name)
            await theirs.send(name, {"number": 1})
            await theirs.group_send("room", {"number": 2})
            assert await asyncio.wait_for(task, 5) == {"number": 1}
            assert await asyncio.wait_for(ours.receive(name), 5) == {"number": 2}

    asyncio.run(run())


def test_a_group_message_stays_behind_a_direct_one_that_was_not_heard_of(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        await ours.group_add("room", name)
        for _ in range(2):
            task = await waiting(ours, name)
            await theirs.send(name, {"number": 1})
            await theirs.group_send("room", {"number": 2})
            await ours.group_discard("other", name)  # empties the inbox before the loop hears its doorbell
            assert await asyncio.wait_for(task, 5) == {"number": 1}
            assert await asyncio.wait_for(ours.receive(name), 5) == {"number": 2}
            task = await waiting(ours, "ours")
            await theirs.send(name, {"number": 3})
            await theirs.send("ours", {"number": 4})
            assert await asyncio.wait_for(task, 5) == {"number": 4}
            assert [
                box for box in ours._participant()._boxes if box.taken
            ] == []  # taken for those alone who were woken just now
            assert await asyncio.wait_for(ours.receive(name), 5) == {"number": 3}

    asyncio.run(run())


def test_a_message_that_comes_while_a_receiver_empties_the_inbox_is_received(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = layers

    async def run() -> None:
        name, other = await ours.new_channel(), await ours.new_channel()
        await ours.group_add("room", other)
        for _ in range(2):
            await waiting(ours, "anything")  # this loop listens
            participant = ours._participant()
            theirs._group_send("room", theirs.encode({"number": 1}))  # from here on the loop doesn't get round
            collect = participant._inbox.collect

            def slowly(*arguments: Any, collect: Any = collect) -> None:
                monkeypatch.undo()
                theirs._carry(name, theirs.encode({"number": 2}))
                collect(*arguments)

            monkeypatch.setattr(participant._inbox, "collect", slowly)
            body = participant.ask(name, time.monotonic_ns(), False)
            if isinstance(body, asyncio.Future):  # the second time a doorbell was left at the channel
                await body
                body = participant.ask(name, time.monotonic_ns(), True)
            assert isinstance(body, bytes)
            assert ours.decode(body) == {"number": 2}
            assert await asyncio.wait_for(ours.receive(other), 5) == {"number": 1}

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_receiver_of_the_prefix_hears_what_a_loop_that_stands_still_does_not_wait_for(layers: Layers) -> None:
    ours, theirs = layers
    still, go_on, names = threading.Event(), threading.Event(), []

    async def stand_still() -> None:
        name = await ours.new_channel()
        names.append(name)
        task = await waiting(ours, name)
        await theirs.send(name, {"number": 1})
        await asyncio.wait_for(task, 5)  # and leaves its doorbell at the channel
        still.set()
        go_on.wait(20)

    async def read() -> None:
        head = names[0][: names[0].index("!") + 1]
        task = await waiting(ours, head)
        await theirs.send(names[0], {"number": 2})
        assert await asyncio.wait_for(task, 5) == {"number": 2}

    thread = threading.Thread(target=lambda: asyncio.run(stand_still()))
    thread.start()
    try:
        assert still.wait(20)
        asyncio.run(read())
    finally:
        go_on.set()
        thread.join(20)


def test_a_channel_goes_from_loop_to_loop(layers: Layers) -> None:
    ours, theirs = layers
    names: list[str] = []

    async def read(number: int) -> None:
        if not names:
            names.append(await ours.new_channel())
        task = await waiting(ours, names[0])
        await theirs.send(names[0], {"number": number})
        assert await asyncio.wait_for(task, 5) == {"number": number}

    for number in range(5):
        asyncio.run(read(number))
        thread = threading.Thread(target=lambda number=number: asyncio.run(read(number)))
        thread.start()
        thread.join(20)


def test_a_cancelled_receiver_leaves_nothing_in_the_store(layers: Layers) -> None:
    ours, theirs = layers

    async def run() -> None:
        name = await ours.new_channel()
        task = await waiting(ours, name)
        await theirs.send(name, {"number": 1})
        await asyncio.wait_for(task, 5)
        await cancel(await waiting(ours, name))
        keys = ours._participant()._write(lambda txn: [key for key, _ in txn.cursor() if key[:1] == b"o"])
        assert keys == []

    asyncio.run(run())
