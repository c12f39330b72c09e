"""``trunkline stats``: what travels through the layer that the environment configures, and what waits in it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trunkline.errors import LayerUnavailable
from trunkline.ops.configured import configured_layer
from trunkline.stats import LayerStatistics, ProcessStatistics, ShardStatistics, Statistics

ANSWER_WITHIN_S = 15.0  # for all servers together; they are asked at once, and each for less
MOST_CHANNELS = 50  # lines of the table; JSON has all
CLEAR = "\x1b[H\x1b[2J"  # a terminal's screen

_NUMBERS = ("SENT", "PER S", "RECEIVED", "PENDING", "OLDEST", "FULL", "DROPPED", "EXPIRED")


def add_arguments(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        "stats",
        help="show what the channel layer carries and what waits in it",
        description="Shows the totals, the channels, the processes and the servers of the layer that the environment "
        "configures (as `trunkline config` shows it); docs/reference/statistics.md explains the figures. Exits with "
        "0, or with 1 and one sentence when no server answers.",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument(
        "--watch", type=_seconds, metavar="SECONDS", help="show them again every so many seconds, until Ctrl-C"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"a number of seconds from 0.2 to 86400 is accepted, not {text!r}")
    return seconds


def run(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Do what the arguments say and return the exit code.

    :raises ConfigurationError: when the environment is wrong, or configures a layer without statistics.
    """
    layer = configured_layer(environ, "statistics", "counts, such as trunkline.RedisChannelLayer")
    try:
        return asyncio.run(_run(layer, given))
    except KeyboardInterrupt:
        return 0


async def _run(layer: Any, given: argparse.Namespace) -> int:
    try:
        while True:
            begun, code = time.monotonic(), 0
            try:
                found: LayerStatistics = await asyncio.wait_for(layer.statistics(), ANSWER_WITHIN_S)
                text = (
                    json.dumps(asdict(found), indent=None if given.watch else 2)
                    if given.json
                    else "\n".join(tables(found, layer.prefix))
                )
            except (LayerUnavailable, asyncio.TimeoutError) as error:
                text, code = str(error) or f"No statistics: no answer within {ANSWER_WITHIN_S:g} s.", 1
            if not given.watch:
                print(f"trunkline: {text}" if code else text, file=sys.stderr if code else sys.stdout, flush=True)
                return code
            _show_again(text, given, code)
            await asyncio.sleep(max(0.0, given.watch - (time.monotonic() - begun)))
    finally:
        await layer.close()


def _show_again(text: str, given: argparse.Namespace, code: int) -> None:
    if given.json:
        print(text if not code else json.dumps({"problem": text}), flush=True)
    elif sys.stdout.isatty():
        print(f"{CLEAR}{time.strftime('%H:%M:%S')}, every {given.watch:g} s\n\n{text}", flush=True)
    else:
        print(f"{time.strftime('%H:%M:%S')}\n\n{text}\n", flush=True)


# -- the tables


def tables(found: LayerStatistics, prefix: str) -> Iterator[str]:
    """Lines for a person."""
    busy = found.total != Statistics() or found.channels
    if not busy and found.counted and not found.processes:
        yield (
            f"Nothing was counted under the prefix {prefix!r} yet: no process has sent or received since the counts "
            "began, or none for a day."
        )
    else:
        yield from _total(found.total)
    if not found.counted:
        yield ""
        yield (
            "The first server, which holds the counts, is away: only what waits on the others is shown."
            if found.shards
            else "Without a server each process counts for itself: only what waits is known here."
        )
    if found.channels:
        yield ""
        yield from _channels(found.channels)
    if found.processes:
        yield ""
        yield from _processes(found.processes)
    if found.shards:
        yield ""
        yield from _shards(found.shards)


def _total(total: Statistics) -> Iterator[str]:
    groups = f", {total.group_messages_count:,} of them to groups" if total.group_messages_count else ""
    oldest = f", the oldest for {duration(total.messages_max_age)}" if total.messages_pending else ""
    for name, text in (
        ("sent", f"{total.messages_count:,}{groups} ({total.messages_count_per_second:,.1f} per second)"),
        ("received", f"{total.received_count:,}"),
        ("pending", f"{total.messages_pending:,}{oldest}"),
        ("refused, as the channel was full", f"{total.channel_full_count:,}"),
        ("dropped for full members of groups", f"{total.group_dropped_count:,}"),
        ("expired", f"{total.expired_count:,}"),
        ("unreadable", f"{total.unreadable_count:,}"),
    ):
        yield f"{name:<36}{text}"


def _channels(channels: Mapping[str, Statistics]) -> Iterator[str]:
    order = sorted(channels, key=lambda name: (-channels[name].messages_pending, -_traffic(channels[name]), name))
    yield from _table(("CHANNEL", *_NUMBERS), [(name, *_numbers(channels[name])) for name in order[:MOST_CHANNELS]])
    if len(order) > MOST_CHANNELS:
        yield f"and {len(order) - MOST_CHANNELS} more, which --json shows"


def _traffic(found: Statistics) -> int:
    return found.messages_count + found.received_count


def _numbers(found: Statistics) -> tuple[str, ...]:
    return (
        f"{found.messages_count:,}",
        f"{found.messages_count_per_second:,.1f}",
        f"{found.received_count:,}",
        f"{found.messages_pending:,}",
        duration(found.messages_max_age) if found.messages_pending else "-",
        f"{found.channel_full_count:,}",
        f"{found.group_dropped_count:,}",
        f"{found.expired_count:,}",
    )


def _processes(processes: Sequence[ProcessStatistics]) -> Iterator[str]:
    yield from _table(
        ("PROCESS", "SENT", "PER S", "RECEIVED", "UNREAD", "FULL", "DROPPED", "EXPIRED", "UP FOR", "REPORTED"),
        [
            (
                f"{each.host}:{each.pid} {each.program}".rstrip(),
                f"{each.messages_count:,}",
                f"{each.messages_count_per_second:,.1f}",
                f"{each.received_count:,}",
                f"{each.unread:,}",
                f"{each.channel_full_count:,}",
                f"{each.group_dropped_count:,}",
                f"{each.expired_count:,}",
                duration(each.age),
                f"{duration(each.reported)} ago",
            )
            for each in processes
        ],
    )


def _shards(shards: Sequence[ShardStatistics]) -> Iterator[str]:
    yield from _table(
        ("SERVER", "PENDING", "OLDEST", "PROCESSES", "ROUND TRIP", "MEMORY", "CLIENTS", "VERSION"),
        [
            (
                each.label,
                f"{each.messages_pending:,}",
                duration(each.messages_max_age) if each.messages_pending else "-",
                f"{each.processes:,}",
                f"{each.round_trip * 1000:.1f} ms",
                f"{each.memory / 2**20:,.1f} MiB" if each.memory else "-",
                f"{each.clients:,}" if each.clients else "-",
                each.version or "-",
            )
            for each in shards
            if not each.problem
        ],
    )
    for each in shards:
        if each.problem:
            yield f"away: {each.problem}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, numbers to the right."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *others]).rstrip()


def duration(seconds: float) -> str:
    """A time that a person reads at a glance."""
    for most, unit, part in ((10, "s", 1.0), (120, "s", 1.0), (7200, "min", 60.0), (172800, "h", 3600.0)):
        if seconds < most:
            return f"{seconds / part:.1f} {unit}" if most == 10 else f"{seconds / part:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
