"""``python -m cluster up | down | status | load ARCHIVE``, as `make cluster` and `make cluster-down` call it."""

from __future__ import annotations

import argparse
import sys

from cluster import lifecycle, node
from cluster.build import built
from cluster.places import KUBECONFIG, LOGS, Trouble


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("up", help="start the cluster, or find it running")
    actions.add_parser("down", help="end it and remove what it left")
    actions.add_parser("status", help="say whether it runs")
    actions.add_parser("build", help="build the programs, no more")
    load = actions.add_parser("load", help="bring images to the node")
    load.add_argument("archive", help="as `docker save` writes it; - for the standard input")
    given = parser.parse_args()
    try:
        if given.action == "up":
            kubeconfig = lifecycle.up()
            print(f"Its kubectl and helm, in your shell:\n\n  export KUBECONFIG={kubeconfig} PATH={built()}:$PATH\n")
        elif given.action == "down":
            lifecycle.down()
        elif given.action == "build":
            print(built())
        elif given.action == "load":
            node.load(given.archive, sys.stdin.buffer)
        else:
            there = lifecycle.running()
            print(f"The cluster {f'runs; KUBECONFIG={KUBECONFIG}, logs in {LOGS}' if there else 'does not run'}.")
            return 0 if there else 1
    except Trouble as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
