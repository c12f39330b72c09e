"""Doorbells: the FIFO that an event loop waits on, and ringing those of others.

A line in the pipe is the name of a channel that has something for a receiver of that loop; an empty line says that
the process' inbox has. An owner holds its FIFO open for reading as long as it lives, however it ends: a FIFO without
a reader is a dead owner's, which the operating system tells whoever opens it or writes to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from pathlib import Path

from trunkline.ipc.directory import Home

BELL_BYTES = 8  # random bytes that name a doorbell
SUFFIX = ".bell"
FIRST_READ_BYTES = 1024  # some names; a large buffer costs more than all the rest of a wake-up
READ_BYTES = 1 << 16  # what a pipe holds; if one holds more, its loop is called again
OPEN_BELLS = 256  # of others, kept open for the next ring: one for each event loop of the machine that listens
_F_GETPIPE_SZ = 1032  # Linux; Python 3.10's fcntl has it as F_GETPIPE_SZ only there
_WASTED_AT_MOST = 0.9  # a pipe counts as full when a page can't take one more name of 100 bytes, at 97 % or more


def bell_path(directory: Path, bell: bytes) -> Path:
    """Where the FIFO of ``bell`` lies."""
    return directory / (bell.hex() + SUFFIX)


class Doorbell:
    """A FIFO of our own.

    :ivar bell: its name.
    :ivar descriptor: readable when it was rung; non-blocking.
    """

    def __init__(self, home: Home) -> None:
        while True:
            self.bell = secrets.token_bytes(BELL_BYTES)
            self._path = bell_path(home.path, self.bell)
            os.mkfifo(self._path, 0o600)
            try:
                # Read and write: it never sees an end of file, and there is a reader from the first moment.
                self.descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:  # we were stopped for so long that somebody took it for a dead process' one
                continue
            break
        home.adopt(self.descriptor)
        try:
            size = fcntl.fcntl(self.descriptor, _F_GETPIPE_SZ)
        except OSError:
            size = 4096  # the least that any system gives
        self._nearly_full = int(size * _WASTED_AT_MOST)

    def __repr__(self) -> str:
        return f"<Doorbell {self.bell.hex()}{'' if self.descriptor >= 0 else ' closed'}>"

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:
            self.close()

    def listen(self) -> tuple[set[bytes], bool]:
        """Return the names that were rung for, and whether there may have been more than the pipe could hold."""
        try:
            lines = os.read(self.descriptor, FIRST_READ_BYTES)
            if len(lines) == FIRST_READ_BYTES:
                lines += self._read_on()
        except (BlockingIOError, InterruptedError):
            return set(), False
        return set(lines.split(b"\n")[:-1]), len(lines) >= self._nearly_full

    def _read_on(self) -> bytes:
        try:
            lines = os.read(self.descriptor, READ_BYTES)
            while lines[-1:] != b"\n":  # the rest of a name that was cut
                lines += os.read(self.descriptor, 1)
            return lines
        except BlockingIOError:  # the first read ended with a whole name
            return b""

    def lost(self) -> bool:
        """Whether its file is gone, so that nobody can ring any more."""
        try:
            return os.stat(self._path).st_ino != os.fstat(self.descriptor).st_ino
        except OSError:
            return True

    def close(self, *, unlink: bool = True) -> None:
        """Stop listening. In a forked child the parent's FIFO stays: ``unlink=False``."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            if unlink:
                self._path.unlink(missing_ok=True)
            os.close(descriptor)


class Ringer:
    """Rings doorbells, of whatever process. Not thread-safe: used while holding the store.

    :param directory: where the FIFOs lie.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[bytes, int] = {}

    def ring(self, bell: bytes, line: bytes) -> bool:
        """Write ``line``; returns whether the owner lives. A full pipe is fine: its owner then looks everywhere."""
        descriptor = self._open.get(bell)
        if descriptor is None:
            descriptor = self._enter(bell)
            if descriptor is None:
                return False
        try:
            os.write(descriptor, line + b"\n")
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._forget(bell)
            return False
        return True

    def lives(self, bell: bytes) -> bool:
        """Whether the owner of ``bell`` lives."""
        self._forget(bell)
        return self._enter(bell) is not None

    def close(self) -> None:
        """Close what is open."""
        for bell in list(self._open):
            self._forget(bell)

    def _enter(self, bell: bytes) -> int | None:
        try:
            descriptor = os.open(
                bell_path(self._directory, bell), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
            )
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):  # no reader: dead; no file: gone in order
                return None
            raise
        if len(self._open) >= OPEN_BELLS:
            self._forget(next(iter(self._open)))
        self._open[bell] = descriptor
        return descriptor

    def _forget(self, bell: bytes) -> None:
        descriptor = self._open.pop(bell, None)
        if descriptor is not None:
            os.close(descriptor)
