"""``make run`` as a real process, as a person starts it: in a terminal or without one."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from support.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 90.0  # the packages may have to be brought up to date first
END_DEADLINE_S = 30.0
MARK = "TRUNKLINE_TEST_MARK"
# What a developer's shell may hold and a test must not inherit.
FOREIGN = re.compile(r"REDIS_|CHANNEL_LAYERS_|TRUNKLINE_|DJANGO_|CHAT_|ASGI_|DATABASE_URL|MAKE")


class MakeRun:
    """One ``make run`` with a state directory and a port of its own.

    :param folder: where its state goes.
    :param terminal: give it a terminal of its own, whose end :meth:`type` and :meth:`hang_up` hold.
    :param port: 0 for a free one.
    :param environ: further variables.
    """

    def __init__(self, folder: Path, *, terminal: bool = False, port: int = 0, **environ: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mark = uuid.uuid4().hex
        self._chunks: list[bytes] = []
        self._sessions: set[int] = set()  # to which processes of this run belong, or did
        variables = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        variables |= {"TRUNKLINE_PORT": str(self.port), "TRUNKLINE_RUN_DIR": str(folder / "run"), MARK: self.mark}
        variables |= environ
        command = ["make", "--no-print-directory", "-C", str(ROOT), "run"]
        if terminal:
            pid, self._descriptor = pty.fork()
            if pid == 0:
                os.execvpe("make", command, variables)
            self.pid = pid
        else:
            self._descriptor, out = os.pipe()
            process = subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
            os.close(out)
            self.pid = process.pid
            self._process = process  # kept, so that nobody else reaps it
        self._code: int | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> MakeRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                self.ended()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.hang_up()

    @property
    def output(self) -> str:
        return b"".join(self._chunks).decode(errors="replace").replace("\r\n", "\n")

    def ready(self) -> MakeRun:
        """Wait for the line that says the address."""
        self.until(lambda: f"The chat answers at {self.url}/" in self.output, "address", START_DEADLINE_S)
        return self

    def until(self, true: Callable[[], object], what: str, deadline_s: float = END_DEADLINE_S) -> None:
        """Wait until ``true()``; no event tells of the many things that are waited for here, so it asks often."""
        end = time.monotonic() + deadline_s
        while not true():
            assert time.monotonic() < end, f"no {what} within {deadline_s:g} s; output:\n{self.output}"
            assert self.poll() is None or true(), f"ended with {self.poll()} before the {what}; output:\n{self.output}"
            time.sleep(0.05)

    def poll(self) -> int | None:
        """The exit code of make (negative: the signal that ended it), or ``None`` while it runs."""
        if self._code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def ended(self, deadline_s: float = END_DEADLINE_S) -> int:
        """Wait until make and every process that came from it have ended; returns make's exit code."""
        end = time.monotonic() + deadline_s
        while self.poll() is None or self.processes():
            assert time.monotonic() < end, f"still alive: {self.processes()}, {self.poll()}; output:\n{self.output}"
            time.sleep(0.05)
        assert self._code is not None
        return self._code

    def processes(self) -> dict[int, str]:
        """Command lines of the living processes that came from this run, by process id."""
        mark, found = f"{MARK}={self.mark}".encode(), {}
        for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
            with contextlib.suppress(OSError):
                session = os.getsid(pid)
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    self._sessions.add(session)
                elif session not in self._sessions:  # Redis overwrites its environment
                    continue
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def pids(self, word: str) -> list[int]:
        """Process ids of the processes whose command line has ``word``."""
        return sorted(pid for pid, command in self.processes().items() if word in command)

    def type(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def hang_up(self) -> None:
        """Close our end of its terminal or pipe."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._reader.join()
            os.close(descriptor)

    def _read(self) -> None:
        while (descriptor := self._descriptor) >= 0:
            try:
                # With a time limit, so that hang_up() never closes what is being read.
                if select.select([descriptor], [], [], 0.05)[0]:
                    data = os.read(descriptor, 65536)
                    if not data:
                        return
                    self._chunks.append(data)
            except (OSError, ValueError):
                return
