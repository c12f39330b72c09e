#!/usr/bin/env python3
"""What continuous integration runs: the same commands as a person, and where the time went.

Ends with the exit code of the first command that fails; the table is printed all the same.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("system-deps", "lint", "test", "integration-test")


def main() -> int:
    environ = {**os.environ, "PYTEST_ADDOPTS": f"{os.environ.get('PYTEST_ADDOPTS', '')} --durations=15".strip()}
    rows, code = [], 0
    for step in STEPS:
        print(f"\n=== make {step} ===", flush=True)
        begin = time.monotonic()
        code = subprocess.run(["make", "--no-print-directory", step], cwd=ROOT, env=environ).returncode
        rows.append((step, time.monotonic() - begin, "ok" if code == 0 else f"failed with {code}"))
        if code:
            break
    rows += [(step, 0.0, "not reached") for step in STEPS[len(rows) :]]
    print("\n  step              seconds  result")
    for step, seconds, result in rows:
        print(f"  {step:16} {seconds:8.1f}  {result}")
    print(f"  {'all':16} {sum(row[1] for row in rows):8.1f}", flush=True)
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
