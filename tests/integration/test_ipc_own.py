"""A process' own channels over IPC: what lies in memory for them, and when nothing of them is left."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from support.ipc import ring_now
from trunkline import IPCChannelLayer

PATIENCE = 20.0  # seconds
ROUNDS = 50  # of the event loop, which take much less than the second after which everybody is woken again

Layers = tuple[IPCChannelLayer, IPCChannelLayer]


@pytest.fixture
def layers() -> Iterator[Layers]:
    """Who receives, and another process' view of the same store."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        both = tuple(IPCChannelLayer(directory=directory, prefix="test") for _ in range(2))
        yield both  # type: ignore[misc]
        for layer in both:
            asyncio.run(layer.close())


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it there, while the calling loop stands still."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def receive(layer: IPCChannelLayer, channel: str) -> Any:
    return (await asyncio.wait_for(layer.receive(channel), PATIENCE))["number"]


def later(layer: IPCChannelLayer, seconds: float) -> None:
    """Do what is due every second as if so much time had passed; messages that lie there have expired meanwhile."""
    participant = layer._participant()
    assert participant._bells is not None
    with participant._lock:
        participant._look_after_own(participant._bells, time.monotonic_ns() + int(seconds * 1e9))


def stored(layer: IPCChannelLayer) -> list[bytes]:
    """The keys of own channels."""
    keys: list[bytes] = layer._participant()._write(lambda txn: [key for key, _ in txn.cursor() if key[:1] == b"o"])
    return keys


async def send_each(layer: IPCChannelLayer, channel: str, kinds: str) -> None:
    """Numbered messages, sent to the channel (d) or to the group "room" (g)."""
    for number, kind in enumerate(kinds):
        message = {"number": number}
        await (layer.send(channel, message) if kind == "d" else layer.group_send("room", message))


