"""Starts etcd, the API server, the controller manager and the scheduler."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cluster import state
from cluster.certificates import Authority, private_key
from cluster.places import (
    ADDRESS,
    API_PORT,
    API_SERVICE,
    DATA,
    ETCD_PORT,
    KUBECONFIG,
    NODE,
    RUN,
    SERVICES,
    Trouble,
)

START_DEADLINE_S = 90.0  # a busy machine of two cores; alone it takes about ten
USERS = {
    # file: (user, group)
    "admin": ("trunkline-admin", "system:masters"),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
}


def start(programs: Path) -> None:
    """Start the control plane and wait until the API server says that it is ready.

    :raises Trouble: when it doesn't become ready.
    """
    authority = Authority(RUN / "pki")
    ca = str(authority.certificate)
    for name, (user, group) in USERS.items():
        # The kubelet's certificate also serves its own port, where logs and exec come from.
        hosts = (NODE, ADDRESS) if name == "kubelet" else ()
        _kubeconfig(kubeconfig(name), ca, user, authority.issue(name, user, group, hosts))
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    server = authority.issue("server", "server", hosts=(*names, "localhost", "127.0.0.1", ADDRESS, API_SERVICE))
    to_kubelet = authority.issue("to-kubelet", "kube-apiserver", "system:masters")
    accounts = str(private_key(RUN / "pki" / "accounts.key"))

    etcd = f"https://127.0.0.1:{ETCD_PORT}"
    state.start(
        "etcd",
        [
            programs / "etcd",
            f"--data-dir={DATA}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=unix://{RUN}/etcd-peer.sock:0",
            f"--trusted-ca-file={ca}",
            f"--cert-file={server[0]}",
            f"--key-file={server[1]}",
            "--client-cert-auth",
            "--unsafe-no-fsync",  # what is lost with the machine's power was a test
            "--log-level=warn",
        ],
    )
    state.start(
        "kube-apiserver",
        [
            programs / "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--etcd-cafile={ca}",
            f"--etcd-certfile={to_kubelet[0]}",
            f"--etcd-keyfile={to_kubelet[1]}",
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={server[0]}",
            f"--tls-private-key-file={server[1]}",
            f"--client-ca-file={ca}",
            f"--kubelet-certificate-authority={ca}",
            f"--kubelet-client-certificate={to_kubelet[0]}",
            f"--kubelet-client-key={to_kubelet[1]}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            f"--service-cluster-ip-range={SERVICES}",
            "--profiling=false",
        ],
    )
    try:
        state.until(lambda: _ready(programs), "API server", START_DEADLINE_S)
    except Trouble as exc:
        raise Trouble(f"{state.tail('etcd')}\n{state.tail('kube-apiserver')}\n{exc}") from exc
    for name, further in (
        (
            "kube-controller-manager",
            [
                f"--root-ca-file={ca}",
                f"--service-account-private-key-file={accounts}",
                "--use-service-account-credentials",
            ],
        ),
        ("kube-scheduler", []),
    ):
        config = kubeconfig(name)
        authentication = [f"--{part}-kubeconfig={config}" for part in ("authentication", "authorization")]
        here = ["--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false", f"--kubeconfig={config}"]
        state.start(name, [programs / name, *here, *authentication, *further])


def kubeconfig(name: str) -> Path:
    return KUBECONFIG if name == "admin" else RUN / "pki" / f"{name}.kubeconfig"


def _kubeconfig(path: Path, ca: str, user: str, pair: tuple[Path, Path]) -> None:
    name = "trunkline"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": f"https://{ADDRESS}:{API_PORT}", "certificate-authority": ca}}
        ],
        "users": [{"name": user, "user": {"client-certificate": str(pair[0]), "client-key": str(pair[1])}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML


def _ready(programs: Path) -> bool:
    if not (state.alive("etcd") and state.alive("kube-apiserver")):
        raise Trouble("A part of the control plane ended.")
    command = [str(programs / "kubectl"), f"--kubeconfig={KUBECONFIG}", "--request-timeout=2s", "get", "--raw=/readyz"]
    return subprocess.run(command, capture_output=True).returncode == 0
