"""What the cluster needs of the machine and changes on it: packages, the bridge, packet filters, kernel settings."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.places import ADDRESS, BRIDGE, CNI_PROGRAMS, DATA, PODS, PORTS, RUN, Trouble

# Debian's packages and what tells that each is there.
PACKAGES: dict[str, Callable[[], object]] = {
    "containerd": lambda: shutil.which("containerd") and shutil.which("ctr"),
    "runc": lambda: shutil.which("runc"),
    "containernetworking-plugins": lambda: (CNI_PROGRAMS / "bridge").exists(),
    "iptables": lambda: shutil.which("iptables"),
    "iproute2": lambda: shutil.which("ip"),
    "mount": lambda: shutil.which("umount"),
}
SETTINGS = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
# What the kubelet and kube-proxy set by themselves.
TOUCHED = (
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/conf/all/route_localnet",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
)
# Where programs write whatever they are told; removed at the end where they weren't there before.
FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods", "/run/netns", "/run/containerd")
MARK = "trunkline-cluster"  # the comment of our rules
ACCEPTED = [[*(direction, BRIDGE), "-m", "comment", "--comment", MARK, "-j", "ACCEPT"] for direction in ("-i", "-o")]


def fit() -> None:
    """See that a cluster can be started here, and install what is missing.

    :raises Trouble: when it can't.
    """
    if os.geteuid() != 0:
        raise Trouble("The cluster needs root for its containers and its network: run it as root.")
    busy = [port for port in PORTS if _listens(port)]
    if busy:
        raise Trouble(f"Something listens on {', '.join(map(str, busy))} already: a Kubernetes that isn't ours?")
    missing = [name for name, there in PACKAGES.items() if not there()]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Trouble(f"Without apt-get, install these by hand: {', '.join(missing)}.")
    print(f"Installing {', '.join(missing)} with apt-get ...", flush=True)
    # RUNLEVEL: the packages' own services are not started.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    quiet = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        answer = subprocess.run([*quiet, *command], env=environ, capture_output=True, text=True)
        if answer.returncode != 0:
            raise Trouble(f"{(answer.stdout + answer.stderr)[-2000:]}\napt-get failed; its last lines are above.")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def before() -> dict[str, Any]:
    """What the machine is like before we touch it, for the record."""
    settings = {}
    for name in (*SETTINGS, *TOUCHED):
        with contextlib.suppress(OSError):
            settings[name] = Path("/proc/sys", name).read_text().strip()
    return {
        "settings": settings,
        "folders": [name for name in FOLDERS if Path(name).exists()],
        "chains": sorted(f"{table} {chain}" for table, chain in _chains()),
    }


def prepare() -> None:
    """Make the bridge and let packets through it."""
    for name, value in SETTINGS.items():
        path = Path("/proc/sys", name)
        if not path.exists():
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True)
        path.write_text(value)
    if not Path("/sys/class/net", BRIDGE).exists():
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
    # Before any pod: the API server listens on this address.
    _run("ip", "address", "replace", f"{ADDRESS}/{PODS.partition('/')[2]}", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    for rule in ACCEPTED:
        if subprocess.run(["iptables", "-w", "-C", "FORWARD", *rule], capture_output=True).returncode:
            _run("iptables", "-w", "-I", "FORWARD", *rule)  # Docker drops what it doesn't know


def restore(found: dict[str, Any]) -> None:
    """Take back what :func:`prepare` and the parts of the cluster did, as far as it is there."""
    for mount in reversed(_mounts()):
        subprocess.run(["umount", "-l", mount], capture_output=True)
    if Path("/sys/class/net", BRIDGE).exists():
        _run("ip", "link", "delete", BRIDGE)
    _drop_chains(set(found.get("chains", [])))
    for rule in ACCEPTED:
        subprocess.run(["iptables", "-w", "-D", "FORWARD", *rule], capture_output=True)
    docker = Path("/sys/class/net/docker0").exists()
    for name, value in found.get("settings", {}).items():
        if docker and name in SETTINGS:
            continue  # it may have come after us, and needs both
        with contextlib.suppress(OSError):
            Path("/proc/sys", name).write_text(value)
    _cgroups()
    for folder in (DATA, RUN):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise Trouble(f"{folder} could not be removed.")
    for name in FOLDERS:
        if name not in found.get("folders", [name]):
            _remove(Path(name))


def _remove(folder: Path) -> None:
    """Remove our remains from a folder; what somebody else put there meanwhile stays."""
    if not folder.is_dir():
        return
    if str(folder) in ("/var/lib/kubelet", "/var/lib/cni"):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        with contextlib.suppress(OSError):
            if path.is_symlink() and not path.exists():
                path.unlink()
            elif path.is_dir() and not path.is_symlink():
                path.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    ours = (f"{RUN}/", f"{DATA}/", "/var/lib/kubelet/")
    return [point for point in points if point.startswith(ours)]


def _cgroups() -> None:
    for top in (*Path("/sys/fs/cgroup").glob("*/kubepods"), Path("/sys/fs/cgroup/kubepods")):
        for path in sorted((p for p in [top, *top.rglob("*")] if p.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()


# --- packet filters ---


def _chains() -> list[tuple[str, str]]:
    """Tables and chains that Kubernetes or its network plugins make."""
    found, table = [], ""
    for line in _saved():
        if line.startswith("*"):
            table = line[1:]
        elif match := re.match(r":((?:KUBE|CNI)-\S+) ", line):
            found.append((table, match[1]))
    return found


def _saved() -> list[str]:
    if shutil.which("iptables-save") is None:
        return []
    return subprocess.run(["iptables-save"], capture_output=True, text=True).stdout.splitlines()


def _drop_chains(kept: set[str]) -> None:
    ours = {(table, chain) for table, chain in _chains() if f"{table} {chain}" not in kept}
    table = ""
    for line in _saved():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            words = re.findall(r'"[^"]*"|\S+', line)
            chain, target = words[1], words[words.index("-j") + 1] if "-j" in words else ""
            if (table, target) in ours and (table, chain) not in ours:
                rule = [word.strip('"') for word in words[1:]]
                subprocess.run(["iptables", "-w", "-t", table, "-D", *rule], capture_output=True)
    for action in ("-F", "-X"):  # empty all of them first: they refer to each other
        for table, chain in sorted(ours):
            subprocess.run(["iptables", "-w", "-t", table, action, chain], capture_output=True)


def _run(*command: str) -> None:
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        raise Trouble(f"{' '.join(command)}: {answer.stderr.strip()}")