async def hear_each(receivers: list[asyncio.Task[dict[str, Any]]], numbers: list[int]) -> None:
    """The receivers get these messages before the look at who was left asleep."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0)
    heard = sorted(receiver.result()["number"] for receiver in receivers if receiver.done())
    for receiver in receivers:
        receiver.cancel()
    assert heard == numbers


@pytest.mark.asyncio
@pytest.mark.parametrize("kinds", ["".join(kinds) for kinds in itertools.product("dg", repeat=3)])
@pytest.mark.parametrize("busy", [False, True], ids=["alone", "another loop receives meanwhile"])
async def test_messages_that_come_together_wake_as_many_receivers_of_a_channel(
    layers: Layers, kinds: str, busy: bool
) -> None:
    ours, theirs = layers
    name, others = await ours.new_channel(), await ours.new_channel()
    await ours.group_add("room", name)

    async def receive_nothing() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ours.receive(others), 0.005)

    with Loop() as another:
        another.run(receive_nothing())
        receivers = [asyncio.create_task(ours.receive(name)) for _ in kinds]
        await asyncio.sleep(0.02)
        await send_each(theirs, name, kinds)
        ring_now(ours)
        if busy:
            another.run(receive_nothing())  # while those who were woken have not come to run
        await hear_each(receivers, [0, 1, 2])


@pytest.mark.asyncio
async def test_one_who_was_woken_for_a_message_that_expired_wakes_the_others_for_those_behind(layers: Layers) -> None:
    ours, theirs = layers
    brief = IPCChannelLayer(directory=str(ours.options.directory), prefix="test", expiry=0.1)
    name = await ours.new_channel()
    await ours.group_add("room", name)
    receivers = [asyncio.create_task(ours.receive(name)) for _ in range(3)]
    await asyncio.sleep(0.02)
    await brief.group_send("room", {"number": -1})
    await send_each(theirs, name, "ggg")
    ring_now(ours)
    time.sleep(0.15)  # noqa: ASYNC251 - the loop stands still, and the first message expires
    await hear_each(receivers, [0, 1, 2])
    await brief.close()


@pytest.mark.asyncio
async def test_messages_of_two_groups_keep_the_order_of_sending_on_a_channel_in_both(layers: Layers) -> None:
    ours, theirs = layers
    both, one = await ours.new_channel(), await ours.new_channel()
    for group, channel in (("room", both), ("hall", both), ("hall", one)):
        await ours.group_add(group, channel)
    for number, group in enumerate(("room", "room", "hall", "room", "hall", "hall")):
        await theirs.group_send(group, {"number": number})
    assert [await receive(ours, both) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert [await receive(ours, one) for _ in range(3)] == [2, 4, 5]


@pytest.mark.asyncio
async def test_a_channel_that_nobody_asks_for_is_forgotten_and_can_be_asked_for_again(layers: Layers) -> None:
    ours, theirs = layers
    name = await ours.new_channel()
    receiving = asyncio.create_task(ours.receive(name))
    await asyncio.sleep(0.02)
    await theirs.send(name, {"number": 1})
    assert (await receiving)["number"] == 1
    assert len(stored(ours)) == 1  # the doorbell that was left there
    later(ours, 1.5 * ours.expiry)
    assert len(stored(ours)) == 1
    later(ours, 2.5 * ours.expiry)
    assert stored(ours) == []
    assert "<Boxes 0 channels>" in repr(ours)
    await theirs.send(name, {"number": 2})
    assert await receive(ours, name) == 2


@pytest.mark.asyncio
async def test_a_process_that_only_makes_channels_forgets_them_too(layers: Layers) -> None:
    brief = IPCChannelLayer(directory=str(layers[0].options.directory), prefix="test", expiry=0.05)
    for _ in range(50):
        name = await brief.new_channel()
        await brief.group_add("room", name)
        await brief.group_discard("room", name)
    await asyncio.sleep(0.2)
    brief._turn_ends = brief._participant()._next_look = 0  # as if a second had passed
    await brief.new_channel()
    assert "<Boxes 1 channels>" in repr(brief)
    await brief.close()


@pytest.mark.asyncio
async def test_a_member_that_nobody_has_asked_for_hears_what_comes_later(layers: Layers) -> None:
    ours, theirs = layers
    name = await ours.new_channel()
    await ours.group_add("room", name)
    receiving = asyncio.create_task(receive(ours, name))
    await asyncio.sleep(0.02)
    await theirs.send(name, {"number": 0})
    assert await receiving == 0
    later(ours, 2.5 * ours.expiry)
    assert stored(ours) == []  # no doorbell either
    later(ours, 2.5 * ours.expiry)
    await theirs.group_send("room", {"number": 1})
    assert await receive(ours, name) == 1
    await theirs.group_send("room", {"number": 2})
    await ours.group_discard("other", name)  # takes in what has come
    later(ours, 2.5 * ours.expiry)  # and it expires, unheard: the channel leaves its groups
    later(ours, 2.5 * ours.expiry)
    assert "<Boxes 0 channels>" in repr(ours)
    await ours.group_add("room", name)
    await theirs.group_send("room", {"number": 3})
    assert await receive(ours, name) == 3


@pytest.mark.asyncio
async def test_one_who_waits_is_not_forgotten_however_long_it_takes(layers: Layers) -> None:
    ours, theirs = layers
    name = await ours.new_channel()
    receiving = asyncio.create_task(receive(ours, name))
    await asyncio.sleep(0.02)
    later(ours, 1000 * ours.expiry)
    await theirs.send(name, {"number": 1})
    assert await receiving == 1


@pytest.mark.asyncio
async def test_a_name_of_another_class_of_strings_is_as_good(layers: Layers) -> None:
    class Name(str):
        __slots__ = ()

    ours, theirs = layers
    name = await ours.new_channel()
    await ours.group_add(Name("room"), Name(name))
    await ours.group_add("room", Name(name))
    await theirs.group_send("room", {"number": 1})
    await theirs.send(name, {"number": 2})
    assert [await receive(ours, Name(name)), await receive(ours, name)] == [1, 2]
    await ours.group_discard("room", Name(name))
    await theirs.group_send("room", {"number": 3})
    await theirs.send(name, {"number": 4})
    assert await receive(ours, name) == 4
