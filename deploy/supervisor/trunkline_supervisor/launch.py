"""Runs supervisord on a plan, in the foreground, so that no process outlives this one.

Signals: SIGTERM, SIGINT and SIGHUP stop everything once; a second one doesn't wait for what is still running.
supervisord runs in a session of its own, so Ctrl-C in a terminal reaches only this process, and the others hear one
orderly SIGTERM. When this process is killed, the kernel tells supervisord (Linux).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from trunkline.serve.lifecycle import stop_grace
from trunkline_supervisor import fatal
from trunkline_supervisor.plan import Plan

__all__ = ["Stack", "end_with_parent"]

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OWN_S = 5  # that supervisord may take for itself beside its processes


class Stack:
    """The processes of ``plan``, from :meth:`run` until a stop signal or until one of them can't be kept running.

    :param environ: the variables that the processes get, beside the plan's own.
    :param directory: where the project lies; it is put on ``PYTHONPATH``.
    """

    def __init__(self, plan: Plan, environ: Mapping[str, str], directory: Path) -> None:
        self.plan = plan
        self.stopping = threading.Event()
        self.ended = threading.Event()
        self._environ = dict(environ)
        self._directory = directory
        self._supervisord: subprocess.Popen[bytes] | None = None
        self._stops = 0

    def run(self, started: Callable[[], object] | None = None) -> int:
        """Start everything, wait for the end, and return the exit code: 0 after a stop signal, else 1.

        :param started: called in a thread of its own as soon as supervisord runs.
        """
        previous = {number: signal.signal(number, self._hear) for number in _STOP_SIGNALS}
        state = tempfile.mkdtemp(prefix="trunkline-supervisor-")
        try:
            return self._run(state, started)
        finally:
            self.ended.set()
            shutil.rmtree(state, ignore_errors=True)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Begin the stop; said twice, kill what still runs."""
        self._stops += 1
        self.stopping.set()
        process = self._supervisord
        if process is None or process.returncode is not None:
            return
        if self._stops == 1:
            process.send_signal(signal.SIGTERM)
        else:
            self._kill_session(process.pid)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    def _run(self, state: str, started: Callable[[], object] | None) -> int:
        config = Path(state, "supervisord.conf")
        config.write_text(self.plan.config(state, root=os.geteuid() == 0), encoding="utf-8")
        paths = [str(Path(__file__).parents[1]), str(self._directory), self._environ.get("PYTHONPATH", "")]
        environ = {
            **self._environ,
            **self.plan.environment(state),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--configuration", str(config)],
            cwd=self._directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            # A pipe and not our own output: it can always be opened again by its name /dev/fd/1, whoever owns ours.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self._supervisord = process
        if self._stops:  # heard between the handlers and this line
            process.send_signal(signal.SIGTERM)
        relay = threading.Thread(target=self._relay, args=(process,), daemon=True)
        relay.start()
        if started is not None:
            threading.Thread(target=started, daemon=True).start()
        watch = threading.Thread(target=self._insist, args=(process,), daemon=True)
        watch.start()
        code = self._reap(process)
        self._kill_session(process.pid)
        relay.join(5)
        culprit = Path(state, fatal.FILE)
        if culprit.exists():
            print(f"{culprit.read_text()} could not be kept running; its output is above.", file=sys.stderr, flush=True)
            return 1
        if not self.stopping.is_set():
            print(f"supervisord ended by itself with code {code}.", file=sys.stderr, flush=True)
            return 1
        return 0

    def _insist(self, process: subprocess.Popen[bytes]) -> None:
        """Kill everything when the stop takes longer than it may."""
        self.stopping.wait()
        if not self.ended.wait(stop_grace(self.plan.deployment.drain_s) + _OWN_S):
            self._kill_session(process.pid)

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        while data := os.read(descriptor, 65536):
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except (OSError, ValueError):
                continue  # the terminal is gone: go on reading, so that no process blocks on its log

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for supervisord; as process 1, also for whatever the kernel hands down to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return process.returncode or 0
            if pid == process.pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode

    @staticmethod
    def _kill_session(session: int) -> None:
        """SIGKILL what is left of supervisord's session; its processes have groups of their own (Linux)."""
        proc = Path("/proc")
        for entry in proc.iterdir() if proc.is_dir() else ():
            if entry.name.isdigit():
                try:
                    if os.getsid(int(entry.name)) == session:
                        os.kill(int(entry.name), signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent process dies, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
