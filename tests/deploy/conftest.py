"""Fixtures of the scenarios."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Its helper image can't be pulled everywhere; what is left over is removed by its label below.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

import pytest

from deploy.support import engine
from deploy.support.images import Images, built
from deploy.support.pictures import noise


@pytest.fixture(scope="session", autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    engine.remove(f"label={engine.LABEL}={engine.RUN}")


@pytest.fixture(scope="session")
def images() -> Images:
    return built()


@pytest.fixture(scope="session")
def picture() -> bytes:
    """About 3 MB: more than nginx takes when it isn't told, less than the chat refuses."""
    return noise(1200, 900)


@pytest.fixture(scope="session")
def small_picture() -> bytes:
    return noise(200, 150)
