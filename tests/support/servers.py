"""Real Redis servers for tests: each on a free loopback port, in a directory of its own, always ended."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from support.flavours import INSTALL_LINE, Flavour, identity, redis_binary
from support.requirements import need

START_DEADLINE_S = 15.0  # a cold start on a busy two-core machine takes well under one second
STOP_DEADLINE_S = 5.0


def free_port() -> int:
    """A loopback TCP port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def free_cluster_port() -> int:
    """A free port for a server in cluster mode, which takes the one 10,000 above it too."""
    while True:
        port = free_port()
        with socket.socket() as bus, contextlib.suppress(OSError, OverflowError):
            bus.bind(("127.0.0.1", port + 10_000))
            return port


class RedisServer:
    """One redis-server process that the test owns, as a context manager.

    :param port: the port to listen on; 0 takes a free one, and every later start takes the same again.
    :param directory: where its files live; ``None`` makes a temporary one that goes with the server. Data survive
        ``stop()`` and ``start()`` only where ``conf`` turns persistence on (``appendonly="yes"``).
    :param flavour: which product and version; ``None`` for the one of this machine.
    :param conf: further settings, ``_`` for ``-`` (``maxmemory_policy="noeviction"``).
    """

    def __init__(
        self, port: int = 0, *, directory: Path | None = None, flavour: Flavour | None = None, **conf: str | int
    ) -> None:
        self._flavour = flavour
        self.port = port or (free_cluster_port() if conf.get("cluster_enabled") == "yes" else free_port())
        self._own_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="trunkline-redis-"))
        self.settings = {
            "save": "",
            "appendonly": "no",
            **{key.replace("_", "-"): value for key, value in conf.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"process {self._process.pid}"
        return f"<RedisServer {self.url} {state}>"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, **conf: str | int) -> None:
        """Start, and return once it answers a PING.

        :param conf: settings for this start and all later ones.
        :raises RuntimeError: when it ends or stays silent; the message carries the end of its log.
        """
        assert self._process is None, "the server is already running"
        self.settings.update({key.replace("_", "-"): value for key, value in conf.items()})
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > end:
                what = "ended at its start" if ended else f"did not answer within {START_DEADLINE_S:g} s"
                self.kill()
                raise RuntimeError(f"redis-server {what}: {self._log_end()}")
            time.sleep(0.01)  # between two looks at the port

    def _command(self) -> list[str]:
        command = self._program()
        every = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory, "logfile": self._log, **self.settings}
        for key, value in every.items():
            command += [f"--{key}", str(value)]
        return command

    def stop(self) -> None:
        """End it politely (SIGTERM), and return once the process is gone."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_DEADLINE_S)
        self._process = None

    def kill(self) -> None:
        """End it with SIGKILL, and return once the process is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(STOP_DEADLINE_S)
        self._process = None

    def restart_empty(self) -> None:
        """Kill it, forget its data, and start it again on the same port."""
        self.kill()
        self.forget()
        self.start()

    def forget(self) -> None:
        """Remove the data files of a stopped server."""
        assert self._process is None, "the server is running"
        for path in self.directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self._log:
                path.unlink()

    def pause(self) -> None:
        """Stop the process without closing a connection (SIGSTOP): a hung server."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process run on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its temporary directory."""
        self.stop()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def client(self) -> redis.Redis:
        """A new plain client of this server, for the test's own looks at it; close it after use."""
        return redis.Redis(port=self.port, host="127.0.0.1", socket_timeout=5, decode_responses=True, protocol=2)

    def connections(self) -> list[dict[str, Any]]:
        """The server's client connections (CLIENT LIST), without the one that asks."""
        with self.client() as client:
            own = client.client_id()
            return [entry for entry in client.client_list() if int(entry["id"]) != own]

    def identity(self) -> tuple[str, str]:
        """The product and the full version that runs, as the server says itself."""
        with self.client() as client:
            return identity(client)

    def _program(self) -> list[str]:
        if self._flavour is not None:
            return list(self._flavour.command())
        found = redis_binary()
        need("redis-server", found, INSTALL_LINE)
        assert found is not None
        return [found]

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is stopped"
        self._process.send_signal(number)

    @property
    def _log(self) -> Path:
        return self.directory / "redis.log"

    def _log_end(self) -> str:
        return self._log.read_text(errors="replace")[-600:] if self._log.exists() else "no log was written"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
