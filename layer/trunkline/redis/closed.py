"""Event loops that were closed without a word, with tasks of ours in them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

_OURS = Path(__file__).parent


def finalize(loop: asyncio.AbstractEventLoop) -> None:
    """End the layer's own tasks of a closed loop, now and silently, rather than when the collector finds them."""
    ours = [task for task in asyncio.all_tasks(loop) if _is_ours(task)]
    for task in ours:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    for task in ours:
        for _ in range(10):
            try:
                task.get_coro().close()
                break
            except Exception:  # it asked for the closed loop, or waits for something in its clean-up
                continue


def _is_ours(task: asyncio.Task[Any]) -> bool:
    coroutine = task.get_coro()
    code = getattr(coroutine, "cr_code", None)
    if code is not None and Path(code.co_filename).parent == _OURS:
        return True
    return (
        getattr(coroutine, "__qualname__", "") == "AbstractConnection.connect"
    )  # redis-py's; Wire.connect makes it a task
