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


@cache
def script(name: str) -> Script:
    """The script ``lua/<name>.lua`` with the prelude before it."""
    folder = files("trunkline.redis") / "lua"
    text = (folder / "_prelude.lua").read_bytes() + (folder / f"{name}.lua").read_bytes()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())
