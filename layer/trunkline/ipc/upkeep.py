"""What the living do for the rest: find the dead, remove what they left, and drop what has expired."""

from __future__ import annotations

import os
import time
from typing import Any

from trunkline.ipc import groups, presence, queues
from trunkline.ipc.doorbell import BELL_BYTES, SUFFIX, bell_path
from trunkline.ipc.environment import Environment

VISITED_CHANNELS = 500  # in one sweep, so that it takes about a millisecond; the next goes on from there
VISITED_MEMBERS = 500
STRAY_AGE = 10.0  # s after which a FIFO without a reader is nobody's that is just being made

_Position = tuple[bytes, bytes]
_positions: dict[str, _Position] = {}  # directory -> where the last sweep of this process stopped


def sweep(environment: Environment, now: int) -> None:
    """Tidy up, if it is this process' turn; about once a second one process of the machine does."""
    if not environment.write(presence.claim_sweep, now):
        return
    known = environment.write(_find_dead, environment, now)
    for owner in known:
        bury(environment, owner)
    _remove_strays(environment)
    directory = str(environment.home.path)
    channels, members = _positions.get(directory, (b"", b""))
    _positions[directory] = environment.write(_drop, environment, now, channels, members)


def bury(environment: Environment, owner: bytes) -> None:
    """Remove what a dead process owned, in steps that let others in between."""
    while not environment.write(presence.remove, owner):
        pass


def drop_everything_expired(environment: Environment, now: int) -> None:
    """Drop every expired message, in steps that let others in between."""
    position: bytes | None = b""
    while position is not None:
        position = environment.write(queues.drop_expired, position, now, VISITED_CHANNELS, environment.ringer.lives)


def _find_dead(txn: Any, environment: Environment, now: int) -> list[bytes]:
    dead = []
    for owner, home, until in presence.processes(txn):
        if until:
            if until <= now:
                dead.append(owner)
        elif not environment.ringer.lives(home):
            dead.append(owner)
    return dead


def _drop(txn: Any, environment: Environment, now: int, channels: bytes, members: bytes) -> _Position:
    next_channel = queues.drop_expired(txn, channels, now, VISITED_CHANNELS, environment.ringer.lives)
    next_member = groups.drop_ended(txn, members, now, VISITED_MEMBERS)
    return next_channel or b"", next_member or b""


def _remove_strays(environment: Environment) -> None:
    """Remove FIFOs whose owner is gone; young ones may be on their way to an owner."""
    oldest = time.time() - STRAY_AGE
    directory = environment.home.path
    for entry in os.scandir(directory):
        if not entry.name.endswith(SUFFIX):
            continue
        try:
            bell = bytes.fromhex(entry.name[: -len(SUFFIX)])
            if len(bell) == BELL_BYTES and entry.stat(follow_symlinks=False).st_mtime < oldest:
                with environment.lock:
                    if not environment.ringer.lives(bell):
                        bell_path(directory, bell).unlink(missing_ok=True)
        except (ValueError, FileNotFoundError):
            continue
