"""The summary of a profile: what ran itself, without the process' start and without waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import profile

STACKS = """\
run (asyncio/runners.py:190);_find (<frozen importlib._bootstrap>:1);load (/a/layer/trunkline/cli.py:3) 50
run_forever (/usr/lib/python3.11/asyncio/base_events.py:608);select (/usr/lib/python3.11/selectors.py:468) 25
run_forever (/usr/lib/python3.11/asyncio/base_events.py:608);Pipe.add (/a/layer/trunkline/redis/pipeline.py:10) 20
run_forever (/usr/lib/python3.11/asyncio/base_events.py:608);Pipe.add (/a/layer/trunkline/redis/pipeline.py:12) 10
run_forever (/usr/lib/python3.11/asyncio/base_events.py:608);packb (/v/site-packages/msgpack/__init__.py:5) 10
"""


def test_lines_of_one_function_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "FOLDER", tmp_path)
    (tmp_path / "queue_sender.txt").write_text(STACKS, encoding="utf-8")
    headline, parts, *functions = profile._summary("queue_sender")
    assert "40 samples busy, 25 waiting" in headline
    assert parts.strip() == "trunkline 75%, msgpack 25%"
    assert [line.split(None, 1) for line in functions] == [
        ["75.0%", "Pipe.add (trunkline/redis/pipeline.py)"],
        ["25.0%", "packb (msgpack/__init__.py)"],
    ]
