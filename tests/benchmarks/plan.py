"""What is compared: the rows, how much each layer gets to do in them, and the tables that they fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.load import JOINED, MEMBERS, QUEUE_RECEIVERS, SENDS_IN_FLIGHT, SIZES
from benchmarks.targets import Target


@dataclass(frozen=True)
class Way:
    """One line for each layer in a table.

    :ivar keys: the values that it shows, one for each of the table's columns.
    :ivar label: follows the layer's name where a table has several ways.
    """

    keys: tuple[str, ...]
    label: str = ""


@dataclass(frozen=True)
class Table:
    """One table of figures.

    :ivar short: its title in the chart; empty where it isn't shown there.
    :ivar better: whether more or less of ``unit`` is better.
    :ivar ways: all of them are compared with the first way that the other layer has.
    :ivar columns: headings where a way has several values; ratios are those of the last.
    """

    title: str
    short: str
    unit: str
    better: Literal["more", "less"]
    ways: tuple[Way, ...] = (Way(("rate",)),)
    columns: tuple[str, ...] = ()
    digits: int = 0

    def speedup(self, ours: float, reference: float) -> float:
        """How many times better ``ours`` is; above 1 is better, whichever way the unit counts."""
        return ours / reference if self.better == "more" else reference / ours


@dataclass(frozen=True)
class Row:
    """One workload between two processes.

    :ivar messages: sends (or joins) of a target with weight 1.
    :ivar most_weight: the most of a target's weight that counts here.
    :ivar seconds: of one measurement, roughly; the mean of all layers.
    :ivar bare: whether there is a bare loop for it.
    """

    name: str
    roles: tuple[str, str]
    messages: int
    most_weight: int
    seconds: float
    tables: tuple[Table, ...]
    bare: bool = False

    def plays(self, target: Target) -> bool:
        """Whether the target takes part."""
        return self.bare or not target.bare

    def roles_of(self, target: Target) -> tuple[str, ...]:
        return tuple(f"bare_{role}" if target.bare else role for role in self.roles)

    def messages_for(self, target: Target) -> int:
        return self.messages * min(target.weight, self.most_weight)


def _way(*keys: str) -> tuple[Way, ...]:
    return (Way(keys),)


def _joins(name: str, roles: tuple[str, str], most_weight: int, seconds: float, where: str, bare: bool = False) -> Row:
    in_flight = f"{SENDS_IN_FLIGHT} in flight, each awaited"
    joins = f"Joins: {JOINED:,} channels of a process into {where}, {in_flight}"
    leaves = f"Leaves: the same channels out of {where}, {in_flight}"
    return Row(
        name,
        roles,
        JOINED,
        most_weight,
        seconds,
        (
            Table(joins, f"joins, {where}", "joins/s", "more", _way("joins")),
            Table(leaves, f"leaves, {where}", "leaves/s", "more", _way("leaves")),
        ),
        bare,
    )


def _growth(title: str, short: str, unit: str, key: str, digits: int) -> Table:
    keys = _way(*(f"{key}_{size}" for size in SIZES))
    columns = tuple(f"{size:,}" for size in SIZES)
    return Table(f"Group send as members of one process grow: {title}", short, unit, "less", keys, columns, digits)


ROWS = (
    Row(
        "queue",
        ("queue_sender", "queue_receiver"),
        messages=1_500,
        most_weight=30,
        seconds=2.2,
        tables=(
            Table(
                f"Queue: normal channel, {SENDS_IN_FLIGHT} sends in flight, {QUEUE_RECEIVERS} receivers",
                "queue",
                "messages/s",
                "more",
            ),
        ),
        bare=True,
    ),
    Row(
        "latency",
        ("asker_one", "answerer_one"),
        messages=400,
        most_weight=1,
        seconds=1.7,
        tables=(
            Table(
                "Request and answer: process-specific channels, 1 in flight, median",
                "answer, 1 in flight (time)",
                "µs",
                "less",
                _way("median"),
            ),
        ),
        bare=True,
    ),
    Row(
        "answers",
        ("asker", "answerer"),
        messages=768,
        most_weight=30,
        seconds=3.2,
        tables=(
            Table(
                f"Request and answer: process-specific channels, {SENDS_IN_FLIGHT} in flight",
                f"answers, {SENDS_IN_FLIGHT} in flight",
                "answers/s",
                "more",
            ),
        ),
        bare=True,
    ),
    Row(
        "groups",
        ("group_sender", "group_member"),
        messages=20,
        most_weight=30,
        seconds=2.0,
        tables=(
            Table(
                f"Group fan-out: 2 processes with {MEMBERS} members each",
                f"group fan-out, 2 x {MEMBERS} members",
                "deliveries/s",
                "more",
            ),
        ),
        bare=True,
    ),
    _joins("joins", ("joiner_one_group", "prover_one_group"), 10, 1.5, "one group"),
    _joins("distinct", ("joiner_distinct", "prover_distinct"), 3, 2.3, f"{JOINED:,} groups", bare=True),
    Row(
        "threads",
        ("thread_sender", "thread_member"),
        messages=150,
        most_weight=10,
        seconds=1.6,
        tables=(
            Table(
                "Group sends from a plain thread, one after the other (ratios: to the reference's async_to_sync)",
                "group send from a thread",
                "sends/s",
                "more",
                (Way(("async_to_sync",), "async_to_sync"), Way(("own",), "group_send_sync")),
            ),
        ),
        bare=True,
    ),
    Row(
        "members",
        ("growing_sender", "growing_member"),
        messages=2,
        most_weight=5,
        seconds=12.0,
        tables=(
            _growth("until it is awaited", "send to 10,000 members, awaited", "ms", "awaited", 2),
            _growth("until the last delivery", "send to 10,000 members, delivered", "ms", "delivered", 2),
            _growth("Redis' own work for one", "send to 10,000 members, Redis' work", "µs", "server", 0),
            _growth("Redis' commands for one", "", "commands", "commands", 0),
        ),
    ),
)
