"""What a test needs from the machine: missing means skipped here and failed in CI."""

from __future__ import annotations

import os

import pytest


def need(name: str, found: object, install_line: str) -> None:
    """Go on if ``found`` is true; else skip the test, or fail it where the environment says ``CI=true``.

    :param name: what is needed, as a reader knows it (``redis-server``).
    :param found: the thing itself, its path, or a truth value.
    :param install_line: the command that installs it on Debian or from PyPI.
    """
    if found:
        return
    reason = f"needs {name}, which is not installed here: {install_line}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
