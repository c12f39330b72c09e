from __future__ import annotations

import os
from pathlib import Path

import pytest

from trunkline.ipc.bells import Bells
from trunkline.ipc.directory import Home
from trunkline.ipc.doorbell import Doorbell, Ringer


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, 0o600, -1)


def test_what_was_rung_is_heard_and_then_it_is_quiet(home: Home) -> None:
    bells, ringer = Bells(home, print), Ringer(home.path)
    doorbell = bells.home
    assert not bells.poll(0)
    for line in (b"work", b"", b"work"):
        assert ringer.ring(doorbell.bell, line)
    assert bells.poll(0)
    assert doorbell.listen() == ({b"work", b""}, False)
    ringer.close()
    assert not bells.poll(0), "a ringer that leaves is no end of file"
    assert doorbell.listen() == (set(), False)
    bells.close()


def test_a_full_pipe_blocks_nobody_and_its_owner_is_told_to_look_everywhere(home: Home) -> None:
    doorbell, ringer = Doorbell(home), Ringer(home.path)
    for _ in range(5000):
        assert ringer.ring(doorbell.bell, b"x" * 99)
    names, overflow = doorbell.listen()
    assert overflow
    assert names == {b"x" * 99}
    doorbell.close()
    ringer.close()


def test_a_doorbell_without_an_owner_is_dead_whether_or_not_it_was_open(home: Home) -> None:
    known, unknown, ringer = Doorbell(home), Doorbell(home), Ringer(home.path)
    assert ringer.ring(known.bell, b"")
    assert ringer.lives(unknown.bell)
    for doorbell in (known, unknown):
        doorbell.close(unlink=False)
    assert not ringer.ring(known.bell, b"")
    assert not ringer.lives(unknown.bell)
    ringer.close()


def test_closing_removes_the_file_and_an_owner_notices_when_somebody_else_does(home: Home) -> None:
    doorbell = Doorbell(home)
    assert not doorbell.lost()
    next(home.path.iterdir()).unlink()
    assert doorbell.lost()
    doorbell.close()
    Doorbell(home).close()
    assert list(home.path.iterdir()) == []


def test_only_so_many_doorbells_of_others_stay_open(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.ipc.doorbell.OPEN_BELLS", 3)
    doorbells, ringer = [Doorbell(home) for _ in range(10)], Ringer(home.path)
    before = len(os.listdir("/proc/self/fd"))
    for doorbell in doorbells * 2:
        assert ringer.ring(doorbell.bell, b"")
    assert len(os.listdir("/proc/self/fd")) == before + 3
    ringer.close()
    for doorbell in doorbells:
        doorbell.close()
