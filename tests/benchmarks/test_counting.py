"""The benchmarks' own arithmetic: what is lost or doubled fails a row, and ratios are those of paired rounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import trunkline
from benchmarks.load import MESSAGE_BYTES, Load, message
from benchmarks.measure import Measurement, judge, measure
from benchmarks.plan import ROWS
from benchmarks.report import speedup, tables
from benchmarks.tally import Tally
from benchmarks.targets import Target

QUEUE, LATENCY = ROWS[0], ROWS[1]
OURS = Target("ipc", "trunkline.IPCChannelLayer", 1)


class DoublesOne(trunkline.IPCChannelLayer):
    """A layer that delivers message 7 once more."""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await super().send(channel, message)
        if message["n"] == 7:
            await super().send(channel, message)


class Refuses(trunkline.IPCChannelLayer):
    """A layer that can't send."""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        raise trunkline.ChannelFull(channel, 1)


def run(backend: str) -> Measurement:
    return asyncio.run(measure(QUEUE, Target("ipc", backend, 1), Load(50, 1.0, "redis://127.0.0.1:1")))


def test_a_sound_layer_gets_a_value_and_counts_every_message() -> None:
    measurement = run("trunkline.IPCChannelLayer")
    assert (measurement.sent, measurement.received, measurement.failure) == (50, 50, "")
    assert measurement.values["rate"] > 0


def test_a_message_delivered_twice_fails_the_row() -> None:
    measurement = run("benchmarks.test_counting.DoublesOne")
    assert not measurement.values
    assert measurement.failure == "sent 50, received 51: 0 lost, 1 doubled"
    assert any("FAILED in 1 of 1 rounds" in line for line in tables([QUEUE], [OURS], {("queue", "ipc"): [measurement]}))


def test_a_process_that_ends_with_an_error_fails_the_row_with_its_last_words() -> None:
    measurement = run("benchmarks.test_counting.Refuses")
    assert not measurement.values
    assert "ChannelFull" in measurement.failure


def test_a_lost_message_fails_the_row() -> None:
    lost = judge([{"sent": 10, "first": 1.0}, {"received": 9, "lost": 1, "doubled": 0, "last": 2.0}])
    assert lost.failure == "sent 10, received 9: 1 lost, 0 doubled"


def test_a_lost_and_a_doubled_message_do_not_make_up_for_each_other() -> None:
    tally = Tally(1, 3)
    for number in (0, 1, 1):
        tally.note(0, number)
    assert tally.result()["lost"] == 1
    assert tally.result()["doubled"] == 1


def test_warm_up_messages_are_not_counted() -> None:
    tally = Tally(1, 3)
    tally.note(0, -1)
    assert tally.result()["received"] == 0


@pytest.mark.parametrize("number", [-1, 0, 127, 128, 70_000])
def test_every_message_has_about_the_stated_size(number: int) -> None:
    msgpack = pytest.importorskip("msgpack")
    assert len(msgpack.packb(message(number, reply="specific." + "0" * 24 + "!" + "0" * 32))) == MESSAGE_BYTES
    assert len(msgpack.packb(message(number))) == MESSAGE_BYTES


def test_the_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    def rounds(*values: float) -> list[Measurement]:
        return [Measurement(1, 1, {"rate": value}, "") for value in values]

    results = {("queue", "ipc"): rounds(10, 40, 90), ("queue", "core"): rounds(10, 20, 10)}
    table = QUEUE.tables[0]
    assert speedup(QUEUE, table, table.ways[0], "ipc", "core", results) == 2.0
    assert speedup(QUEUE, table, table.ways[0], "ipc", "pubsub", results) is None


def test_a_shorter_time_is_a_ratio_above_one() -> None:
    assert LATENCY.tables[0].speedup(ours=100.0, reference=300.0) == 3.0
