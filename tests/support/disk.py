"""A small file system that really gets full."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.requirements import need


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A tmpfs of this size; needs root."""
    need("root", os.geteuid() == 0, "a file system is mounted; run this test as root")
    with tempfile.TemporaryDirectory(prefix="trunkline-disk-") as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", directory], capture_output=True, text=True
        )
        need("a mount of tmpfs", mounted.returncode == 0, f"run as root outside a container; {mounted.stderr.strip()}")
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


def fill_up(directory: Path) -> Path:
    """Write until the file system is full; removing the returned file makes room again."""
    ballast = directory / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return ballast
