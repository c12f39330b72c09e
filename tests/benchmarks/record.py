"""A run as JSON, for whoever compares runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.plan import Row
from benchmarks.report import Results, compared_with, speedup
from benchmarks.targets import Target


def write(
    path: Path, setting: Mapping[str, object], rows: Sequence[Row], targets: Sequence[Target], results: Results
) -> None:
    """Write the setting, each measurement, and the medians of the ratios."""
    path.write_text(json.dumps(as_data(setting, rows, targets, results), indent=2) + "\n", encoding="utf-8")


def as_data(
    setting: Mapping[str, object], rows: Sequence[Row], targets: Sequence[Target], results: Results
) -> dict[str, Any]:
    """``measurements``: one for each row, layer and round; ``ratios``: above 1 is better than ``than``."""
    playing = [(row, target) for row in rows for target in targets if row.plays(target)]
    return {
        "setting": dict(setting),
        "measurements": [
            {"row": row.name, "layer": target.name, "round": number + 1, **asdict(run)}
            for row, target in playing
            for number, run in enumerate(results[row.name, target.name])
        ],
        "ratios": [
            {"row": row.name, "value": way.keys[-1], "layer": target.name, "than": other, "ratio": round(factor, 4)}
            for row, target in playing
            for table in row.tables
            for way in table.ways
            for other in compared_with(row, target)
            if (factor := speedup(row, table, way, target.name, other, results)) is not None
        ],
    }
