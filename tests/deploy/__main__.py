"""Runs the scenarios one after the other and prints how each ended and how long it took.

    python -m deploy                 all
    python -m deploy compose chart   some

A scenario is a module ``scenario_<name>.py`` beside this one, which pytest runs. Exits with 1 if one failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from deploy.support.engine import ROOT
from deploy.support.images import READY

HERE = Path(__file__).parent
NO_TESTS = 5  # pytest's exit code


def main() -> int:
    known = {path.stem.removeprefix("scenario_").replace("_", "-"): path for path in HERE.glob("scenario_*.py")}
    chosen = sys.argv[1:] or sorted(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(f"SCENARIO={' '.join(unknown)} is unknown; there are {', '.join(sorted(known))}.", file=sys.stderr)
        return 2
    rows: list[tuple[str, str, float]] = []
    begin = time.monotonic()
    print("\n=== make images ===", flush=True)
    code = subprocess.run(["python3", str(ROOT / "deploy" / "image" / "build.py"), "images"]).returncode
    rows.append(("make images", "ok" if code == 0 else "failed", time.monotonic() - begin))
    for name in chosen if code == 0 else []:
        print(f"\n=== {name} ===", flush=True)
        begin = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(known[name])]
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, READY: "1"}).returncode
        result = {0: "ok", NO_TESTS: "no test ran"}.get(ended, "failed")
        rows.append((name, result, time.monotonic() - begin))
    rows += [(name, "not reached", 0.0) for name in chosen[len(rows) - 1 :]]
    print("\n  scenario        seconds  result")
    for name, result, seconds in rows:
        print(f"  {name:14} {seconds:8.1f}  {result}")
    print(f"  {'all':14} {sum(row[2] for row in rows):8.1f}", flush=True)
    return 0 if all(row[1] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
