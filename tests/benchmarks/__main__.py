"""``make bench``: compare Trunkline's layers with channels_redis', in turn, on one Redis server of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pytest

from benchmarks import chart, options, record
from benchmarks.load import MESSAGE_BYTES, Load
from benchmarks.measure import Measurement, measure
from benchmarks.progress import Progress, expected, lasting, steps
from benchmarks.report import tables
from benchmarks.targets import CAPACITY
from support.servers import RedisServer

PACKAGES = ("trunkline", "channels-redis", "channels", "asgiref", "redis", "hiredis")


def main() -> int:
    chosen = options.parse()
    try:
        with RedisServer(flavour=chosen.server) as server:
            setting = _setting(chosen, server)
            print(_described(setting), flush=True)
            results = _run(chosen, server)
    except pytest.skip.Exception as trouble:  # the server couldn't be fetched
        print(trouble.msg, file=sys.stderr)
        return 1
    print("\n".join(tables(chosen.rows, chosen.layers, results)))
    print()
    if chosen.json:
        record.write(chosen.json, setting, chosen.rows, chosen.layers, results)
        print(f"All figures: {chosen.json}")
    if chart.draw(chosen.chart, setting, chosen.rows, chosen.layers, results):
        print(f"The ratios as a chart: {chosen.chart}")
    failed = any(run.failure for runs in results.values() for run in runs)
    print("FAILED: the tables say where, and how." if failed else "All that was sent was received once.")
    return 1 if failed else 0


def _run(chosen: argparse.Namespace, server: RedisServer) -> dict[tuple[str, str], list[Measurement]]:
    results: dict[tuple[str, str], list[Measurement]] = {
        (row.name, target.name): [] for row in chosen.rows for target in chosen.layers if row.plays(target)
    }
    planned = steps(chosen.rounds, chosen.rows, chosen.layers)
    print(f"This takes about {lasting(expected(planned))} where nothing else runs.", flush=True)
    progress = Progress(planned)
    with server.client() as client:
        for index, (_, row, target) in enumerate(planned):
            progress.show(index)
            client.flushall()
            load = Load(chosen.messages or row.messages_for(target), chosen.scale, server.url)
            results[row.name, target.name].append(asyncio.run(measure(row, target, load)))
    progress.end()
    return results


def _setting(chosen: argparse.Namespace, server: RedisServer) -> dict[str, Any]:
    product, of_server = server.identity()
    return {
        "rounds": chosen.rounds,
        "scale": chosen.scale,
        "message_bytes": MESSAGE_BYTES,
        "capacity": CAPACITY,
        "server": f"{product.capitalize()} {of_server}",
        "python": ".".join(map(str, sys.version_info[:3])),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _described(setting: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in setting["packages"].items())
    scaled = "" if setting["scale"] == 1 else f" Everything is scaled by {setting['scale']:g}: a quick look only."
    return (
        f"Two processes, {MESSAGE_BYTES}-byte dicts, capacity {CAPACITY:,}, no socket timeout, "
        f"{setting['rounds']} paired rounds; {setting['server']}, Python {setting['python']}, "
        f"{setting['cores']} cores, load {setting['load']:.1f}.{scaled}\n{packages}.\n"
        "x ...: how many times better than that, median of the rounds' ratios."
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell expects of a command that Ctrl-C ended
