"""``python -m trunkline_supervisor``: runs a project under supervisord as the environment says.

To be started in the project's directory; ``--show`` prints supervisord's configuration instead.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from trunkline.errors import ConfigurationError
from trunkline_supervisor.launch import Stack
from trunkline_supervisor.plan import plan_from


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trunkline_supervisor", description=__doc__)
    parser.add_argument("--show", action="store_true", help="print supervisord's configuration and exit")
    arguments = parser.parse_args()
    try:
        plan = plan_from(os.environ)
        if arguments.show:
            print(plan.config("/tmp/state"), end="")
            return 0
        return Stack(plan, os.environ, Path.cwd()).run()
    except ConfigurationError as exc:
        print(f"trunkline: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
