"""What somebody could do who writes to the server and has no key: changed, moved and made-up records are refused."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.codec import pack_record
from trunkline.conformance.waiting import assert_silent, eventually, numbered, receive

OLD, NEW = "the old key, which is long enough", "the new key, which is long enough"

pytestmark = pytest.mark.redis


async def counted(layer: Any, **expected: int) -> None:
    async def attempt() -> None:
        assert {name: getattr(layer.counters, name) for name in expected} == expected

    await eventually(attempt, 10)


@pytest.fixture
def client(shared_redis: list[RedisServer]) -> Iterator[Any]:
    with redis.Redis.from_url(shared_redis[0].url) as client:
        yield client


def key_of(layer: RedisChannelLayer, kind: str, name: str, lies_as: str) -> str:
    process = layer._run().process
    shard = process.ring.queue_shard(name, 0) if kind == "q" else process.ring.shard(lies_as)
    return process.keys.key(shard, kind, name)


@pytest.fixture
def server(shared_redis: list[RedisServer]) -> dict[str, Any]:
    return {"hosts": [shared_redis[0].url], "prefix": uuid.uuid4().hex, "symmetric_encryption_keys": [OLD]}


@pytest.mark.asyncio
async def test_records_that_were_changed_or_moved_are_refused(client: Any, server: dict[str, Any]) -> None:
    reader, sender = RedisChannelLayer(**server), RedisChannelLayer(**server)
    try:
        own = await reader.new_channel()
        head, _, _ = own.partition("!")
        other = f"{head}!x"
        await reader.group_add("room", own)
        process = reader._run().process
        inbox = key_of(reader, "in", process.id, own)
        await sender.send(own, numbered(1))
        ((_, fields),) = client.xrange(inbox)
        record = fields[b"r"]
        assert await receive(reader, own) == numbered(1)
        clear = record[:13] + pack_record(ord("d"), own, b"\x81\xa4type\xa4evil")
        join = b"\x83\xa2op\xa4join\xa7channel" + bytes((0xA0 + len(other),)) + other.encode() + b"\xa4life\xcd\xff\xff"
        forged = [
            record[:-1] + bytes((record[-1] ^ 1,)),
            record[:40] + b"\xff" + record[41:],  # no name
            record[:-20],
            record.replace(own.encode(), other.encode().ljust(len(own), b"x"), 1),
            record[:14] + b"g" + record[15:],
            record[:13] + b"\x01" + record[14:],
            clear,
            record[:13] + pack_record(ord("g"), "room", clear[-11:]),
            record[:13] + pack_record(ord("c"), "room", join),
        ]
        for data in forged:
            client.xadd(inbox, {"r": data})
        await counted(reader, undecryptable=len(forged) - 1, garbage=1)
        await assert_silent(reader, own, other)
        await sender.group_send("room", numbered(2))
        assert await receive(reader, own) == numbered(2)
        await assert_silent(reader, other)  # the forged join did nothing
    finally:
        await asyncio.gather(reader.close(), sender.close())


@pytest.mark.asyncio
@pytest.mark.parametrize("keys", [[], [OLD]], ids=["in the clear", "encrypted"])
async def test_a_message_that_was_moved_to_another_queue_is_refused(
    client: Any, server: dict[str, Any], keys: list[str]
) -> None:
    layer = RedisChannelLayer(**{**server, "symmetric_encryption_keys": keys})
    try:
        await layer.send("payments", numbered(1))
        moved = client.lpop(key_of(layer, "q", "payments", ""))
        client.rpush(key_of(layer, "q", "refunds", ""), moved)
        await assert_silent(layer, "refunds")
        await counted(layer, garbage=1)
        await layer.send("refunds", numbered(2))
        assert await receive(layer, "refunds") == numbered(2)
    finally:
        await layer.close()


@pytest.mark.asyncio
async def test_a_message_that_is_kept_until_it_is_done_is_encrypted_too(server: dict[str, Any]) -> None:
    layer = RedisChannelLayer(**server)
    stranger = RedisChannelLayer(**{**server, "symmetric_encryption_keys": [NEW]})
    try:
        await stranger.send("jobs", numbered(1))
        await layer.send("jobs", numbered(2))
        delivery = await asyncio.wait_for(layer.receive_reliably("jobs"), 10)
        assert delivery.message == numbered(2)
        await delivery.done()
        await counted(layer, undecryptable=1)
        (letter,) = await layer.dead_letters()
        assert letter.message is None
        assert "none of this process' keys opens it" in letter.reason
        assert [found.message for found in await stranger.dead_letters()] == [numbered(1)]
    finally:
        await asyncio.gather(layer.close(), stranger.close())


@pytest.mark.asyncio
@pytest.mark.parametrize("keys", [[], [OLD]], ids=["in the clear", "encrypted"])
async def test_why_a_handler_failed_is_told_to_those_with_the_key_only(
    client: Any, server: dict[str, Any], keys: list[str]
) -> None:
    layer = RedisChannelLayer(**{**server, "symmetric_encryption_keys": keys})
    stranger = RedisChannelLayer(**{**server, "symmetric_encryption_keys": [NEW]})
    try:
        await layer.send("jobs", numbered(1))
        delivery = await asyncio.wait_for(layer.receive_reliably("jobs"), 10)
        await delivery.failed("ValueError: hush-hush is no name", again=False)
        (letter,) = await layer.dead_letters()
        assert letter.reason == "ValueError: hush-hush is no name"
        (key,) = client.scan_iter(f"tl1:{server['prefix']}:*:dead", count=1000)
        ((_, fields),) = client.xrange(key)
        assert (b"hush" in b"".join(fields.values())) == (not keys)
        if keys:
            (unread,) = await stranger.dead_letters()
            assert "none of this process' keys opens it" in unread.reason
    finally:
        await asyncio.gather(layer.close(), stranger.close())
