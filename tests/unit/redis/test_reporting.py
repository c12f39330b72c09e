"""What a process says about itself in the statistics."""

from __future__ import annotations

import pytest

from trunkline.redis.reporting import _program


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("/srv/site/manage.py", "manage.py"),
        ("/srv/.venv/bin/daphne", "daphne"),
        ("/srv/.venv/lib/python3/site-packages/daphne/__main__.py", "daphne"),
        ("__main__.py", "__main__.py"),
        ("-c", "-c"),
        ("", ""),
    ],
)
def test_a_process_is_called_by_its_program(started: str, shown: str) -> None:
    assert _program(started) == shown
