"""Counted: what nobody of ours wrote, in inboxes and queues: skipped, counted, and the reader lives."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.garbage import CORPUS, FUTURE, NEXT_VERSION, mutations, record
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.codec import DIRECT, GROUP, encode, pack_record
from trunkline.conformance.waiting import numbered, receive, within
from trunkline.redis.keys import Keys
from trunkline.redis.ring import Ring

pytestmark = pytest.mark.redis

# A known set of examples where it has to be the same each time, as everything is in one run and one process.
often = settings(
    deadline=None,
    max_examples=300,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
BATCH = 15


class Place:
    """A layer whose inbox and whose queue ``orders`` other hands write to."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = redis.Redis.from_url(url)
        prefix = uuid.uuid4().hex
        self.layer, self.sender = (
            RedisChannelLayer(hosts=[url], prefix=prefix, capacity=10_000, channel_capacity={"small": 3})
            for _ in range(2)
        )
        self.own: str = self.run(self.layer.new_channel())
        self.run(self.layer.group_add("room", self.own))
        self._keys, self._ring = Keys(prefix), Ring(1)

    def close(self) -> None:
        for layer in (self.layer, self.sender):
            self.run(within(layer.close(), 15, "the end of close()"))
        self.client.close()
        self.loop.close()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def into_the_inbox(self, *garbage: bytes, field: bytes = b"r") -> None:
        key = self._keys.key(self._ring.shard(self.own), "in", self.layer.process)
        for data in garbage:
            self.client.xadd(key, {field: data})

    def into_the_queue(self, *garbage: bytes, channel: str = "orders") -> None:
        shard = self._ring.queue_shard(channel, 0)
        for data in garbage:
            self.client.rpush(self._keys.key(shard, "q", channel), data)
        if garbage:
            self.client.rpush(self._keys.key(shard, "bell", channel), b"1")

    def send_and_receive(self, channel: str, number: int = 1) -> None:
        """Garbage may by chance be a message, so what comes first is not looked at."""

        async def exchange() -> None:
            await within(self.sender.send(channel, {"type": "the.last", "number": number}))
            while (await receive(self.layer, channel)).get("type") != "the.last":
                pass

        self.run(exchange())


@pytest.fixture
def place(shared_redis: list[RedisServer]) -> Iterator[Place]:
    place = Place(shared_redis[0].url)
    yield place
    place.close()


def skipped(layer: RedisChannelLayer) -> int:
    """How many records a layer could not read, of whatever kind."""
    return layer.counters.unreadable


@pytest.mark.parametrize("name", CORPUS)
def test_a_record_that_is_none_is_skipped_and_counted(place: Place, name: str) -> None:
    place.send_and_receive(place.own)
    place.into_the_inbox(CORPUS[name])
    place.send_and_receive(place.own)
    assert skipped(place.layer) == 1
    place.into_the_queue(CORPUS[name])
    place.send_and_receive("orders")
    # An expired head need not be looked into.
    assert skipped(place.layer) + place.layer.counters.expired >= 2 or name.startswith("an expired")


