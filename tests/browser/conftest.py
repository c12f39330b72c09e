"""A headless Chromium, and stacks of ``make run`` for it to visit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.requirements import need
from support.servers import RedisServer
from support.stack import MakeRun

if TYPE_CHECKING:
    from playwright.sync_api import Browser

INSTALL_LINE = "apt-get install chromium, or: make system-deps"
# Nothing that looks for a network, and no sandbox: containers rarely allow one.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def chromium() -> str:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    need("Chromium", path, INSTALL_LINE)
    assert path is not None
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Ends with its module: while it runs, its event loop is the main thread's, and asyncio tests can't have one."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["IPC", "Redis"])
def stack(request: pytest.FixtureRequest, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeRun]:
    """``make run`` with its two Daphne processes and its worker, once on each channel layer."""
    environ: dict[str, Any] = {"TRUNKLINE_RELEASE": "2026.11"}
    if request.param == "Redis":
        servers: list[RedisServer] = request.getfixturevalue("shared_redis")
        environ["REDIS_URL"] = servers[0].url
    with MakeRun(tmp_path_factory.mktemp("stack"), **environ) as run:
        yield run.ready()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where the pictures of a run go, to be looked at: .cache/screenshots."""
    folder = Path(__file__).resolve().parents[2] / ".cache" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
