"""``make profile ROW=queue``: where the time of a row goes, in its two processes, as py-spy samples them.

Writes a flame graph of each process, and prints the functions that were running most often themselves. With
``--instructions`` valgrind counts the processor's instructions for each message instead, which takes minutes: counts
that no other load on the machine moves.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import Load
from benchmarks.measure import DEADLINE_S, Tool, measure
from benchmarks.options import chosen
from benchmarks.plan import ROWS, Row
from benchmarks.targets import TARGETS, Target
from support.servers import RedisServer

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "profile"
RATE = 500  # samples a second
LONGER = 5  # times the messages of a benchmark, so that there are samples enough
TOP = 15
LOOP = "run_forever"  # in every stack of the event loop
COUNTED = (500, 1_500)  # messages of the two runs that are counted
COUNTING_DEADLINE_S = 900.0


def main() -> int:
    options = _options()
    row, target = options.row, options.layer
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"{row.tables[0].title}\n{target.title}", flush=True)
    try:
        for line in (_count if options.instructions else _sample)(row, target):
            print(line, flush=True)
    except _Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


class _Failed(Exception):
    """A measurement failed; says how."""


def _sample(row: Row, target: Target) -> Iterator[str]:
    for tool in (_flame_graph, _stacks):
        _run(row, target, row.messages_for(target) * LONGER, tool, DEADLINE_S)
    for role in row.roles_of(target):
        yield from _summary(role)


def _count(row: Row, target: Target) -> Iterator[str]:
    """The difference of two runs, so that starting the processes doesn't count."""
    found: list[dict[str, int]] = []
    for messages in COUNTED:
        _run(row, target, messages, _callgrind, COUNTING_DEADLINE_S)
        found.append({role: _instructions(role) for role in row.roles_of(target)})
    less, more = found
    for role, many in more.items():
        yield f"  {role}: {(many - less[role]) / (COUNTED[1] - COUNTED[0]):,.0f} instructions for each message"


def _run(row: Row, target: Target, messages: int, tool: Tool, deadline: float) -> None:
    with RedisServer() as server:
        run = asyncio.run(measure(row, target, Load(messages, 1.0, server.url), tool, deadline))
    if run.failure:
        raise _Failed(run.failure)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__.splitlines()[0])
    parser.add_argument(
        "row", nargs="?", default=ROWS[0], type=lambda text: chosen(text, ROWS)[0], help="as in make bench"
    )
    parser.add_argument("--layer", default=TARGETS[0], type=lambda text: chosen(text, TARGETS)[0])
    parser.add_argument("--instructions", action="store_true", help="count them by valgrind, which has to be installed")
    options = parser.parse_args()
    if options.instructions and not shutil.which("valgrind"):
        parser.error("valgrind is not installed: apt-get install valgrind")
    if not _py_spy().exists():
        parser.error("py-spy is not installed here; make profile installs it")
    return options


# -- the tools, each a command that the process' own follows


def _flame_graph(role: str) -> list[str]:
    return _sampled(role, "flamegraph", "svg")


def _stacks(role: str) -> list[str]:
    return _sampled(role, "raw", "txt")


def _sampled(role: str, form: str, suffix: str) -> list[str]:
    output = FOLDER / f"{role}.{suffix}"
    how = ["--rate", str(RATE), "--format", form, "--output", str(output)]
    return [str(_py_spy()), "record", *how, "--"]


def _py_spy() -> Path:
    return Path(sys.executable).parent / "py-spy"


def _callgrind(role: str) -> list[str]:
    output = FOLDER / f"{role}.callgrind"
    return ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={output}"]


# -- what they found


def _summary(role: str) -> Iterator[str]:
    """The functions that were running themselves, by their share of the samples; C code counts for its caller."""
    own: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    waiting = 0
    for line in (FOLDER / f"{role}.txt").read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        name, path = _frame(stack.rsplit(";", 1)[-1])
        if "importlib" in stack or LOOP not in stack:  # the start of the process
            continue
        if path == "selectors.py":
            waiting += int(count)
            continue
        own[f"{name} ({path})"] += int(count)
        parts[path.split("/")[0] if "/" in path else path] += int(count)
    total = sum(own.values()) or 1
    yield f"\n{role}: {total:,} samples busy, {waiting:,} waiting; {FOLDER / role}.svg"
    yield "  " + ", ".join(f"{part} {count / total:.0%}" for part, count in parts.most_common(6))
    for name, samples in own.most_common(TOP):
        yield f"  {samples / total:>6.1%}  {name}"


def _frame(text: str) -> tuple[str, str]:
    """A frame's function, and its file within its package."""
    found = re.fullmatch(r"(.*) \((.*?)(?::\d+)?\)", text)
    name, path = (found[1], found[2]) if found else (text, "")
    return name, re.sub(r"^.*(?:site-packages|python3\.\d+|layer|tests)/", "", path)


def _instructions(role: str) -> int:
    """All that the process executed."""
    found = re.search(r"^(?:summary|totals): (\d+)", (FOLDER / f"{role}.callgrind").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())
