"""``make run``: the chat example on this machine, in the foreground, with nothing to install but Python packages."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from trunkline.env import channel_layers_from_env
from trunkline.errors import ConfigurationError
from trunkline_supervisor.launch import Stack, end_with_parent
from trunkline_supervisor.plan import Plan, plan_from

ROOT = Path(__file__).resolve().parents[3]
PROJECT = ROOT / "examples" / "chat"
# Ignored by git: the lock, the example's database and key, its collected static files.
RUN = Path(os.environ.get("TRUNKLINE_RUN_DIR") or ROOT / ".run").absolute()
ANSWER_DEADLINE_S = 60.0
LAYER_VARIABLES = ("REDIS_URL", "CHANNEL_LAYERS_BACKEND", "CHANNEL_LAYERS_CONFIG", "CHANNEL_LAYERS_CONFIG_FILE")


class Refusal(Exception):
    """One sentence for the person who typed ``make run``."""


def main() -> int:
    begin = time.monotonic()
    parent = os.getppid()
    end_with_parent()  # make was killed: so are we asked to end
    if os.getppid() != parent:
        return 1
    try:
        with own_terminal(), single_run() as note:
            environ = environment(os.environ, RUN)
            plan = plan_from(environ)
            # Commands that run before the processes judge the same settings; they send nothing, so that the local
            # Redis needn't be there yet.
            before = {**environ, **plan.environment(tempfile.gettempdir())}
            layer = channel_layers_from_env(before)["default"]["BACKEND"]
            refuse_taken_port(plan)
            note.write_text(f"process {os.getpid()}, {address(plan)}")
            prepare(before)
            with ipc_directory(environ):
                stack = Stack(plan, environ, PROJECT)
                code = stack.run(lambda: announce(stack, plan, str(layer), begin))
    except (Refusal, ConfigurationError) as exc:
        print(f"make run: {exc}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 0
    if code == 0:
        say("All processes have ended.")
    return code


def say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        print(text, flush=True)


def environment(given: Mapping[str, str], run: Path) -> dict[str, str]:
    """The variables of the stack: what was given, and the embedded defaults for the rest."""
    environ = dict(given)
    environ.setdefault("ASGI_PROCESSES", "2")
    environ.setdefault("TRUNKLINE_WORKER_CHANNELS", "thumbnail")
    environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"
    environ["ASGI_APPLICATION"] = "chatsite.asgi:application"
    environ.setdefault("CHAT_DATA_DIR", str(run / "data"))
    environ.setdefault("DJANGO_STATIC_ROOT", str(run / "static"))
    local_redis = environ.get("TRUNKLINE_LOCAL_REDIS", "").strip().lower() not in ("", "0", "false", "no", "off")
    if not local_redis and not any(environ.get(name, "").strip() for name in LAYER_VARIABLES):
        environ["CHANNEL_LAYERS_BACKEND"] = "trunkline.IPCChannelLayer"
        if not environ.get("TRUNKLINE_IPC_DIR", "").strip():
            environ["TRUNKLINE_IPC_DIR"] = str(own_ipc_directory(run))
    bind = environ.get("TRUNKLINE_BIND", "").strip()
    if bind and not bind.startswith("127.") and bind != "localhost" and "DJANGO_ALLOWED_HOSTS" not in environ:
        # Whoever binds beyond this machine wants to be visited by the names that it has there.
        names = ["localhost", "127.0.0.1", "[::1]", socket.gethostname(), outward_address()]
        environ["DJANGO_ALLOWED_HOSTS"] = ",".join(dict.fromkeys([*names, *([] if bind == "0.0.0.0" else [bind])]))
    return environ


def own_ipc_directory(run: Path) -> Path:
    """A directory for this clone and user alone, in memory where the system has such a place."""
    shared = Path("/dev/shm")
    base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"trunkline-run-{os.geteuid()}-{hashlib.sha256(os.fsencode(run)).hexdigest()[:12]}"


def outward_address() -> str:
    """The address that other machines reach this one by, as far as the routing table tells; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@contextlib.contextmanager
def ipc_directory(environ: Mapping[str, str]) -> Iterator[None]:
    """Leave nothing behind of a directory that is this clone's own."""
    own = own_ipc_directory(RUN)
    try:
        yield
    finally:
        if environ.get("TRUNKLINE_IPC_DIR") == str(own):
            shutil.rmtree(own, ignore_errors=True)


