"""Encrypted layers: keys rolled under traffic between processes, strangers, and records that were tampered with."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis

from support.counting import Ledger
from support.processes import Child
from support.rotation import GROUP, QUEUE
from support.servers import RedisServer
from trunkline import IPCChannelLayer, RedisChannelLayer
from trunkline.conformance.waiting import eventually, numbered, receive
from trunkline.errors import ChannelFull

OLD, NEW = "the old key, which is long enough", "the new key, which is long enough"
TRAFFIC = 40  # messages on one channel between two steps of a rotation

MakeLayer = Callable[..., Any]


@pytest.fixture(params=["redis", "ipc"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """A layer's path and CONFIG without keys."""
    if request.param == "ipc":
        return "trunkline.IPCChannelLayer", {"directory": str(tmp_path / "layer")}
    servers: list[RedisServer] = request.getfixturevalue("shared_redis")
    return "trunkline.RedisChannelLayer", {"hosts": [servers[0].url], "prefix": uuid.uuid4().hex}


@pytest_asyncio.fixture
async def make(place: tuple[str, dict[str, Any]]) -> AsyncIterator[MakeLayer]:
    """A function that makes layers in the same place: ``make([key], capacity=3)``."""
    made: list[Any] = []

    def make(keys: list[str], **options: Any) -> Any:
        kind = RedisChannelLayer if "hosts" in place[1] else IPCChannelLayer
        made.append(kind(**place[1], symmetric_encryption_keys=keys, **options))
        return made[-1]

    yield make
    await asyncio.gather(*(layer.close() for layer in made))


async def asked(child: Child, order: dict[str, Any]) -> Any:
    await child.tell(order)
    return await child.hear()


@pytest.mark.asyncio
async def test_keys_rolled_one_process_after_the_other_lose_and_double_nothing(
    place: tuple[str, dict[str, Any]],
) -> None:
    arguments = {"path": place[0], "config": {**place[1], "capacity": 100_000}}
    writer, reader = await asyncio.gather(
        Child.start("support.rotation:write", arguments), Child.start("support.rotation:read", arguments)
    )
    began: dict[str, int] = {}  # channel -> group messages sent when the writer knew it
    ended: dict[str, int] = {}
    try:
        own = await asked(reader, {"keys": [OLD]})
        await asked(writer, {"keys": [OLD]})
        began[own] = (await asked(writer, {"to": own}))[GROUP]
        for keys in ([OLD, NEW], [NEW, OLD], [NEW]):
            await traffic(reader, own)
            await drained(reader, await asked(writer, {"keys": keys}), own)
            await traffic(reader, own)
            before, own = own, await asked(reader, {"keys": keys})
            sent = await asked(writer, {"to": own})
            began[own] = ended[before] = sent[GROUP]
            await drained(reader, sent, before)
            await asked(reader, {"retire": before})
        await traffic(reader, own)
        await traffic(reader, own)
        sent = await asked(writer, {})
        ended[own] = sent[GROUP]
        await drained(reader, sent, own)
        await asyncio.sleep(0.3)  # a doubled message would come now
        reader.say_goodbye()
        result = await reader.result()
    finally:
        await asyncio.gather(writer.close(), reader.close())

    ledger = Ledger()
    for channel, count in sent.items():
        if channel != GROUP:
            ledger.count(channel, "writer", count)
    for channel, messages in result["received"].items():
        ledger.take_all(channel, (message for message in messages if message["by"] != GROUP))
        if channel == QUEUE:
            continue
        numbers = [message["number"] for message in messages if message["by"] == GROUP]
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "a group message was lost, doubled or out of order"
        assert numbers[0] <= began[channel]
        assert numbers[-1] >= ended[channel] - 1
    ledger.check(in_order=[*began], at_least=2 * TRAFFIC)
    assert result["counted"]["undecryptable"] == result["counted"]["garbage"] == 0


async def traffic(reader: Child, own: str) -> None:
    """Let some messages pass."""
    before, end = (await asked(reader, {}))[own]["own"], time.monotonic() + 20
    while (await asked(reader, {}))[own]["own"] < before + TRAFFIC:
        assert time.monotonic() < end, "there is no traffic"
        await asyncio.sleep(0.02)


async def drained(reader: Child, sent: dict[str, int], own: str) -> None:
    """Wait until the reader has got what had been sent to the queue, to its channel, and to the group."""
    end = time.monotonic() + 20
    while True:
        got = await asked(reader, {})
        queue, channel = got[QUEUE]["own"], got[own]
        if queue >= sent[QUEUE] and channel["own"] >= sent.get(own, 0) and channel["group"] >= sent[GROUP] - 1:
            return
        assert time.monotonic() < end, f"of {sent} only {got} arrived"
        await asyncio.sleep(0.05)


async def sent(layer: Any, channel: str, message: dict[str, Any]) -> None:
    """Send, waiting for room as long as it takes the reader to pass over what it can't read."""

    async def attempt() -> None:
        try:
            await layer.send(channel, message)
        except ChannelFull as error:
            raise AssertionError from error

    await eventually(attempt, 10)


async def counted(layer: Any, **expected: int) -> None:
    async def attempt() -> None:
        assert {name: getattr(layer.counters, name) for name in expected} == expected

    await eventually(attempt, 10)


