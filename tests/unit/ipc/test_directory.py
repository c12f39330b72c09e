from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from trunkline.config import CommonOptions, IPCOptions
from trunkline.errors import ConfigurationError, LayerUnavailable
from trunkline.ipc import directory
from trunkline.ipc.directory import default_directory, home_path, prepare

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which needs root")


@pytest.fixture
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(directory, "SHARED_MEMORY", tmp_path)
    return tmp_path


def options(path: Path | None = None, *, prefix: str = "site", mode: int = 0o700, gid: int | None = None) -> IPCOptions:
    return IPCOptions(CommonOptions(prefix=prefix), str(path) if path else None, mode=mode, group=gid)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_default_is_private_to_the_user_whatever_the_umask(shared_memory: Path) -> None:
    before = os.umask(0)
    try:
        home = prepare(options())
    finally:
        os.umask(before)
    assert home.path.parent == shared_memory / f"trunkline-{os.geteuid()}"
    assert (permissions(home.path), permissions(home.path.parent)) == (0o700, 0o700)
    assert prepare(options()) == home


def test_without_shared_memory_the_temporary_directory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert default_directory() == tmp_path / f"trunkline-{os.geteuid()}"


@pytest.mark.parametrize("prefix", [".", "..", "a/b", "a" * 500, "ünï", "%2e"])
def test_every_prefix_is_a_directory_of_its_own_inside_the_other(tmp_path: Path, prefix: str) -> None:
    path = home_path(options(tmp_path, prefix=prefix))
    assert path.parent == tmp_path
    assert len(path.name.encode()) < 255
    assert path.name not in (".", "..")


def test_a_symbolic_link_in_its_place_is_refused(shared_memory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    default_directory().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="no directory but something that someone put"):
        prepare(options())


@root_only
def test_a_directory_of_somebody_else_is_refused(shared_memory: Path) -> None:
    default_directory().mkdir()
    os.chown(default_directory(), 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        prepare(options())


@root_only
def test_a_directory_of_somebody_else_inside_a_sticky_one_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    home_path(options(tmp_path)).mkdir()
    os.chown(home_path(options(tmp_path)), 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        prepare(options(tmp_path))


@root_only
def test_a_group_shares_the_directory_and_its_files(tmp_path: Path) -> None:
    home = prepare(options(tmp_path / "shared", mode=0o770, gid=4242))
    assert (home.path.stat().st_gid, permissions(home.path), home.file_mode) == (4242, 0o770, 0o660)
    os.chown(home.path, 12345, 4242)  # another member of the group was here first
    os.chown(home.path.parent, 12345, 4242)
    assert prepare(options(tmp_path / "shared", mode=0o770, gid=4242)).path == home.path


def test_our_own_directory_is_closed_again_if_it_was_opened(shared_memory: Path) -> None:
    path = prepare(options()).path
    path.chmod(0o777)
    prepare(options())
    assert permissions(path) == 0o700


def test_a_named_directory_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="every user of this machine may write to"):
        prepare(options(tmp_path))


def test_a_file_in_place_of_the_named_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((ConfigurationError, LayerUnavailable), match=r"must name a directory|can't be used"):
        prepare(options(tmp_path / "file"))


def test_a_group_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no 'no-such-group'"):
        prepare(IPCOptions(directory=str(tmp_path), mode=0o770, group="no-such-group"))