@contextlib.contextmanager
def single_run() -> Iterator[Path]:
    """Hold this clone's lock; yields the file in which to say who holds it. The kernel frees it with the process."""
    RUN.mkdir(parents=True, exist_ok=True)
    note = RUN / "running"
    with (RUN / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = note.read_text() if note.exists() else "it is just starting"
            raise Refusal(f"it runs in this clone already ({who}); stop that one with Ctrl-C first.") from None
        note.unlink(missing_ok=True)
        try:
            yield note
        finally:
            note.unlink(missing_ok=True)


@contextlib.contextmanager
def own_terminal() -> Iterator[None]:
    """Make this process the one that Ctrl-C reaches: make would end with an error although all went well."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield  # no terminal
        return
    before = os.getpgrp()
    over, tell_over = os.pipe()
    watch = threading.Thread(target=raise_hang_up, args=(terminal, over), daemon=True)
    watch.start()
    try:
        if os.tcgetpgrp(terminal) != before or before == os.getpid():
            yield  # in the background, or the leader already
            return
        # Taking the terminal from the background would stop us.
        previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpid())
        # The shell waits for make's group and would never learn that Ctrl-Z stopped this one.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, before)
            signal.signal(signal.SIGTTOU, previous)
    finally:
        os.close(tell_over)
        watch.join()
        os.close(over)
        os.close(terminal)


def raise_hang_up(terminal: int, over: int) -> None:
    """Send this process a SIGHUP when its terminal dies; ends with ``over``, the reading end of a pipe.

    The kernel tells the session's leader alone, and where that is make (``ssh -t host make run``), it waits for us.
    """
    poll = select.poll()
    poll.register(terminal, 0)  # hang-ups are told without being asked for
    poll.register(over, select.POLLIN)
    if any(descriptor == terminal for descriptor, _ in poll.poll()):
        os.kill(os.getpid(), signal.SIGHUP)


def address(plan: Plan) -> str:
    deployment = plan.deployment
    host = {"0.0.0.0": "127.0.0.1"}.get(deployment.bind, deployment.bind)
    return f"http://{host}:{deployment.port}/"


def refuse_taken_port(plan: Plan) -> None:
    bind, port = plan.deployment.bind, plan.deployment.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
            probe.listen(1)
        except PermissionError:
            raise Refusal(f"port {port} needs more rights; TRUNKLINE_PORT=8000 make run takes another.") from None
        except OSError as exc:
            if exc.errno not in (48, 98):  # address in use, on BSD and on Linux
                raise Refusal(f"TRUNKLINE_BIND={bind} can't be listened on: {exc.strerror}.") from None
            other = port + 1 if port < 65535 else 8000
            raise Refusal(
                f"port {port} of {bind} is taken by another program; TRUNKLINE_PORT={other} make run takes another."
            ) from None


def prepare(environ: Mapping[str, str]) -> None:
    """Bring the database and the static files up to date, side by side."""
    say("Preparing the database and the static files ...")
    commands = (["migrate", "--noinput", "--verbosity=0"], ["collectstatic", "--noinput", "--verbosity=0"])
    # Made here, because two processes that make the same directory or key are slower than one.
    Path(environ["CHAT_DATA_DIR"]).mkdir(parents=True, exist_ok=True)
    running = [
        subprocess.Popen(
            [sys.executable, "manage.py", *command],
            cwd=PROJECT,
            env=dict(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=end_with_parent,
        )
        for command in commands
    ]
    for process, command in zip(running, commands, strict=True):
        output, _ = process.communicate()
        if process.returncode:
            say(output)
            raise Refusal(f"manage.py {command[0]} failed; its output is above.")


def announce(stack: Stack, plan: Plan, layer: str, begin: float) -> None:
    """Say the address once the page answers."""
    probe = address(plan)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + ANSWER_DEADLINE_S
    problem = "no answer"
    while not stack.ended.is_set() and not stack.stopping.is_set():
        try:
            with opener.open(probe, timeout=5) as answer:
                answer.read()
            break
        except urllib.error.HTTPError as exc:
            problem = f"status {exc.code}"
        except OSError as exc:
            problem = str(exc)
        if time.monotonic() > deadline:
            say(f"make run: {probe} doesn't answer ({problem}); see the log above.")
            return
        stack.stopping.wait(0.1)
    else:
        return
    workers = sum(pool.count for pool in plan.deployment.pools)
    parts = f"{plan.deployment.processes} Daphne process{'es' * (plan.deployment.processes != 1)}"
    if workers:
        parts += f" and {workers} worker{'s' * (workers != 1)}"
    line = "─" * 64
    say(
        f"{line}\n  The chat answers at {probe}   ({time.monotonic() - begin:.1f} s)\n"
        f"  {parts} talk through {layer}.\n  Ctrl-C ends them all.\n{line}"
    )


if __name__ == "__main__":
    sys.exit(main())
