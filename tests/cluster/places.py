"""Where everything of the cluster lies: files, addresses, ports and names."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = HERE / "go"
KUBERNETES = re.search(r"k8s\.io/kubernetes (v[\d.]+)", (SOURCES / "go.mod").read_text(encoding="utf-8"))
HELM = re.search(r"helm\.sh/helm/v3 (v[\d.]+)", (SOURCES / "go.mod").read_text(encoding="utf-8"))

# One cluster for each machine: these are the same for every clone, and short, as paths of sockets have to be.
RUN = Path("/run/trunkline-cluster")  # sockets, certificates, logs, what runs
DATA = Path("/var/lib/trunkline-cluster")  # images, containers, volumes, etcd
STATE = RUN / "state.json"
KUBECONFIG = RUN / "kubeconfig"
CONTAINERD = RUN / "containerd.sock"
LOGS = RUN / "logs"
CNI_PROGRAMS = Path("/usr/lib/cni")  # Debian's containernetworking-plugins

NODE = "trunkline"
BRIDGE = "trunkline0"
ADDRESS = "10.244.0.1"  # of the bridge, the node and the API server: reachable from pods, not from other machines
PODS = "10.244.0.0/24"
SERVICES = "10.245.0.0/24"
API_SERVICE = "10.245.0.1"
DNS = "10.245.0.10"
API_PORT = 6443
ETCD_PORT = 2379
KUBELET_PORT = 10250
PORTS = (ETCD_PORT, API_PORT, KUBELET_PORT, 10248, 10249, 10256, 10257, 10259)

PAUSE_IMAGE = "trunkline.test/pause:1"
DNS_IMAGE = "trunkline.test/dns:1"


class Trouble(Exception):
    """One sentence for the person who typed the command."""


def version(found: re.Match[str] | None) -> str:
    assert found is not None, "go.mod names no version"
    return found[1]


def programs() -> Path:
    """The folder of the built programs; its name changes with what they are built from."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(SOURCES)).encode() + b"\0" + path.read_bytes())
    cache = Path(os.environ.get("TRUNKLINE_CLUSTER_CACHE") or ROOT / ".cache" / "cluster").absolute()
    return cache / f"{version(KUBERNETES)}-{digest.hexdigest()[:12]}"
