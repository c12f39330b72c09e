"""How long a run takes, said in advance, and how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.plan import Row
from benchmarks.targets import Target

Step = tuple[int, Row, Target]  # round, row, layer


def steps(rounds: int, rows: Sequence[Row], targets: Sequence[Target]) -> list[Step]:
    """All measurements in order. Each round begins with another layer, so that none always has the same before it."""
    return [
        (number, row, target)
        for number in range(rounds)
        for row in rows
        for target in (*targets[number % len(targets) :], *targets[: number % len(targets)])
        if row.plays(target)
    ]


def expected(left: Sequence[Step]) -> float:
    """Seconds on two cores that do nothing else."""
    return sum(row.seconds for _, row, _ in left)


def lasting(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


class Progress:
    """One line that is written over on a terminal; elsewhere a line for each round."""

    def __init__(self, planned: Sequence[Step]) -> None:
        self._planned = planned
        self._begun = time.monotonic()
        self._round = -1

    def show(self, index: int) -> None:
        """The measurement ``index`` begins."""
        number, row, target = self._planned[index]
        before = expected(self._planned[:index])
        left = expected(self._planned[index:])
        if before:  # by what this machine has shown
            left *= (time.monotonic() - self._begun) / before
        line = f"round {number + 1} of {self._planned[-1][0] + 1}, about {lasting(left)} left"
        if sys.stdout.isatty():
            print(f"\r\033[K{line}: {row.name}, {target.title}"[:120], end="", flush=True)
        elif number != self._round:
            print(line, flush=True)
        self._round = number

    def end(self) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="")
        print(f"It took {lasting(time.monotonic() - self._begun)}.", flush=True)
