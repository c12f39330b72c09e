from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from trunkline.config import IPCOptions
from trunkline.errors import LayerUnavailable
from trunkline.ipc import environment as module
from trunkline.ipc.environment import Environment, StoreFull

MEBIBYTE = 1024 * 1024


def put(txn: Any, key: bytes, value: bytes) -> None:
    txn.put(key, value)


def get(txn: Any, key: bytes) -> bytes | None:
    return txn.get(key)


def data_file(environment: Environment) -> Path:
    return environment.home.path / "data.mdb"


def test_nothing_is_opened_before_it_is_used(environment: Environment) -> None:
    assert list(environment.home.path.iterdir()) == []


def test_what_raises_inside_is_rolled_back(environment: Environment) -> None:
    def fail(txn: Any) -> None:
        txn.put(b"c", b"1")
        raise KeyError

    with pytest.raises(KeyError):
        environment.write(fail)
    assert environment.write(get, b"c") is None


def test_the_file_grows_without_holes_and_never_beyond_size(environment: Environment) -> None:
    environment.write(put, b"c", b"1")
    assert data_file(environment).stat().st_size == MEBIBYTE
    environment.write(put, b"d", b"x" * 3 * MEBIBYTE)
    found = data_file(environment).stat()
    assert 4 * MEBIBYTE <= found.st_size <= 8 * MEBIBYTE
    assert found.st_blocks * 512 >= found.st_size, "a hole is a SIGBUS where the file system is full"
    with pytest.raises(StoreFull, match="`size`"):
        environment.write(put, b"e", b"x" * 9 * MEBIBYTE)
    assert environment.write(get, b"c") == b"1"
    assert data_file(environment).stat().st_size <= 8 * MEBIBYTE


def test_another_process_growth_is_adopted(environment: Environment) -> None:
    environment.write(put, b"c", b"1")
    pid = os.fork()
    if pid == 0:
        try:
            other = Environment(environment._options)
            environment.close()
            other.write(put, b"d", b"x" * 3 * MEBIBYTE)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(environment.write(get, b"d") or b"") == 3 * MEBIBYTE


def test_a_damaged_store_is_made_anew_when_nobody_uses_it(
    environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    environment.write(put, b"c", b"1")
    environment.close()
    data_file(environment).write_bytes(b"no store" * 1000)
    assert environment.write(get, b"c") is None
    assert "was damaged" in caplog.text


def test_a_damaged_store_that_others_use_is_one_sentence(environment: Environment) -> None:
    environment.write(put, b"c", b"1")
    environment.close()
    data_file(environment).write_bytes(b"no store" * 1000)
    import fcntl

    somebody = os.open(environment.home.path, os.O_RDONLY)
    fcntl.flock(somebody, fcntl.LOCK_SH)
    with pytest.raises(LayerUnavailable, match=r"is damaged .* and other processes use it"):
        environment.write(get, b"c")
    os.close(somebody)
    assert environment.write(get, b"c") is None


def test_a_store_of_another_boot_is_emptied(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.write(put, b"c", b"1")
    environment.close()
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(module, "_BOOT_ID", tmp_path / "boot")
    assert environment.write(get, b"c") is None


def test_a_store_that_somebody_removed_is_made_anew(environment: Environment) -> None:
    environment.write(put, b"c", b"1")
    generation = environment.generation
    for path in environment.home.path.iterdir():
        path.unlink()
    environment.home.path.rmdir()
    environment.verify()
    assert environment.write(get, b"c") is None
    assert environment.generation > generation


def test_layers_of_one_process_share_an_environment_until_the_last_one_closes(tmp_path: Path) -> None:
    options = IPCOptions(directory=str(tmp_path))
    first, second = module.acquire(options), module.acquire(options)
    assert first is second
    first.write(put, b"c", b"1")
    module.release(first)
    assert "open" in repr(second)
    module.release(second)
    assert "closed" in repr(second)


def test_a_fork_while_threads_write_leaves_both_able_to_write(tmp_path: Path) -> None:
    options = IPCOptions(directory=str(tmp_path))
    environment = module.acquire(options)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            environment.write(put, b"c", b"1")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                try:
                    module.acquire(options).write(put, b"d", b"child")
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert environment.write(get, b"d") == b"child"
    module.release(environment)
