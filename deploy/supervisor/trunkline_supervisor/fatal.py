"""An event listener of supervisord: a process that can't be kept running ends everything, not just itself."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

FILE = "fatal"  # in the state directory: the name of the process


def main(state: str) -> None:
    while True:
        print("READY", flush=True)
        header = dict(item.split(":", 1) for item in sys.stdin.readline().split())
        if not header:
            return  # supervisord is gone
        event = dict(item.split(":", 1) for item in sys.stdin.read(int(header["len"])).split("\n")[0].split())
        Path(state, FILE).write_text(event.get("processname", "a process"), encoding="utf-8")
        os.kill(os.getppid(), signal.SIGTERM)
        print("RESULT 2\nOK", end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
