"""A process' own channels over IPC: what lies in memory for them, and when nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

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


@pytest.mark.asyncio
@pytest.mark.parametrize("direct", [False, True], ids=["group", "direct"])
async def test_messages_that_come_together_wake_as_many_receivers_of_a_channel(layers: Layers, direct: bool) -> None:
    ours, theirs = layers
    name = await ours.new_channel()
    await ours.group_add("room", name)
    receivers = [asyncio.create_task(ours.receive(name)) for _ in range(3)]
    await asyncio.sleep(0.02)
    for number in range(3):
        await (theirs.send(name, {"number": number}) if direct else theirs.group_send("room", {"number": number}))
    for _ in range(ROUNDS):
        await asyncio.sleep(0)
    assert [receiver.done() for receiver in receivers] == [True] * 3
    assert sorted(receiver.result()["number"] for receiver in receivers) == [0, 1, 2]


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
    assert "<Boxes 0 channels, 0 unread>" in repr(ours)
    await theirs.send(name, {"number": 2})
    assert await receive(ours, name) == 2


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
    assert "<Boxes 0 channels, 0 unread>" in repr(ours)
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
