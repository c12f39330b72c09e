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

    :ivar better: whether more or less of ``unit`` is better.
    :ivar ways: all of them are compared with the references' first way.
    :ivar columns: headings where a way has several values; ratios are those of the last.
    """

    title: str
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
    :ivar bare: whether there is a bare loop for it.
    """

    name: str
    roles: tuple[str, str]
    messages: int
    most_weight: int
    tables: tuple[Table, ...]
    bare: bool = False

    def plays(self, target: Target) -> bool:
        """Whether the target takes part."""
        return self.bare or not target.bare

    def roles_of(self, target: Target) -> tuple[str, ...]:
        return tuple(f"bare_{role}" if target.bare else role for role in self.roles)

    def messages_for(self, target: Target) -> int:
        return self.messages * min(target.weight, self.most_weight)


def _join_tables(where: str) -> tuple[Table, ...]:
    in_flight = f"{SENDS_IN_FLIGHT} in flight, each awaited"
    return (
        Table(f"Joins: {JOINED:,} channels of a process into {where}, {in_flight}", "joins/s", "more", _way("joins")),
        Table(f"Leaves: the same channels out of {where}", "leaves/s", "more", _way("leaves")),
    )


def _way(*keys: str) -> tuple[Way, ...]:
    return (Way(keys),)


def _growth(title: str, unit: str, key: str, digits: int) -> Table:
    keys = _way(*(f"{key}_{size}" for size in SIZES))
    return Table(f"Group send as members of one process grow: {title}", unit, "less", keys, _SIZES, digits)


_SIZES = tuple(f"{size:,}" for size in SIZES)

ROWS = (
    Row(
        "queue",
        ("queue_sender", "queue_receiver"),
        1_500,
        30,
        (
            Table(
                f"Queue: normal channel, {SENDS_IN_FLIGHT} sends in flight, {QUEUE_RECEIVERS} receivers",
                "messages/s",
                "more",
            ),
        ),
        bare=True,
    ),
    Row(
        "latency",
        ("asker_one", "answerer_one"),
        400,
        1,
        (Table("Request and answer: process-specific channels, 1 in flight, median", "µs", "less", _way("median")),),
        bare=True,
    ),
    Row(
        "answers",
        ("asker", "answerer"),
        768,
        30,
        (
            Table(
                f"Request and answer: process-specific channels, {SENDS_IN_FLIGHT} in flight",
                "answers/s",
                "more",
            ),
        ),
        bare=True,
    ),
    Row(
        "groups",
        ("group_sender", "group_member"),
        20,
        30,
        (Table(f"Group fan-out: 2 processes with {MEMBERS} members each", "deliveries/s", "more"),),
        bare=True,
    ),
    Row("joins", ("joiner_one_group", "prover_one_group"), JOINED, 10, _join_tables("one group")),
    Row("distinct", ("joiner_distinct", "prover_distinct"), JOINED, 3, _join_tables(f"{JOINED:,} groups")),
    Row(
        "threads",
        ("thread_sender", "thread_member"),
        150,
        10,
        (
            Table(
                "Group sends from a plain thread, one after the other (ratios: to the reference's async_to_sync)",
                "sends/s",
                "more",
                (Way(("async_to_sync",), "async_to_sync"), Way(("own",), "group_send_sync")),
            ),
        ),
    ),
    Row(
        "members",
        ("growing_sender", "growing_member"),
        3,
        5,
        (
            _growth("until it is awaited", "ms", "awaited", 2),
            _growth("until the last delivery", "ms", "delivered", 2),
            _growth("Redis' own work for one", "µs", "server", 0),
            _growth("Redis' commands for one", "commands", "commands", 0),
        ),
    ),
)
