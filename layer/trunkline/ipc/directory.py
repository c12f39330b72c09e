"""Where the store lies, and who may enter: paths, owners and permissions of its directories."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from trunkline.config import IPCOptions
from trunkline.errors import ConfigurationError, LayerUnavailable

SCHEMA = 2  # of keys and values in the store; another number is another directory, so that versions live side by side
SHARED_MEMORY = Path("/dev/shm")
_LONGEST_NAME = 200  # characters of a quoted prefix; file systems stop at 255


@dataclass(frozen=True)
class Home:
    """A prepared directory.

    :ivar path: holds the store and the doorbells of one prefix.
    :ivar file_mode: permission bits of the files in it.
    :ivar gid: the group they belong to, or ``-1`` for the process' own.
    """

    path: Path
    file_mode: int
    gid: int

    def adopt(self, descriptor: int) -> None:
        """Give a file that this process has just made the home's permissions, whatever the umask says."""
        os.fchmod(descriptor, self.file_mode)
        if self.gid != -1:
            os.fchown(descriptor, -1, self.gid)


def default_directory() -> Path:
    """A directory of this user's own: in shared memory where there is some, else among the temporary files."""
    base = SHARED_MEMORY
    if not (base.is_dir() and os.access(base, os.W_OK | os.X_OK)):
        base = Path(tempfile.gettempdir())
    return base / f"trunkline-{os.geteuid()}"


def home_path(options: IPCOptions) -> Path:
    """The directory of ``options.common.prefix``; nothing is looked at or made."""
    base = Path(options.directory) if options.directory is not None else default_directory()
    name = quote(options.common.prefix, safe="")
    if len(name) > _LONGEST_NAME:
        name = sha256(options.common.prefix.encode()).hexdigest()
    return base / f"{name}.v{SCHEMA}"


def prepare(options: IPCOptions) -> Home:
    """Make the directories that are missing and check the ones that are there.

    :raises ConfigurationError: if a directory belongs to somebody else, is a symbolic link, or is open to more users
        than ``mode`` says: its owner could read or forge every message.
    :raises LayerUnavailable: if a directory can't be made (no space, no such parent).
    """
    gid = _group_number(options.group)
    path = home_path(options)
    try:
        if not _make(path.parent, options.mode, gid):
            _check_base(path.parent, options, gid)
        if not _make(path, options.mode, gid):
            _check_own(path, options.mode, gid)
    except OSError as error:
        raise LayerUnavailable(
            f"The directory {str(path)!r} of the IPC channel layer can't be used: {error.strerror}; "
            "make room there, or name another directory in the option `directory`."
        ) from error
    return Home(path, options.mode & 0o666, gid)


def _group_number(group: str | int | None) -> int:
    if group is None:
        return -1
    if isinstance(group, int):
        return group
    import grp  # not on every platform

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"Option 'group' names a group of this machine, and there is no {group!r}.") from None


def _make(path: Path, mode: int, gid: int) -> bool:
    """Make a directory, in one step as far as others can see who may enter; returns whether it is new."""
    try:
        path.mkdir(0o700, parents=True)
    except FileExistsError:
        return False
    if gid != -1:
        os.chown(path, -1, gid)
    path.chmod(mode)
    return True


def _check_base(path: Path, options: IPCOptions, gid: int) -> None:
    """The directory around ours. A default one must be our own; one that the user named may be root's or sticky."""
    if options.directory is None:
        _check_own(path, options.mode, gid)
        return
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"Option 'directory' must name a directory, and {str(path)!r} is none.")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX and options.mode & 0o007 == 0:
        raise ConfigurationError(
            f"Option 'directory' names {str(path)!r}, which every user of this machine may write to; "
            "take a directory of the site's own."
        )


def _check_own(path: Path, mode: int, gid: int) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(
            f"{str(path)!r} is no directory but something that someone put in the IPC channel layer's place; "
            "remove it, or name another directory in the option `directory`."
        )
    mine = found.st_uid == os.geteuid()
    shared = gid != -1 and found.st_gid == gid
    if not (mine or shared):
        raise ConfigurationError(
            f"The directory {str(path)!r} belongs to user {found.st_uid}, not to this process' user {os.geteuid()}; "
            "name another one in the option `directory`, or share it by the options `group` and `mode`."
        )
    wider = stat.S_IMODE(found.st_mode) & 0o777 & ~mode
    if wider:
        if not mine:
            raise ConfigurationError(
                f"The directory {str(path)!r} is open to more users (mode {stat.S_IMODE(found.st_mode):04o}) than "
                f"the option 'mode' says ({mode:04o}); its owner, user {found.st_uid}, has to correct it."
            )
        path.chmod(mode)
