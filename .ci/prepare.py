#!/usr/bin/env python3
"""Makes ready what the commands of the Makefile need: a virtual environment with locked packages, system packages.

    prepare.py run     the packages that `make run` needs
    prepare.py test    those and the ones that `make test` and `make lint` need
    prepare.py bench   those and the ones that `make bench` and `make profile` need
    prepare.py system  Debian's packages: Chromium, Redis, venv

Runs on the system's Python with its standard library alone, and does nothing when everything is there already.
"""

import sys

if sys.version_info < (3, 10):  # before anything that an older Python can't read
    sys.exit(
        "Python 3.10 or newer is needed, this is %d.%d; name another with PYTHON=python3.11." % sys.version_info[:2]
    )

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = {"run": ROOT / "deploy" / "supervisor" / "requirements.txt", "test": ROOT / "tests" / "requirements.txt"}
MORE = {"bench": ROOT / "tests" / "benchmarks" / "requirements.txt"}  # on top of those for the tests
VENV_LINE = "apt-get install python3-venv (as root), or: make system-deps"


def main() -> int:
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    try:
        if what == "system":
            system()
        elif what in LOCKS:
            with alone():
                packages(what)
        elif what in MORE:
            with alone():
                packages("test")
                more_packages(what)
        else:
            print(__doc__)
            return 2
    except Trouble as exc:
        print(f"{exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


class Trouble(Exception):
    """One sentence for the person who typed the command."""


def say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two commands started together must not fill the environment at the same time."""
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / "prepare.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another command prepares the packages; waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- Python packages ---


def packages(what: str) -> None:
    wanted = {name: fingerprint(name) for name in LOCKS}
    # The packages for tests are those for the run and more, in the same versions.
    if any(stamp(name).exists() and stamp(name).read_text() == wanted[name] for name in {what, "test"}) and works():
        return
    begin = time.monotonic()
    if not works():
        make_environment()
    for name in LOCKS:
        stamp(name).unlink(missing_ok=True)
    count = sum("==" in line for line in LOCKS[what].read_text().splitlines())
    say(f"Installing up to {count} Python packages into .venv (only this time) ...")
    pip("install", "--require-hashes", "--no-compile", "--requirement", str(LOCKS[what]))
    # The build tools are locked packages too, so nothing unlocked is fetched here.
    pip("install", "--no-deps", "--no-build-isolation", "--no-compile", "--editable", str(ROOT / "layer"))
    stamp(what).write_text(wanted[what])
    say(f"The packages are ready ({time.monotonic() - begin:.1f} s).")


def more_packages(what: str) -> None:
    wanted = hashlib.sha256(MORE[what].read_bytes() + fingerprint("test").encode()).hexdigest()
    if stamp(what).exists() and stamp(what).read_text() == wanted:
        return
    count = sum("==" in line for line in MORE[what].read_text().splitlines())
    say(f"Installing up to {count} more Python packages into .venv (only this time) ...")
    pip("install", "--require-hashes", "--no-compile", "--requirement", str(MORE[what]))
    stamp(what).write_text(wanted)


def stamp(name: str) -> Path:
    return VENV / f"prepared-{name}"


def fingerprint(name: str) -> str:
    """Changes with the lock file, the distribution's metadata, the interpreter, and the place of the clone."""
    digest = hashlib.sha256()
    for part in (LOCKS[name].read_bytes(), (ROOT / "layer" / "pyproject.toml").read_bytes(), sys.version.encode()):
        digest.update(hashlib.sha256(part).digest())
    digest.update(os.fsencode(ROOT))
    return digest.hexdigest()


def works() -> bool:
    """Whether the environment exists, lives at this place, and its interpreter still starts."""
    activate = VENV / "bin" / "activate"
    if not PYTHON.exists() or not activate.exists() or str(VENV) not in activate.read_text(errors="replace"):
        return False
    return subprocess.run([str(PYTHON), "-c", "import pip"], capture_output=True).returncode == 0


def make_environment() -> None:
    say(f"Making the virtual environment .venv with Python {sys.version.split()[0]} ...")
    shutil.rmtree(VENV, ignore_errors=True)
    if importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None:
        command = [sys.executable, "-m", "venv", str(VENV)]
    elif importlib.util.find_spec("virtualenv") is not None:
        command = [sys.executable, "-m", "virtualenv", "--quiet", str(VENV)]
    else:
        raise Trouble(f"This Python can't make virtual environments: {VENV_LINE}.")
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0 or not works():
        # Debian's Python has the module but not what it needs.
        shutil.rmtree(VENV, ignore_errors=True)
        raise Trouble(
            f"The virtual environment could not be made: {VENV_LINE}.\n{answer.stdout}{answer.stderr}".strip()
        )


def pip(*arguments: str) -> None:
    """Run pip and show how far it is; its whole output only when it fails."""
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_REQUIRE_VIRTUALENV": "1"}
    process = subprocess.Popen(
        [str(PYTHON), "-m", "pip", *arguments, "--progress-bar", "off"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output, found = [], 0
    for line in process.stdout:
        output.append(line)
        if line.startswith("Collecting "):
            found += 1
            if sys.stdout.isatty():
                print(f"\r  {found:3} {line.split()[1].split('==')[0]:40.40}", end="", flush=True)
            elif found % 10 == 0:
                say(f"  {found} packages found")
        elif line.startswith("Installing collected"):
            if sys.stdout.isatty():
                print("\r" + " " * 50 + "\r", end="")
            if found:
                say(f"  {found} packages found, unpacking them ...")
    if process.wait() != 0:
        raise Trouble("".join(output[-40:]) + "pip failed; its last lines are above.")


# --- Debian's packages ---


def system() -> None:
    found = {
        "chromium": shutil.which("chromium"),
        "redis-server": shutil.which("redis-server"),
        "python3-venv": importlib.util.find_spec("ensurepip"),
    }
    missing = [name for name, there in found.items() if not there]
    if not missing:
        say(f"All system packages are there: {', '.join(found)}.")
        return
    if shutil.which("apt-get") is None:
        raise Trouble(f"Without apt-get, install these by hand: {', '.join(missing)}.")
    say(f"Installing {', '.join(missing)} ...")
    rights = [] if os.geteuid() == 0 else ["sudo"]
    if rights and shutil.which("sudo") is None:
        raise Trouble(f"As root: apt-get update && apt-get install --no-install-recommends {' '.join(missing)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        keep = ["env", "DEBIAN_FRONTEND=noninteractive"]  # sudo forgets the environment
        if subprocess.run([*rights, *keep, "apt-get", "-qq", *command], env=quiet).returncode != 0:
            raise Trouble(f"apt-get {command[0]} failed; its output is above.")


if __name__ == "__main__":
    sys.exit(main())
