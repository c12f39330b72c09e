"""The LMDB environment: opened once per process, renewed after a fork, and its errors in our words.

Write transactions only. LMDB lets one process write at a time, with a mutex in shared memory that survives its
holder's death; without readers a freed page can be used again at once, and nobody's crash can keep pages busy.

LMDB writes through its map (``writemap``, which halves the time that the mutex is held), and a page of a sparse file
that a full file system can't provide would be SIGBUS. So the file is never sparse and the map never larger than it:
both begin small and grow together, by ``posix_fallocate``, which fails in order. Invariant, kept under a file lock
while anybody opens or grows: size of the file = what is allocated of it >= every process' map.

LMDB's file locks are POSIX ones, which belong to a process and vanish with *any* descriptor of the file that it
closes: that is why there is one environment per process and directory, whatever the number of layer objects, and why
a child closes the inherited one before it opens its own (a child's closing does not touch its parent's locks).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from trunkline.config import IPCOptions
from trunkline.errors import LayerUnavailable
from trunkline.ipc.directory import Home, prepare
from trunkline.ipc.doorbell import Ringer
from trunkline.ipc.keys import BOOT

logger = logging.getLogger("trunkline")

T = TypeVar("T")

LOCK_BYTES = 8192  # LMDB's lock file for 126 reader slots; ours is this large before LMDB maps it
READER_SLOTS = 126  # LMDB's default; opening needs one for a moment
FIRST_BYTES = 1024 * 1024  # of the map; it doubles as needed, up to the option `size`
HEADROOM = 8  # one part in so many of the map is for receiving and tidying up, never for new messages
PAGE_BYTES = 4096
MOST_TRIES = 20  # of one transaction: the map may have to double a few times for it
UNCHECKED_BYTES = 1024  # smaller messages look at the room that is left only now and then
UNCHECKED_SENDS = 16

_DATA, _LOCK = "data.mdb", "lock.mdb"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StoreFull(LayerUnavailable):
    """There is no room in the store, or none in the file system that it lies in."""


class _NeedsRoom(Exception):
    """The map has to grow by at least ``args[0]`` bytes."""


class Environment:
    """One store as this process sees it; for any thread.

    :ivar ringer: to be used inside ``write`` only.
    :ivar generation: another number whenever the store was opened anew.
    """

    def __init__(self, options: IPCOptions) -> None:
        self._options = options
        self._env: Any = None
        self._directory_lock = -1
        self._data = -1  # descriptor of the data file: to lock and to grow it
        self._map_size = 0
        self._unchecked = 0
        self.generation = 0
        self.users = 0
        self.lock = threading.Lock()
        self.home: Home = prepare(options)
        self.ringer = Ringer(self.home.path)

    def __repr__(self) -> str:
        return f"<Environment {self.home.path} {'open' if self._env else 'closed'}>"

    def write(self, operation: Callable[..., T], *args: Any) -> T:
        """Run ``operation(transaction, *args)`` and commit; what it raises rolls back.

        :raises StoreFull: if there is no room.
        :raises LayerUnavailable: if the store can't be used.
        """
        with self.lock:
            tries = MOST_TRIES
            while True:
                tries -= 1
                txn: Any = None
                try:
                    if self._env is None:
                        self._open()
                    txn = self._env.begin(write=True)
                    result = operation(txn, *args)
                    txn.commit()
                    return result
                except _NeedsRoom as need:
                    txn.abort()
                    self._grow(need.args[0])
                except lmdb.Error as error:
                    if txn is not None:
                        txn.abort()
                    if not tries or not self._recover(error):
                        raise self._in_our_words(error) from error
                except BaseException:
                    if txn is not None:
                        txn.abort()
                    raise

    def check_room(self, txn: Any, size: int) -> None:
        """Called inside ``write`` with what brings ``size`` bytes: have the map grown if it would eat the headroom."""
        if size < UNCHECKED_BYTES:
            self._unchecked += 1
            if self._unchecked < UNCHECKED_SENDS:
                return
        self._unchecked = 0
        used = txn.stat()
        pages = used["branch_pages"] + used["leaf_pages"] + used["overflow_pages"]
        if pages * PAGE_BYTES > self._map_size * (HEADROOM - 1) // HEADROOM:
            raise _NeedsRoom(size)

    def verify(self) -> None:
        """Let go of a store whose file somebody removed, so that it is made anew; cheap, for every second or so."""
        with self.lock:
            if self._env is not None:
                try:
                    if os.path.samestat(os.stat(self.home.path / _DATA), os.fstat(self._data)):
                        self._env.reader_check()
                        return
                except OSError:
                    pass
                logger.warning("The IPC store %s was removed while in use; it is made anew.", self.home.path)
                self._close()

    def guard(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that makes files, with the same errors as ``write``."""
        try:
            return function(*args)
        except OSError as error:
            raise self._cannot(error) from error

    def close(self) -> None:
        """Close it; the next ``write`` opens it again."""
        with self.lock:
            self._close()

    # -- inner workings, called with the lock held

    def _open(self) -> None:
        self.home = prepare(self._options)
        try:
            self._directory_lock = os.open(self.home.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._directory_lock, fcntl.LOCK_SH)
            try:
                self._open_files()
            except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError, lmdb.IncompatibleError) as error:
                self._set_aside(error)
                self._open_files()
            self._env.reader_check()
            self._forget_other_boots()
        except lmdb.Error as error:
            self._close()
            raise self._in_our_words(error) from error
        except OSError as error:
            self._close()
            raise self._cannot(error) from error
        except BaseException:
            self._close()
            raise
        self.generation += 1

    def _open_files(self) -> None:
        self._data = self._make_file(_DATA)
        fcntl.flock(self._data, fcntl.LOCK_EX)
        try:
            lock = self._make_file(_LOCK)  # LMDB writes this one through a map too
            try:
                _allocate(lock, LOCK_BYTES)
            finally:
                os.close(lock)
            size = os.fstat(self._data).st_size
            new = not size
            self._map_size = size or min(FIRST_BYTES, self._options.size)
            self._env = self._open_lmdb()  # makes a new file, sparse: its first two pages are written, not mapped
            try:
                _allocate(self._data, self._map_size)
            except OSError:
                self._env.close()
                self._env = None
                if new:
                    os.ftruncate(self._data, 0)
                raise
        finally:
            fcntl.flock(self._data, fcntl.LOCK_UN)

    def _make_file(self, name: str) -> int:
        path = self.home.path / name
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return os.open(path, flags)
        self.home.adopt(descriptor)
        return descriptor

    def _grow(self, need: int) -> None:
        """Make the map larger, or adopt a larger one that another process has made.

        :raises StoreFull: if the option `size` or the file system does not allow it.
        """
        fcntl.flock(self._data, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._data).st_size
            if size <= self._map_size:
                size = min(max(2 * self._map_size, self._map_size + 2 * need), self._options.size)
                size -= size % PAGE_BYTES
                if size <= self._map_size:
                    raise StoreFull(self._map_full())
                _allocate(self._data, size)
            self._env.set_mapsize(size)
            self._map_size = size
        except StoreFull:
            raise
        except OSError as error:
            raise self._cannot(error) from error
        finally:
            fcntl.flock(self._data, fcntl.LOCK_UN)

    def _open_lmdb(self) -> Any:
        return lmdb.open(
            str(self.home.path),
            map_size=self._map_size,
            mode=self.home.file_mode,
            sync=False,  # memory: what a crash of the machine loses is lost anyway
            metasync=False,
            lock=True,
            writemap=True,
            readahead=False,
            meminit=False,
            max_readers=READER_SLOTS,
            max_spare_txns=0,
        )

    def _set_aside(self, error: lmdb.Error) -> None:
        """Remove a store that LMDB can't read, if nobody uses it."""
        try:
            fcntl.flock(self._directory_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LayerUnavailable(
                f"The IPC store {str(self.home.path)!r} is damaged ({error}) and other processes use it; "
                "stop them, and it is made anew."
            ) from error
        logger.warning("The IPC store %s was damaged (%s); it is made anew.", self.home.path, error)
        os.close(self._data)
        self._data = -1
        for name in (_DATA, _LOCK):
            (self.home.path / name).unlink(missing_ok=True)
        fcntl.flock(self._directory_lock, fcntl.LOCK_SH)

    def _forget_other_boots(self) -> None:
        """Empty a store that another boot wrote (on a disk): its times mean nothing, its processes are gone."""
        try:
            boot = _BOOT_ID.read_bytes().strip()
        except OSError:  # no Linux: the store is as old as the files in the temporary directory
            boot = b"unknown"
        with self._env.begin(write=True) as txn:
            if txn.get(BOOT) != boot:
                txn.drop(self._env.open_db(None, txn=txn), delete=False)
                txn.put(BOOT, boot)

    def _recover(self, error: lmdb.Error) -> bool:
        """Do what can be done about an error; returns whether to try again."""
        if isinstance(error, (lmdb.MapFullError, lmdb.MapResizedError)):
            self._grow(0)
            return True
        if isinstance(error, (lmdb.PanicError, lmdb.InvalidError, lmdb.CorruptedError)):
            self._close()
            return True
        return False

    def _in_our_words(self, error: lmdb.Error) -> LayerUnavailable:
        if isinstance(error, (lmdb.MapFullError, lmdb.TxnFullError)):
            return StoreFull(self._map_full())
        if os.strerror(errno.ENOSPC) in str(error):
            return StoreFull(self._file_system_full())
        return LayerUnavailable(f"The IPC store {str(self.home.path)!r} can't be used: {error}.")

    def _cannot(self, error: OSError) -> LayerUnavailable:
        if isinstance(error, LayerUnavailable):
            return error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreFull(self._file_system_full())
        return LayerUnavailable(f"The IPC store {str(self.home.path)!r} can't be used: {error}.")

    def _map_full(self) -> str:
        return (
            f"The IPC store {str(self.home.path)!r} is full: unread messages take the {self._options.size} bytes that "
            "the option `size` allows; read faster, or raise `size`."
        )

    def _file_system_full(self) -> str:
        return (
            f"The file system of the IPC store {str(self.home.path)!r} is full; "
            "make room there, or name another directory in the option `directory`."
        )

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()
        for descriptor in (self._data, self._directory_lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._directory_lock = -1
        self.ringer.close()


def _allocate(descriptor: int, size: int) -> None:
    """Make a file ``size`` bytes large without holes; an error leaves it as it was."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    old = os.fstat(descriptor).st_size  # not on macOS
    try:
        for offset in range(old, size, PAGE_BYTES):
            os.pwrite(descriptor, bytes(min(PAGE_BYTES, size - offset)), offset)
    except OSError:
        os.ftruncate(descriptor, old)
        raise


_environments: dict[str, Environment] = {}
_registry_lock = threading.Lock()


def acquire(options: IPCOptions) -> Environment:
    """The environment of this process for ``options``, made if need be; give it back with ``release``."""
    from trunkline.ipc.directory import home_path

    key = os.path.realpath(home_path(options))
    with _registry_lock:
        environment = _environments.get(key)
        if environment is None:
            environment = _environments[key] = Environment(options)
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """Close the environment if this was its last user; it opens itself again if it is used nevertheless."""
    with _registry_lock:
        environment.users -= 1
        last = environment.users <= 0
    if last:
        environment.close()


def _before_fork() -> None:
    _registry_lock.acquire()
    for environment in _environments.values():
        environment.lock.acquire()


def _after_fork_in_parent() -> None:
    for environment in _environments.values():
        environment.lock.release()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    for environment in _environments.values():
        environment._close()
        environment.lock.release()
    _environments.clear()
    _registry_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
