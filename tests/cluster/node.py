"""Starts containerd, the kubelet, kube-proxy and the volumes' provisioner, and brings images in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO

from cluster import state
from cluster.archive import image
from cluster.control_plane import kubeconfig
from cluster.places import (
    ADDRESS,
    BRIDGE,
    CNI_PROGRAMS,
    CONTAINERD,
    DATA,
    DNS,
    DNS_IMAGE,
    KUBELET_PORT,
    NODE,
    PAUSE_IMAGE,
    PODS,
    RUN,
    Trouble,
)

START_DEADLINE_S = 60.0


def start(programs: Path) -> None:
    """Start the node's parts.

    :raises Trouble: when containerd doesn't answer.
    """
    (RUN / "cni").mkdir(exist_ok=True)
    (RUN / "cni" / "10-trunkline.conflist").write_text(json.dumps(_network(), indent=1))
    (RUN / "containerd.toml").write_text(_containerd())
    state.start("containerd", ["containerd", "--config", RUN / "containerd.toml"])
    state.until(lambda: _ctr("version").returncode == 0, "containerd", START_DEADLINE_S)
    for name, program, arguments in (
        (PAUSE_IMAGE, "pause", ()),
        (DNS_IMAGE, "dns", ("-conf", "/etc/coredns/Corefile")),
    ):
        load(image(RUN / f"{program}.tar", name, programs / program, *arguments))
        (RUN / f"{program}.tar").unlink()

    (RUN / "resolv.conf").write_text("")
    (RUN / "kubelet.json").write_text(json.dumps(_kubelet(), indent=1))
    config = kubeconfig("kubelet")
    state.start(
        "kubelet",
        [
            programs / "kubelet",
            f"--config={RUN}/kubelet.json",
            f"--kubeconfig={config}",
            f"--hostname-override={NODE}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={DATA}/kubelet",
        ],
    )
    (RUN / "kube-proxy.json").write_text(json.dumps(_proxy(), indent=1))
    state.start("kube-proxy", [programs / "kube-proxy", f"--config={RUN}/kube-proxy.json"])
    (DATA / "volumes").mkdir(exist_ok=True)
    state.start(
        "storage",
        [
            programs / "storage",
            f"--kubeconfig={kubeconfig('admin')}",
            f"--root={DATA}/volumes",
            f"--node={NODE}",
            "--class=folders",
        ],
    )


def load(archive: Path | str, stdin: IO[bytes] | None = None) -> None:
    """Bring the images of an archive, as `docker save` writes it, to the node.

    :param archive: its path, or ``-`` for what comes from ``stdin``.
    :raises Trouble: with containerd's words.
    """
    answer = _ctr("images", "import", str(archive), deadline_s=600.0, stdin=stdin)
    if answer.returncode != 0:
        raise Trouble(f"{archive} can't be imported: {answer.stderr.strip()}")


def remains() -> list[str]:
    """Identifiers of containers and sandboxes that still run."""
    answer = _ctr("tasks", "list", "--quiet")
    return answer.stdout.split() if answer.returncode == 0 else []


def _ctr(*arguments: str, deadline_s: float = 60.0, stdin: IO[bytes] | None = None) -> subprocess.CompletedProcess[str]:
    command = ["ctr", f"--address={CONTAINERD}", "--namespace=k8s.io", *arguments]
    return subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=deadline_s)


def _network() -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,  # there is nothing outside that pods could reach
        "hairpinMode": True,  # a pod may reach itself through its service
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(DATA / "addresses"),
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "trunkline", "plugins": [bridge, ports]}


def _containerd() -> str:
    return f"""\
version = 2
root = "{DATA}/containerd"
state = "{RUN}/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"
]

[grpc]
  address = "{CONTAINERD}"

[ttrpc]
  address = "{CONTAINERD}.ttrpc"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Inside a container or a small virtual machine even root may not lower the score of its children.
  restrict_oom_score_adj = true
  # Not below /run/netns, where nobody could tell which are ours.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{RUN}/cni"
"""


def _kubelet() -> dict[str, object]:
    pki = RUN / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "port": KUBELET_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        # The disk is shared with everything else: neither evict pods nor remove images because of it.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "podLogsDir": str(DATA / "pod-logs"),
        "resolvConf": str(RUN / "resolv.conf"),
        "serializeImagePulls": False,
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "volumePluginDir": str(DATA / "volume-plugins"),
    }


def _proxy() -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": ADDRESS,
        "clientConnection": {"kubeconfig": str(kubeconfig("kube-proxy"))},
        "clusterCIDR": PODS,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "hostnameOverride": NODE,
        "iptables": {"minSyncPeriod": "0.2s"},
        "mode": "iptables",
        "oomScoreAdj": 0,
    }