def test_a_thousand_records_that_are_none_make_one_line_in_the_log(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.send_and_receive(place.own)
    count = 0
    with caplog.at_level(logging.WARNING):
        for _ in range(25):
            garbage = [data for name, data in CORPUS.items() if "expired" not in name and name != "large"]
            place.into_the_inbox(*garbage)
            place.into_the_queue(*garbage)
            count += 2 * len(garbage)
            place.send_and_receive(place.own)
            place.send_and_receive("orders")
    lines = [entry.getMessage() for entry in caplog.records if "Skipped a record" in entry.getMessage()]
    assert 1 <= len(lines) <= 4, lines  # one every ten seconds, on a machine however slow
    assert skipped(place.layer) >= count * 0.9  # "nan" is never, and so expired
    end = time.monotonic() + 5
    while any(place.client.xlen(key) for key in place.client.scan_iter(f"*:in:{place.layer.process}", count=1000)):
        assert time.monotonic() < end, "what was skipped is not removed"
        time.sleep(0.01)


@pytest.mark.parametrize("where", ["inbox", "queue"])
def test_a_record_of_a_future_version_is_skipped_counted_and_named_in_the_log(
    place: Place, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.send_and_receive(place.own)
    future = record(FUTURE, NEXT_VERSION, b"d", place.own.encode(), encode(numbered(1)))
    with caplog.at_level(logging.WARNING):
        if where == "inbox":
            place.into_the_inbox(future)
            place.send_and_receive(place.own)
        else:
            place.into_the_queue(future)
            place.send_and_receive("orders")
    assert skipped(place.layer) == 1
    assert f"version {NEXT_VERSION}" in caplog.text


def test_a_stream_entry_with_other_fields_is_skipped_or_read_and_harms_nothing(place: Place) -> None:
    place.send_and_receive(place.own)
    genuine = FUTURE + pack_record(DIRECT, place.own, encode(numbered(5)))
    for field in (b"", b"x", b"\xff\x00", b"r" * 300):
        place.into_the_inbox(b"nonsense", genuine, field=field)
        place.send_and_receive(place.own)
    assert skipped(place.layer) >= 4


@pytest.mark.parametrize("kind", [DIRECT, GROUP])
def test_a_body_that_is_no_message_is_skipped_and_counted(place: Place, kind: int) -> None:
    place.send_and_receive(place.own)
    for body in (b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\x01\x01", b"\xdf\xff\xff\xff\xff", b"\x81" * 2000):
        name = place.own if kind == DIRECT else "room"
        place.into_the_inbox(FUTURE + pack_record(kind, name, body))
        place.send_and_receive(place.own)
    assert skipped(place.layer) == 6


@pytest.mark.parametrize("name", ["no deadline", "an expired one cut after the kind", "nothing", "an expired number"])
def test_a_queue_and_an_inbox_that_are_full_of_garbage_take_messages_when_they_are_read(
    place: Place, name: str
) -> None:
    place.into_the_queue(*[CORPUS[name]] * 3, channel="small")

    async def full_then_free() -> None:
        try:
            await within(place.sender.send("small", numbered(1)))
        except place.sender.ChannelFull:
            pass
        receiving = asyncio.ensure_future(receive(place.layer, "small"))
        for _ in range(100):
            try:
                await within(place.sender.send("small", numbered(2)))
                break
            except place.sender.ChannelFull:
                await asyncio.sleep(0.05)
        assert (await receiving)["number"] in (1, 2)

    place.run(full_then_free())


def test_garbage_in_a_queue_that_is_read_reliably_becomes_dead_letters(place: Place) -> None:
    garbage = {name: data for name, data in CORPUS.items() if "expired" not in name and not data.startswith(b"nan")}
    place.into_the_queue(*garbage.values())

    async def read() -> tuple[int, int]:
        await within(place.sender.send("orders", numbered(1)))
        delivery = await within(place.layer.receive_reliably("orders"), 20, "the message behind the garbage")
        await delivery.done()
        return delivery.message["number"], len(await place.layer.dead_letters("orders"))

    assert place.run(read()) == (1, len(garbage))
    assert skipped(place.layer) == len(garbage)


def test_random_bytes_and_damaged_records_never_end_a_reader(place: Place) -> None:
    place.send_and_receive(place.own)
    body = encode({"type": "chat.message", "text": "hello", "parts": [1, 2.5, None, b"x"]})
    genuine = [FUTURE + pack_record(kind, name, body) for kind, name in ((DIRECT, place.own), (GROUP, "room"))]
    damaged = st.one_of(*map(mutations, genuine))
    batches = 0

    @often
    @given(st.lists(damaged, max_size=BATCH), st.lists(damaged, max_size=BATCH))
    def fuzz(inbox: list[bytes], queue: list[bytes]) -> None:
        nonlocal batches
        batches += 1
        place.into_the_inbox(*inbox)
        place.into_the_queue(*queue)
        place.send_and_receive(place.own, batches)
        place.send_and_receive("orders", batches)

    fuzz()
    assert skipped(place.layer) > 100, "hardly anything was garbage, so this test showed nothing"
    assert skipped(place.sender) == 0
