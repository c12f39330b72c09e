"""The tables that a run prints, and the ratios in them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.measure import Measurement
from benchmarks.plan import Row, Table, Way
from benchmarks.targets import BARE, REFERENCES, Target

Results = Mapping[tuple[str, str], Sequence[Measurement]]  # by row and layer, one for each round


def tables(rows: Sequence[Row], targets: Sequence[Target], results: Results) -> Iterator[str]:
    """Lines of all tables: the layers, their medians and range, what they counted, and the ratios."""
    for row in rows:
        for number, table in enumerate(row.tables):
            yield ""
            yield f"{table.title} ({table.unit}, {table.better} is better)"
            yield from _table(row, table, [target for target in targets if row.plays(target)], results, number == 0)


def _table(row: Row, table: Table, targets: Sequence[Target], results: Results, counts: bool) -> Iterator[str]:
    titles = {(target, way): _title(target, way) for target in targets for way in table.ways}
    width = max(map(len, titles.values()))
    against = [*REFERENCES, *(target.name for target in targets if target.bare)]
    headings = [*(table.columns or ("median", "lowest", "highest")), *(("sent", "received") if counts else ())]
    headings += [f"x {other}" for other in against]
    yield f"  {'layer':<{width}}" + "".join(f"{heading:>11}" for heading in headings)
    for target in targets:
        runs = results[row.name, target.name]
        failures = [run.failure for run in runs if run.failure]
        if failures:
            yield f"  {target.title:<{width}}  FAILED in {len(failures)} of {len(runs)} rounds; {failures[0]}"
            continue
        for way in table.ways:
            cells = _figures(table, way, runs)
            if cells:
                cells += [f"{sum(run.sent for run in runs):,}", f"{sum(run.received for run in runs):,}"] * counts
                cells += [ratio(row, table, way, target, other, results) for other in against]
                yield f"  {titles[target, way]:<{width}}" + "".join(f"{cell:>11}" for cell in cells).rstrip()


def _title(target: Target, way: Way) -> str:
    """What a line is called; a bare loop has one way, and none of a layer's methods."""
    return target.title if target.bare else f"{target.title} {way.label}".strip()


def _figures(table: Table, way: Way, runs: Sequence[Measurement]) -> list[str]:
    """The cells of one line: medians by column, or median, lowest and highest of a single value."""
    columns = [[run.values[key] for run in runs if key in run.values] for key in way.keys]
    if not all(columns):
        return []
    single = len(columns) == 1
    figures = (
        [summary(columns[0]) for summary in (statistics.median, min, max)]
        if single
        else map(statistics.median, columns)
    )
    return [f"{figure:,.{table.digits}f}" for figure in figures]


def compared_with(row: Row, target: Target) -> tuple[str, ...]:
    """What a target's ratios are to: ours to all others, a bare loop to the references."""
    if target.name in REFERENCES:
        return ()
    return REFERENCES if target.bare or not row.bare else (*REFERENCES, *BARE)


def ratio(row: Row, table: Table, way: Way, target: Target, other: str, results: Results) -> str:
    """As ``speedup``, for the table; empty where the two are not compared."""
    if other not in compared_with(row, target):
        return ""
    factor = speedup(row, table, way, target.name, other, results)
    return "-" if factor is None else f"{factor:.2f}" if factor < 10 else f"{factor:.1f}"


def speedup(row: Row, table: Table, way: Way, target: str, other: str, results: Results) -> float | None:
    """Median of the ratios of the rounds in which both were measured, in the last column, to the other's first way."""
    others = results.get((row.name, other), [])
    ours, theirs = way.keys[-1], _first_key(table, others)
    factors = [
        table.speedup(mine.values[ours], its.values[theirs])
        for mine, its in zip(results[row.name, target], others, strict=False)
        if mine.values.get(ours, 0) > 0 and its.values.get(theirs, 0) > 0
    ]
    return statistics.median(factors) if factors else None


def _first_key(table: Table, runs: Sequence[Measurement]) -> str:
    """The last column of the first way that was measured; empty where none was."""
    keys = (way.keys[-1] for way in table.ways)
    return next((key for key in keys if any(key in run.values for run in runs)), "")
