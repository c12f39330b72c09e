"""Imports run downwards only, and what is called pure touches neither the machine nor the clock."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import trunkline

ROOT = Path(trunkline.__file__).parent

# Each part may import itself and what stands in a line further down. Parts in one line don't know each other, but for
# the pure ones of the last line and the entry points of the first.
ORDER: tuple[tuple[str, ...], ...] = (
    ("cli", "management", "apps", "checks", "interface", "__main__"),
    ("ops",),
    ("serve",),
    ("layers",),
    ("redis", "ipc"),
    ("base",),
    ("env",),
    ("codec", "names", "config", "errors", "stats", "mailbox"),
)
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
PURE = frozenset(ORDER[-1])
MAY_KNOW_THEIR_NEIGHBOURS = frozenset({*ORDER[0], *PURE})

# What reads a clock, talks to the system or to the network.
IMPURE = frozenset(
    {
        "asyncio",
        "concurrent",
        "datetime",
        "django",
        "fcntl",
        "glob",
        "lmdb",
        "multiprocessing",
        "os",
        "redis",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
    }
)
# A mailbox is where tasks and threads of one process meet, so it needs futures and locks, and nothing else.
ALLOWED = {"mailbox": frozenset({"asyncio", "threading"})}
# Besides the standard library; config is the layer's whole judgement and must not wait for an import of Django.
THIRD_PARTY = {"config": frozenset({"yaml"})}
CONFIG_KNOWS = frozenset({"config", "errors", "names"})


class Import(NamedTuple):
    """``importer`` (a dotted module of ours) imports ``imported`` (any dotted module) in a line."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported} (line {self.line})"


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT.parent).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), path


def imports_of(module: str, source: str, *, package: bool = False) -> Iterator[Import]:
    """Every import of a module, also inside functions; relative ones and submodules by their full names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                below = f"{base}.{alias.name}"
                yield Import(module, below if is_module(below) or base == "trunkline" else base, node.lineno)


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return name.startswith("trunkline.") and (path.is_dir() or path.with_suffix(".py").is_file())


def part(module: str) -> str:
    """The part of the house that a module belongs to; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def complaint(found: Import) -> str | None:
    """Say what is wrong with an import, if anything is."""
    own = part(found.importer)
    if found.imported.split(".")[0] != "trunkline":
        return _foreign(found, own)
    other = part(found.imported)
    if other == "__version__":  # stands in the package itself, and costs nothing
        return None
    if other not in RANK and other != "conformance":
        return f"{found}: import a name from the module that it lives in"
    if own == "conformance" or other == own:
        return None
    if other == "conformance":
        return f"{found}: the conformance plugin is for tests only"
    if own == "config" and other not in CONFIG_KNOWS:
        return f"{found}: config knows {', '.join(sorted(CONFIG_KNOWS))} only"
    if RANK[own] == RANK[other]:
        return None if own in MAY_KNOW_THEIR_NEIGHBOURS else f"{found}: neighbours don't know each other"
    return f"{found}: imports run downwards only" if RANK[own] > RANK[other] else None


def _foreign(found: Import, own: str) -> str | None:
    top = found.imported.split(".")[0]
    if own in PURE and top in IMPURE - ALLOWED.get(own, frozenset()):
        return f"{found}: {own} is pure"
    if own in THIRD_PARTY and top not in sys.stdlib_module_names and top not in THIRD_PARTY[own]:
        return f"{found}: {own} imports the standard library and {', '.join(THIRD_PARTY[own])} only"
    return None


def test_every_module_has_a_place_in_the_order() -> None:
    unplaced = {part(module) for module, _ in modules()} - RANK.keys() - {"", "conformance"}
    assert not unplaced, f"give these a line in ORDER: {sorted(unplaced)}"


def test_imports_run_downwards_only() -> None:
    # trunkline/__init__ is left out: it loads the public names when they are asked for, from wherever they live.
    complaints = [
        wrong
        for module, path in modules()
        if part(module)
        for found in imports_of(module, path.read_text(), package=path.name == "__init__.py")
        if (wrong := complaint(found))
    ]
    assert not complaints, "\n".join(complaints)


def test_the_package_itself_imports_nothing_of_ours_until_it_is_asked() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    eager = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in eager}
    assert not [name for name in names if name and name.startswith("trunkline")]


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("trunkline.redis.queue", "trunkline.ipc.store"),
        ("trunkline.ipc.store", "trunkline.redis.queue"),
        ("trunkline.redis.queue", "trunkline.layers.redis"),
        ("trunkline.base", "trunkline.redis.queue"),
        ("trunkline.env", "trunkline.base"),
        ("trunkline.config.hosts", "trunkline.env"),
        ("trunkline.config.hosts", "trunkline.codec"),
        ("trunkline.config.hosts", "os"),
        ("trunkline.config.hosts", "channels.layers"),
        ("trunkline.codec.records", "time"),
        ("trunkline.mailbox", "time"),
        ("trunkline.names", "asyncio.events"),
        ("trunkline.layers.redis", "trunkline.conformance.plugin"),
        ("trunkline.layers.redis", "trunkline"),
        ("trunkline.layers.redis", "trunkline.ChannelFull"),
        ("trunkline.serve.worker", "trunkline.ops.doctor"),
    ],
)
def test_an_import_in_the_wrong_direction_is_seen(importer: str, imported: str) -> None:
    assert complaint(Import(importer, imported, 1))


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("trunkline.cli", "trunkline.serve.worker"),
        ("trunkline.apps", "trunkline.checks"),
        ("trunkline.cli", "trunkline.__version__"),
        ("trunkline.layers.redis", "trunkline.redis.queue"),
        ("trunkline.redis.queue", "trunkline.redis.scripts"),
        ("trunkline.redis.queue", "redis.asyncio"),
        ("trunkline.base", "trunkline.mailbox"),
        ("trunkline.mailbox", "asyncio"),
        ("trunkline.codec.records", "trunkline.names"),
        ("trunkline.conformance.plugin", "trunkline.layers.redis"),
    ],
)
def test_an_import_in_the_right_direction_is_let_through(importer: str, imported: str) -> None:
    assert complaint(Import(importer, imported, 1)) is None


def test_relative_imports_and_imports_inside_functions_are_seen() -> None:
    source = "from ..ipc import store\nfrom . import keys\ndef f():\n    import trunkline.serve\n"
    assert [part(found.imported) for found in imports_of("trunkline.redis.queue", source)] == ["ipc", "redis", "serve"]
    inside = imports_of("trunkline.redis", "from .keys import build", package=True)
    assert [part(found.imported) for found in inside] == ["redis"]
