"""The command line of ``make bench``."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.plan import ROWS, Row
from benchmarks.targets import CAPACITY, TARGETS, Target
from support.flavours import FLAVOURS, INSTALL_LINE, Flavour, redis_binary

Named = TypeVar("Named", Row, Target)

CHART = Path(__file__).resolve().parents[2] / ".cache" / "benchmarks.svg"


@dataclass(frozen=True)
class Program:
    """A server by its path; stands for a ``Flavour``."""

    path: str

    def command(self) -> list[str]:
        return [self.path]


def parse() -> argparse.Namespace:
    """The options, checked; a wrong one ends the program with one sentence."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS='...'",
        description="Compare Trunkline's layers with channels_redis', in turn, on one Redis server of its own.",
    )
    parser.add_argument("--rounds", type=positive, default=3, help="paired rounds (default 3)")
    parser.add_argument(
        "--rows", type=lambda text: chosen(text, ROWS), default=ROWS, help=f"comma-separated: {_names(ROWS)}"
    )
    parser.add_argument(
        "--layers",
        type=lambda text: chosen(text, TARGETS),
        default=TARGETS,
        help=f"comma-separated: {_names(TARGETS)}; the last two are bare loops over the Redis layer's own commands",
    )
    parser.add_argument(
        "--messages", type=_messages, help="sends of each measurement, the same for all (default: by row and layer)"
    )
    parser.add_argument(
        "--scale", type=_scale, default=1.0, help="multiply all numbers of members and channels, for a quick look"
    )
    parser.add_argument(
        "--server",
        type=_server,
        metavar="PATH",
        help=f"the server program, or one of {_flavours()}, which is fetched (default: redis-server of this machine)",
    )
    parser.add_argument("--json", type=_file, metavar="FILE", help="write everything that was measured there")
    parser.add_argument(
        "--chart", type=_file, metavar="FILE", default=CHART, help="where the chart goes: .svg, .png or .pdf"
    )
    options = parser.parse_args()
    if options.server is None:
        found = redis_binary()
        if not found:
            parser.error(f"no redis-server is installed: {INSTALL_LINE}")
        options.server = Program(found)
    return options


def _names(known: Sequence[Named]) -> str:
    return ", ".join(one.name for one in known)


def chosen(text: str, known: Sequence[Named]) -> list[Named]:
    by_name = {one.name: one for one in known}
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in by_name:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {_names(known)}")
    return [by_name[name] for name in names]


def _messages(text: str) -> int:
    number = positive(text)
    if number > CAPACITY:
        raise argparse.ArgumentTypeError(f"{text} is above {CAPACITY}, the capacity that all layers are given")
    return number


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return scale


def _file(text: str) -> Path:
    path = Path(text).resolve()
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} lies in a directory that isn't there")
    return path


def _flavour_name(flavour: Flavour) -> str:
    return f"{flavour.product}-{flavour.version}"


def _flavours() -> str:
    return ", ".join(map(_flavour_name, FLAVOURS))


def _server(text: str) -> Program | Flavour:
    for flavour in FLAVOURS:
        if text == _flavour_name(flavour):
            return flavour
    path = shutil.which(text)
    if not path:
        raise argparse.ArgumentTypeError(f"{text!r} is no program and none of {_flavours()}")
    return Program(str(Path(path).resolve()))
