"""Health checks tell well processes from others, with one sentence."""

from __future__ import annotations

import asyncio
import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trunkline.errors import ConfigurationError
from trunkline.serve.health import STALE_AFTER_S, beat, daphne_problem, worker_problem


@contextmanager
def answering(status: int) -> Iterator[dict[str, str]]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {"ASGI_APPLICATION": "mysite.asgi:application", "TRUNKLINE_PORT": str(server.server_port)}
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "well"), [(200, True), (302, True), (404, True), (500, False), (503, False)])
def test_daphne_is_well_when_it_answers_without_a_server_error(status: int, well: bool) -> None:
    with answering(status) as environ:
        problem = daphne_problem({**environ, "TRUNKLINE_BIND": "0.0.0.0"})
    assert (problem is None) == well
    assert well or problem == f"Daphne answered / with {status}."


def test_daphne_that_does_not_answer_is_not_well() -> None:
    with answering(200) as environ:
        pass
    problem = daphne_problem(environ)
    assert problem == f"Daphne doesn't answer on 127.0.0.1:{environ['TRUNKLINE_PORT']}: Connection refused."


def test_a_worker_is_well_while_it_beats(tmp_path: Path) -> None:
    path = tmp_path / "health"
    environ = {"TRUNKLINE_HEALTH_FILE": str(path)}
    assert worker_problem(environ) == "The worker hasn't begun to listen, or has ended."

    async def run() -> None:
        beating = asyncio.ensure_future(beat(path))
        await asyncio.sleep(0)
        assert worker_problem(environ) is None
        beating.cancel()
        await asyncio.wait({beating})

    asyncio.run(run())
    assert worker_problem(environ) == "The worker hasn't begun to listen, or has ended."


def test_a_worker_whose_beat_is_old_is_not_well(tmp_path: Path) -> None:
    path = tmp_path / "health"
    path.touch()
    before = time.time() - STALE_AFTER_S - 5
    os.utime(path, (before, before))
    problem = worker_problem({"TRUNKLINE_HEALTH_FILE": str(path)})
    assert problem is not None
    assert "event loop hasn't turned" in problem


@pytest.mark.parametrize("value", ["", "health"])
def test_the_health_file_is_an_absolute_path(value: str) -> None:
    with pytest.raises(ConfigurationError, match="TRUNKLINE_HEALTH_FILE"):
        worker_problem({"TRUNKLINE_HEALTH_FILE": value})
