"""One `manage.py runworker` of tests/integration/worker_project as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync

from support.servers import RedisServer
from trunkline import RedisChannelLayer

HERE = Path(__file__).parents[1] / "integration"
START_DEADLINE_S = 30.0  # an interpreter that imports Django on a busy machine
DEADLINE_S = 15.0
DATABASE_FREE = {"DJANGO_SETTINGS_MODULE": "worker_project.settings"}


class WorkerProcess:
    """One `runworker`, with its diary and its output."""

    def __init__(self, folder: Path, redis: RedisServer, *arguments: str, wrap: tuple[str, ...] = (), **environ: str):
        self.diary = folder / f"diary-{uuid.uuid4().hex}"
        self.diary.touch()
        self.log = folder / f"log-{uuid.uuid4().hex}"
        self.config = {"hosts": [redis.url], "prefix": f"test-{folder.name}"}
        environment = {
            **os.environ,
            **DATABASE_FREE,
            "PYTHONPATH": str(HERE),
            "CHANNEL_LAYERS_BACKEND": "trunkline.RedisChannelLayer",
            "CHANNEL_LAYERS_CONFIG": json.dumps(self.config),
            "WORKER_PROJECT_DIARY": str(self.diary),
            **environ,
        }
        command = [*wrap, sys.executable, "-m", "django", "runworker", *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def notes(self) -> list[str]:
        return self.diary.read_text().splitlines()

    def until(self, true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        end = time.monotonic() + deadline_s
        while not true():
            assert time.monotonic() < end, f"no {what} within {deadline_s} s; output:\n{self.output}"
            assert self.process.poll() is None or true(), f"ended with {self.process.poll()}; output:\n{self.output}"
            time.sleep(0.02)

    def ready(self) -> WorkerProcess:
        self.until(lambda: "listens on" in self.output, "sign of life", START_DEADLINE_S)
        return self

    def send(self, channel: str, **message: Any) -> None:
        async def send() -> None:
            layer = RedisChannelLayer(**self.config)
            try:
                await layer.send(channel, message)
            finally:
                await layer.close()

        async_to_sync(send)()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Exit code, and seconds from the signal to the end."""
        begin = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        return code, time.monotonic() - begin

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
