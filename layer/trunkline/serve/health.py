"""Is a process of the graph well? Asked from outside, by ``trunkline health`` in health checks and probes.

Daphne is well when it answers. A worker touches a file as long as its event loop turns; it is well while that file is
fresh. An outage of Redis makes neither unwell: they wait, and restarting them would help nobody.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import time
from collections.abc import Mapping
from pathlib import Path

from trunkline.errors import ConfigurationError
from trunkline.serve.deployment import deployment_from

__all__ = ["BEAT_EVERY_S", "STALE_AFTER_S", "beat", "daphne_problem", "health_file", "worker_problem"]

BEAT_EVERY_S = 3.0
STALE_AFTER_S = 20.0  # a loop that doesn't turn for so long is stuck: handlers that block belong into threads
_ANSWER_S = 5.0  # for Daphne's answer


def health_file(environ: Mapping[str, str]) -> Path | None:
    """The file of ``TRUNKLINE_HEALTH_FILE``; ``None`` where there is to be none.

    :raises ConfigurationError: when it is no absolute path.
    """
    text = environ.get("TRUNKLINE_HEALTH_FILE", "").strip()
    if text and not text.startswith("/"):
        raise ConfigurationError("TRUNKLINE_HEALTH_FILE must be an absolute path, which a relative one is not.")
    return Path(text) if text else None


async def beat(path: Path) -> None:
    """Touch ``path`` until cancelled, and remove it then.

    :raises OSError: when it can't be written.
    """
    try:
        while True:
            _touch(path)
            await asyncio.sleep(BEAT_EVERY_S)
    finally:
        _remove(path)


def _touch(path: Path) -> None:
    path.touch()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def daphne_problem(environ: Mapping[str, str]) -> str | None:
    """Why Daphne isn't well, or ``None``: it has to answer ``TRUNKLINE_HEALTH_PATH`` (/) with a status below 500.

    :raises ConfigurationError: when the environment doesn't describe a deployment.
    """
    deployment = deployment_from(environ)
    path = environ.get("TRUNKLINE_HEALTH_PATH", "").strip() or "/"
    host = {"0.0.0.0": "127.0.0.1"}.get(deployment.bind, deployment.bind)
    connection = http.client.HTTPConnection(host, deployment.port, timeout=_ANSWER_S)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        return f"Daphne doesn't answer on {host}:{deployment.port}: {reason}."
    finally:
        connection.close()
    return f"Daphne answered {path} with {status}." if status >= 500 else None


def worker_problem(environ: Mapping[str, str]) -> str | None:
    """Why the worker isn't well, or ``None``.

    :raises ConfigurationError: when ``TRUNKLINE_HEALTH_FILE`` isn't set.
    """
    path = health_file(environ)
    if path is None:
        raise ConfigurationError("TRUNKLINE_HEALTH_FILE is empty; it takes the path that the worker was given, too.")
    try:
        age = time.time() - os.stat(path).st_mtime
    except OSError:
        return "The worker hasn't begun to listen, or has ended."
    if age > STALE_AFTER_S:
        return f"The worker's event loop hasn't turned for {age:.0f} s."
    return None
