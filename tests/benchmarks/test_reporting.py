"""What a run says: its plan, its tables, its chart and its file agree with what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import chart, options, record
from benchmarks.measure import Measurement
from benchmarks.plan import ROWS, Row
from benchmarks.progress import steps
from benchmarks.report import tables
from benchmarks.targets import TARGETS

ROW = {row.name: row for row in ROWS}
LAYER = {target.name: target for target in TARGETS}
MEASURED = [LAYER["redis"], LAYER["core"], LAYER["hiredis"]]


def results(row: Row, **values: dict[str, float]) -> dict[tuple[str, str], list[Measurement]]:
    return {(row.name, LAYER[name.replace("_", "-")].name): [Measurement(3, 3, of, "")] for name, of in values.items()}


THREADS = results(
    ROW["threads"], redis={"async_to_sync": 60.0, "own": 300.0}, core={"async_to_sync": 20.0}, hiredis={"own": 400.0}
)
QUEUE = results(ROW["queue"], redis={"rate": 50.0}, core={"rate": 5.0}, hiredis={"rate": 100.0})


def test_each_round_begins_with_another_layer_and_bare_loops_run_where_there_are_any() -> None:
    planned = [(number, target.name) for number, row, target in steps(2, [ROW["queue"]], MEASURED)]
    assert planned == [(0, "redis"), (0, "core"), (0, "hiredis"), (1, "core"), (1, "hiredis"), (1, "redis")]
    assert {target.name for _, _, target in steps(1, [ROW["joins"]], MEASURED)} == {"redis", "core"}


def test_both_ways_of_sending_are_compared_with_the_references_first_one() -> None:
    row = ROW["threads"]
    lines = {line.label: line.ratios for line in chart.lines([row], MEASURED[:2], THREADS)}
    assert lines == {
        "group send from a thread, async_to_sync": {("redis", "core"): 3.0},
        "group send from a thread, group_send_sync": {("redis", "core"): 15.0},
    }


def test_a_table_has_a_line_for_each_way_that_a_layer_has() -> None:
    shown = "\n".join(tables([ROW["threads"]], MEASURED[:2], THREADS))
    assert "trunkline.RedisChannelLayer group_send_sync" in shown
    assert "core.RedisChannelLayer group_send_sync" not in shown


def test_both_ways_are_compared_with_the_one_way_that_a_bare_loop_has() -> None:
    ratios = record.as_data({}, [ROW["threads"]], MEASURED, THREADS)["ratios"]
    assert {(one["layer"], one["value"], one["than"]): one["ratio"] for one in ratios} == {
        ("redis", "async_to_sync", "core"): 3.0,
        ("redis", "async_to_sync", "hiredis"): 0.15,
        ("redis", "own", "core"): 15.0,
        ("redis", "own", "hiredis"): 0.75,
        ("hiredis", "own", "core"): 20.0,
    }


def test_a_bare_loop_is_called_by_its_name_alone() -> None:
    shown = list(tables([ROW["threads"]], MEASURED, THREADS))
    (line,) = (line for line in shown if "bare loop over hiredis" in line)
    assert line.split()[:5] == ["bare", "loop", "over", "hiredis", "400"]


def test_ours_is_compared_with_bare_loops_and_these_with_the_references() -> None:
    ratios = record.as_data({}, [ROW["queue"]], MEASURED, QUEUE)["ratios"]
    assert {(one["layer"], one["than"]): one["ratio"] for one in ratios} == {
        ("redis", "core"): 10.0,
        ("redis", "hiredis"): 0.5,
        ("hiredis", "core"): 20.0,
    }


def test_a_value_of_nothing_gives_no_ratio() -> None:
    nothing = results(ROW["members"], redis={"server_10000": 0.0}, core={"server_10000": 5.0})
    assert list(chart.lines([ROW["members"]], MEASURED[:2], nothing)) == []


def test_the_file_holds_every_measurement(tmp_path: Path) -> None:
    record.write(tmp_path / "run.json", {"rounds": 1}, [ROW["queue"]], MEASURED, QUEUE)
    told = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert told["setting"] == {"rounds": 1}
    assert [(one["layer"], one["round"], one["values"]) for one in told["measurements"]] == [
        ("redis", 1, {"rate": 50.0}),
        ("core", 1, {"rate": 5.0}),
        ("hiredis", 1, {"rate": 100.0}),
    ]


@pytest.mark.parametrize(
    "given", [["--rows", "speed"], ["--rounds", "0"], ["--scale", "2"], ["--server", "/no/redis"], ["--json", "/no/f"]]
)
def test_a_wrong_option_is_named(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *given])
    with pytest.raises(SystemExit):
        options.parse()
    last = capsys.readouterr().err.splitlines()[-1]
    assert given[0] in last
    assert given[1] in last