def lines_about(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if what in record.getMessage()]


STRANGERS = {
    "another key": ([NEW], [OLD], "none of this process' keys opens it"),
    "no key": ([], [OLD], "it is not encrypted, and this process has keys"),
    "a key where there is none": ([NEW], [], "it is encrypted, and this process has no keys"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("theirs", "ours", "sentence"), STRANGERS.values(), ids=STRANGERS)
async def test_what_our_keys_do_not_open_is_counted_and_logged_takes_no_room_and_stops_nobody(
    make: MakeLayer, caplog: pytest.LogCaptureFixture, theirs: list[str], ours: list[str], sentence: str
) -> None:
    caplog.set_level(logging.INFO)
    reader, friend, stranger = make(ours, capacity=5), make(ours, capacity=5), make(theirs, capacity=5)
    own = await reader.new_channel()
    await reader.group_add("room", own)
    receiving = [asyncio.create_task(reader.receive(channel)) for channel in (own, QUEUE)]
    for _ in range(12):
        await sent(stranger, own, {"type": "test.message", "text": "hush"})
        await sent(stranger, QUEUE, {"type": "test.message", "text": "hush"})
        await stranger.group_send("room", {"type": "test.message", "text": "hush"})
    await counted(reader, undecryptable=36, garbage=0, group_dropped=0)
    for number in range(4):
        await sent(friend, own, numbered(number))
    await sent(friend, QUEUE, numbered(9))
    assert await asyncio.wait_for(receiving[0], 10) == numbered(0)
    assert await asyncio.wait_for(receiving[1], 10) == numbered(9)
    assert [await receive(reader, own) for _ in range(3)] == [numbered(1), numbered(2), numbered(3)]
    told = lines_about(caplog, "Skipped")
    assert len(told) == 1, "once in ten seconds"
    assert sentence in told[0]
    assert "hush" not in caplog.text


def everything_stored(place: tuple[str, dict[str, Any]]) -> bytes:
    """All that lies on the server under the prefix, or in the files of the store."""
    if "hosts" not in place[1]:
        return b"".join(path.read_bytes() for path in Path(place[1]["directory"]).rglob("*") if path.is_file())
    with redis.Redis.from_url(place[1]["hosts"][0]) as client:
        stored = [client.dump(key) or b"" for key in client.scan_iter(f"*{place[1]['prefix']}*", count=1000)]
        streams = client.scan_iter(f"*{place[1]['prefix']}*", count=1000, _type="stream")  # a dump may be compressed
        stored += [record for key in streams for _, fields in client.xrange(key) for record in fields.values()]
        lists = client.scan_iter(f"*{place[1]['prefix']}*", count=1000, _type="list")
        return b"".join(stored + [record for key in lists for record in client.lrange(key, 0, -1)])


@pytest.mark.asyncio
@pytest.mark.parametrize("keys", [[], [OLD]], ids=["in the clear", "encrypted"])
async def test_nothing_of_a_message_lies_where_it_waits(
    place: tuple[str, dict[str, Any]], make: MakeLayer, keys: list[str]
) -> None:
    layer, other = make(keys), make(keys)
    own, text = await layer.new_channel(), "hush-hush"
    await layer.group_add("room", own)
    await layer.group_add("room", QUEUE)
    await layer.close()  # what waits for it stays
    await other.send(own, {"type": "direct", "text": text})
    await other.send(QUEUE, {"type": "queue", "text": text})
    await other.group_send("room", {"type": "group", "text": text})
    assert (text.encode() in everything_stored(place)) == (not keys)


@pytest.mark.asyncio
async def test_a_newer_version_is_skipped_counted_and_named(
    make: MakeLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for keys in ([], [OLD]):
        caplog.clear()
        reader, newer, friend = make(keys), make(keys), make(keys)
        own = await reader.new_channel()
        await reader.group_add("room", own)
        records = (newer._run().process if isinstance(newer, RedisChannelLayer) else newer._participant()).records
        newer_records = Newer(records)
        if isinstance(newer, RedisChannelLayer):
            monkeypatch.setattr(newer._run().process, "records", newer_records)
        else:
            monkeypatch.setattr(newer._participant().sending, "records", newer_records)
        receiving = [asyncio.create_task(reader.receive(channel)) for channel in (own, QUEUE)]
        await newer.send(own, numbered(1))
        await newer.send(QUEUE, numbered(1))
        await newer.group_send("room", numbered(1))
        await counted(reader, unknown_version=3, garbage=0, undecryptable=0)
        await friend.send(own, numbered(2))
        await friend.send(QUEUE, numbered(2))
        assert [await asyncio.wait_for(task, 10) for task in receiving] == [numbered(2)] * 2
        told = lines_about(caplog, "Skipped")
        assert len(told) == 1
        assert "version 3" in told[0]
        assert "reads versions 1 and 2; bring this process up to the release that wrote it" in told[0]
        await reader.close()


class Newer:
    """Records of a release that is not there yet."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def pack(self, kind: int, name: str, body: bytes) -> bytes:
        return b"\3" + bytes(self._records.pack(kind, name, body)[1:])

    def wrap(self, kind: int, name: str, body: bytes) -> bytes:
        return b"\3" + body
