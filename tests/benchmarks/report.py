"""The table that a run prints."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.measure import Measurement
from benchmarks.plan import OURS, REFERENCES, Row, Target

Results = dict[tuple[str, str], list[Measurement]]  # by row and layer, one for each round


def table(rows: Sequence[Row], targets: Sequence[Target], results: Results) -> Iterator[str]:
    """Lines of the table: for each row the layers, their median and range, what they counted, and the ratios."""
    width = max(len(target.backend) for target in targets)
    for row in rows:
        yield ""
        yield f"{row.title} ({row.unit}, {row.better} is better)"
        ratios = "".join(f"{'x ' + reference:>10}" for reference in REFERENCES)
        yield f"  {'layer':<{width}}{'median':>11}{'lowest':>11}{'highest':>11}{'sent':>10}{'received':>10}{ratios}"
        for target in targets:
            yield f"  {target.backend:<{width}}" + _line(row, target, results)


def _line(row: Row, target: Target, results: Results) -> str:
    runs = results[row.name, target.name]
    sent, received = sum(run.sent for run in runs), sum(run.received for run in runs)
    failures = [run.failure for run in runs if run.failure]
    if failures:
        return f"  FAILED in {len(failures)} of {len(runs)} rounds; {failures[0]}"
    values = [run.value for run in runs if run.value is not None]
    figures = f"{statistics.median(values):>11,.0f}{min(values):>11,.0f}{max(values):>11,.0f}"
    ratios = "".join(f"{ratio(row, target, reference, results):>10}" for reference in REFERENCES)
    return f"{figures}{sent:>10,}{received:>10,}{ratios}"


def ratio(row: Row, target: Target, reference: str, results: Results) -> str:
    """Median of the ratios of the rounds in which both were measured; empty for a reference itself."""
    if target.name not in OURS:
        return ""
    pairs = zip(results[row.name, target.name], results.get((row.name, reference), []), strict=False)
    speedups = [
        row.speedup(ours.value, theirs.value)
        for ours, theirs in pairs
        if ours.value is not None and theirs.value is not None
    ]
    return f"{statistics.median(speedups):.1f}" if speedups else "-"
