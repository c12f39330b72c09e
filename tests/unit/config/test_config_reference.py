"""The reference page says what the tables say."""

from __future__ import annotations

from pathlib import Path

from trunkline.config import CONNECTION_OPTIONS, OPTIONS, VARIABLES, ConnectionOption, Option, Variable
from trunkline.config.reference import page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m trunkline.config.reference > docs/reference/configuration.md"


def test_the_page_names_every_option_and_variable() -> None:
    text = page()
    entries: list[Option | ConnectionOption | Variable] = [*OPTIONS, *CONNECTION_OPTIONS, *VARIABLES]
    for entry in entries:
        assert f"`{entry.name}`" in text
