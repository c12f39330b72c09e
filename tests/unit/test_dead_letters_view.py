"""How dead letters are shown, whatever is in them."""

from __future__ import annotations

import json

import pytest

from trunkline.cli import main
from trunkline.ops.dead_letters import bounded, cut, printable


def test_a_message_of_any_size_and_depth_is_shown_bounded() -> None:
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"deeper": deep}
    message = {
        "type": "job",
        "text": "x" * 1_000_000,
        "data": b"\x00\xff" * 500_000,
        "list": list(range(10_000)),
        "dict": {str(number): number for number in range(10_000)},
        "deep": deep,
        "none": None,
        "float": 1.5,
    }
    shown = bounded(message)
    assert len(json.dumps(shown)) < 6_000
    assert isinstance(shown, dict)
    assert shown["type"] == "job"
    assert shown["text"] == "x" * 200 + "… (999800 more characters)"
    assert str(shown["data"]).startswith("1000000 bytes: 00 ff 00")
    assert shown["list"][-1] == "… 9950 more"
    assert shown["dict"]["…"] == "9950 more"
    assert (shown["none"], shown["float"]) == (None, 1.5)


def test_what_is_shown_cannot_move_a_terminal_s_cursor() -> None:
    assert printable("größe \x1b[2J\x9b\n") == "größe \\x1b[2J\\x9b\\n"
    assert cut("short", 5) == "short"


@pytest.mark.parametrize(
    "arguments", [["requeue"], ["drop", "--channel", "jobs"], ["show", "1.1-1", "--all"], ["frobnicate"], []]
)
def test_a_wrong_call_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dead-letters", *arguments])
    assert ended.value.code == 2
    assert "usage: trunkline dead-letters" in capsys.readouterr().err
