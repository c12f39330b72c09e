#!/usr/bin/env python3
"""Makes Docker ready: the engine, Compose 2 and buildx from Debian's packages, and an engine that answers.

    docker.py up      install what is missing (as root) and start an engine where none answers
    docker.py down    stop the engine that `up` started; one that somebody else started is left alone
    docker.py status  say what is there

Runs on the system's Python with its standard library alone. Where everything is there already it changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "deploy" / "image"))

from debian import SUITE, Trouble, apt_install, candidate, rights, unpack  # noqa: E402

STATE = ROOT / ".run" / "docker"  # the engine's log, and which process it is
PLUGINS = Path("/usr/local/lib/docker/cli-plugins")  # where the client looks for what no package put there
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 60.0  # containers get 10 s of their own
PLUGIN_PACKAGES = {"compose": "docker-compose", "buildx": "docker-buildx"}


def main() -> int:
    actions = {"up": up, "down": down, "status": status}
    action = actions.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if action is None:
        print(__doc__)
        return 2
    try:
        with alone():
            action()
    except Trouble as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def up() -> None:
    if not answers() and shutil.which("dockerd") is None and not Path("/usr/sbin/dockerd").exists():
        # Debian has the client in a package of its own since trixie.
        names = ["docker.io", "iptables", *(["docker-cli"] if candidate("docker-cli") else [])]
        apt_install(names)
    if shutil.which("docker") is None:
        apt_install(["docker-cli" if candidate("docker-cli") else "docker.io"])
    missing = [package for plugin, package in PLUGIN_PACKAGES.items() if not plugin_works(plugin)]
    if missing:
        install_plugins(missing)
    for plugin in PLUGIN_PACKAGES:
        if not plugin_works(plugin):
            raise Trouble(f"`docker {plugin} version` still fails; install Docker's {plugin} plugin by hand.")
    if not answers():
        start_engine()
    status()


def down() -> None:
    pid = our_engine()
    if pid is None:
        print("No engine of ours runs; nothing to stop.", flush=True)
        return
    print(f"Stopping the engine (process {pid}) ...", flush=True)
    subprocess.run([*rights(), "kill", "-TERM", str(pid)])
    end = time.monotonic() + STOP_DEADLINE_S
    while our_engine() is not None:
        if time.monotonic() > end:
            raise Trouble(f"The engine (process {pid}) did not end within {STOP_DEADLINE_S:g} s; see {STATE}/log.")
        time.sleep(0.1)
    (STATE / "process").unlink(missing_ok=True)


def status() -> None:
    version = output("docker", "version", "--format", "{{.Server.Version}}") if answers() else ""
    parts = [f"Docker engine {version}" if version else "no Docker engine answers"]
    for plugin in PLUGIN_PACKAGES:
        # `buildx version` has the version as its second word and takes no --short.
        found = re.search(r"\bv?(\d+\.\d[\w.+~-]*)", output("docker", plugin, "version"))
        parts.append(f"{plugin} {found[1]}" if found else f"no {plugin}")
    pid = our_engine()
    print(", ".join(parts) + (f"; the engine is ours, process {pid}." if pid else "."), flush=True)


# --- packages ---


def install_plugins(packages: list[str]) -> None:
    """From this Debian's packages, or where they are too old, the programs out of the next Debian's."""
    own = [name for name in packages if re.match(r"(\d+:)?(2|\d\d)", candidate(name)) or "buildx" in name]
    own = [name for name in own if candidate(name)]
    if own:
        apt_install(own)
    foreign = [name for name in packages if name not in own]
    if not foreign:
        return
    print(f"Taking {', '.join(foreign)} out of Debian {SUITE}'s packages into {PLUGINS} ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="trunkline-apt-") as name:
        files = unpack(foreign, Path(name))
        programs = [path for path in files.rglob("cli-plugins/docker-*") if path.is_file()]
        subprocess.run([*rights(), "mkdir", "-p", str(PLUGINS)], check=True)
        subprocess.run([*rights(), "install", "-m", "755", *map(str, programs), str(PLUGINS)], check=True)


def plugin_works(plugin: str) -> bool:
    return bool(output("docker", plugin, "version"))


# --- the engine ---


def answers() -> bool:
    return bool(output("docker", "version", "--format", "{{.Server.Version}}"))


def start_engine() -> None:
    if os.environ.get("DOCKER_HOST"):
        raise Trouble("DOCKER_HOST is set and no engine answers there; unset it to have one started here.")
    STATE.mkdir(parents=True, exist_ok=True)
    log = STATE / "log"
    program = shutil.which("dockerd") or "/usr/sbin/dockerd"
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    print(f"No Docker engine answers: starting {program}; its log is {log.relative_to(ROOT)} ...", flush=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*rights(), program, "--storage-driver=overlay2"],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, "PATH": path},
            start_new_session=True,  # Ctrl-C in this terminal is not for it
        )
    end = time.monotonic() + START_DEADLINE_S
    while not answers():
        if process.poll() is not None or time.monotonic() > end:
            what = "ended" if process.poll() is not None else f"didn't answer within {START_DEADLINE_S:g} s"
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            raise Trouble(f"{log.read_text(errors='replace')[-3000:]}\nThe engine {what}; the end of its log is above.")
        time.sleep(0.1)
    (STATE / "process").write_text(f"{process.pid} {birth(process.pid)}")


def our_engine() -> int | None:
    """The process id of the engine that `up` started, if it still runs."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid, born = (STATE / "process").read_text().split()
        if birth(int(pid)) == born:
            return int(pid)
    return None


def birth(pid: int) -> str:
    """When the process began, in the kernel's ticks: a process id is used again, this isn't; empty if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


# --- helpers ---


def output(*command: str) -> str:
    """What the command prints, or nothing if it fails or isn't there."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two commands started together must not install the same thing."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
