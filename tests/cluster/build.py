"""Builds Kubernetes, etcd, Helm and the small programs of ours from Go modules, once for each version."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster.places import HELM, KUBERNETES, SOURCES, Trouble, programs, version

# What the build leaves, and under which name we keep it.
NAMES = {
    "kube-apiserver": "kube-apiserver",
    "kube-controller-manager": "kube-controller-manager",
    "kube-scheduler": "kube-scheduler",
    "kubelet": "kubelet",
    "kube-proxy": "kube-proxy",
    "kubectl": "kubectl",
    "helm": "helm",
    "server": "etcd",
    "dns": "dns",
    "pause": "pause",
    "storage": "storage",
}
EVERY_S = 15.0  # between two lines of progress where there is no terminal


def built() -> Path:
    """The folder with the programs, built now if need be.

    :raises Trouble: when there is no Go, or the build fails.
    """
    folder = programs()
    if all((folder / name).exists() for name in NAMES.values()):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs on an empty cache: the second one waits
        if not all((folder / name).exists() for name in NAMES.values()):
            _build(folder)
    return folder


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise Trouble("Go 1.24 or newer builds the cluster's programs, and there is none: install Debian's golang-go.")
    kubernetes = version(KUBERNETES)
    _, minor, _ = kubernetes.split(".")
    flags = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "helm.sh/helm/v3/internal/version.version": version(HELM),
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": "1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": minor,
    }
    linker = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in flags.items())])
    # Static and without paths: the cache may go to another machine, and Go's own cache serves every clone.
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly -trimpath"}
    packages = ["tool", *sorted(f"./{path.parent.name}" for path in SOURCES.glob("*/main.go"))]
    print(f"Building Kubernetes {kubernetes} and Helm {version(HELM)} into {folder} (minutes, only this time) ...")
    listing = subprocess.run(
        ["go", "list", "-deps", *packages], cwd=SOURCES, env=environ, capture_output=True, text=True
    )
    if listing.returncode != 0:
        raise Trouble(f"{listing.stderr.strip()}\nGo can't load the modules; its last lines are above.")
    total = len(listing.stdout.split())
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as temporary:
        command = ["go", "build", "-v", "-ldflags", linker, "-o", f"{temporary}/", *packages]
        if shutil.which("nice"):
            command = ["nice", "-n", "10", *command]
        with subprocess.Popen(command, cwd=SOURCES, env=environ, stderr=subprocess.PIPE, text=True) as process:
            trouble = _follow(process, total, begin)
        if process.returncode != 0:
            raise Trouble("\n".join([*trouble[-30:], "The Go build failed; its last lines are above."]))
        for found, name in NAMES.items():
            os.rename(f"{temporary}/{found}", f"{temporary}/.{name}")
        folder.mkdir(exist_ok=True)
        for name in NAMES.values():
            os.replace(f"{temporary}/.{name}", folder / name)
    print(f"Built in {time.monotonic() - begin:.0f} s.", flush=True)


def _follow(process: subprocess.Popen[str], total: int, begin: float) -> list[str]:
    """Show how far the build is; returns the lines that aren't progress."""
    assert process.stderr is not None
    count, said, other = 0, begin, []
    for line in process.stderr:
        if not re.fullmatch(r"[\w./~-]+\n", line):
            other.append(line.rstrip())
            continue
        count += 1
        now = time.monotonic()
        text = f"  {count} of at most {total} packages, {now - begin:.0f} s"
        if sys.stdout.isatty():
            print(f"\r{text}", end="", flush=True)
        elif now - said >= EVERY_S:
            said = now
            print(text, flush=True)
    if sys.stdout.isatty():
        print()
    return other
