"""The scripts that run on the server, one file per operation, loaded from the package."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A script's text and the digest that EVALSHA calls it by."""

    name: str
    text: bytes
    sha: bytes


HELD = ("again", "done", "drop", "hold", "requeue", "tend")  # those of held messages share a second prelude


@cache
def script(name: str) -> Script:
    """The script ``lua/<name>.lua`` with the prelude before it."""
    folder = files("trunkline.redis") / "lua"
    parts = ["_prelude", *(["_held"] if name in HELD else []), name]
    text = b"".join(_bare((folder / f"{part}.lua").read_bytes()) for part in parts)
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _bare(text: bytes) -> bytes:
    """What the server needs of a file: half of it, as a weak line may have to carry it."""
    lines = (line.strip() for line in text.splitlines())
    return b"".join(line + b"\n" for line in lines if line and not line.startswith(b"--"))
