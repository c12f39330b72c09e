"""The ratios as a chart: how many times better our layers are than each reference, on logarithmic scales."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.plan import Row
from benchmarks.report import Results, speedup
from benchmarks.targets import OURS, REFERENCES, Target

COLOURS = {"redis": "#b5442c", "ipc": "#3f6d9e"}
LINE_HEIGHT = 0.42  # inches of one line of bars
BAR = 0.38  # of the height of a line


class Line(NamedTuple):
    """One line of bars.

    :ivar ratios: by layer and reference.
    """

    label: str
    ratios: dict[tuple[str, str], float]


def lines(rows: Sequence[Row], targets: Sequence[Target], results: Results) -> Iterator[Line]:
    """What the chart shows: a line for each table, and for each way where it has several."""
    shown = [target for target in targets if target.name in OURS]
    for row in rows:
        for table in row.tables:
            for way in table.ways:
                ratios = {
                    (target.name, reference): factor
                    for target in shown
                    for reference in REFERENCES
                    if (factor := speedup(row, table, way, target.name, reference, results)) is not None
                }
                if ratios and table.short:
                    yield Line(f"{table.short}{', ' if way.label else ''}{way.label}", ratios)


def draw(
    path: Path, setting: Mapping[str, object], rows: Sequence[Row], targets: Sequence[Target], results: Results
) -> bool:
    """Write the chart; returns whether there was anything to draw, and what draws it is installed."""
    shown = list(lines(rows, targets, results))
    if not shown:
        return False
    try:
        import matplotlib
    except ImportError:
        print("No chart: matplotlib is not installed here; make bench installs it.", file=sys.stderr)
        return False
    matplotlib.use("Agg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "trunkline", "font.size": 10})
    from matplotlib import pyplot

    layers = [target for target in targets if target.name in OURS]
    figure, panels = pyplot.subplots(
        1, len(REFERENCES), sharey=True, figsize=(11.5, 2.1 + LINE_HEIGHT * len(shown)), layout="constrained"
    )
    for panel, reference in zip(panels, REFERENCES, strict=True):
        _panel(panel, reference, shown, layers, [target for target in targets if target.name == reference])
    panels[0].set_yticks(range(len(shown)), [line.label for line in shown])
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(layers), frameon=False)
    figure.supxlabel(
        "times better (logarithmic; right of the line at 1 is better). "
        f"Paired rounds: {setting['rounds']}; {setting['server']}, {setting['cores']} cores.",
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return True


def _panel(
    panel: Any, reference: str, shown: Sequence[Line], layers: Sequence[Target], named: Sequence[Target]
) -> None:
    for place, layer in enumerate(layers):
        offset = (place - (len(layers) - 1) / 2) * BAR
        found = [(y + offset, line.ratios.get((layer.name, reference))) for y, line in enumerate(shown)]
        bars = [(y, ratio) for y, ratio in found if ratio is not None and ratio > 0]
        # From the line at 1, to either side.
        panel.barh(
            [y for y, _ in bars],
            [ratio - 1 for _, ratio in bars],
            left=1,
            height=BAR,
            color=COLOURS[layer.name],
            label=layer.title,
        )
        for y, ratio in bars:
            side = 1 if ratio >= 1 else -1
            panel.annotate(
                f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}",
                (ratio, y),
                xytext=(3 * side, 0),
                textcoords="offset points",
                va="center",
                ha="left" if side > 0 else "right",
                fontsize=8,
            )
    every = [ratio for line in shown for ratio in line.ratios.values() if ratio > 0] + [1.0]
    panel.set_xscale("log")
    panel.set_xlim(min(every) / 4, max(every) * 4)
    panel.axvline(1, color="black", linewidth=1)
    panel.grid(axis="x", which="major", color="#dddddd")
    panel.set_axisbelow(True)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.set_title(f"against {named[0].title if named else reference}", fontsize=10)
