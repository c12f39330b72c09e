"""The images that the scenarios run: built by what `make images` runs, once for all scenarios of a run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from deploy.support.engine import ROOT, run

READY = "TRUNKLINE_TEST_IMAGES"  # set by the runner when it has built them


@dataclass(frozen=True)
class Images:
    """Names of images.

    :ivar version: the tag.
    """

    version: str

    @property
    def trunkline(self) -> str:
        return f"trunkline:{self.version}"

    @property
    def example(self) -> str:
        return f"trunkline-example:{self.version}"

    @property
    def redis(self) -> str:
        return f"trunkline-redis:{self.version}"

    @property
    def nginx(self) -> str:
        return f"trunkline-nginx:{self.version}"


def tag() -> str:
    sys.path.insert(0, str(ROOT / "deploy" / "image"))
    from build import version

    return version()


def built() -> Images:
    """The images, built first where nobody has built them in this run."""
    if os.environ.get(READY) != "1":
        run("python3", str(ROOT / "deploy" / "image" / "build.py"), "images", deadline_s=1800)
        os.environ[READY] = "1"
    return Images(tag())
