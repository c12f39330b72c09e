"""Up and down, in order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cluster import control_plane, host, node, state
from cluster.build import built
from cluster.places import CONTAINERD, HERE, KUBECONFIG, NODE, Trouble

LOCK = Path("/run/trunkline-cluster.lock")
READY_DEADLINE_S = 120.0
DRAIN_DEADLINE_S = 90.0
# In the order of their ends: first what starts containers, last what remembers.
PARTS = ("kubelet", "kube-proxy", "storage", "containerd", "kube-scheduler", "kube-controller-manager")
LAST_PARTS = ("kube-apiserver", "etcd")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One `up` or `down` at a time on this machine."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up() -> Path:
    """Start the cluster, or find it running.

    :returns: the kubeconfig to use.
    :raises Trouble: when it doesn't become ready; what was started stays for a look, `down` removes it.
    """
    given = os.environ.get("KUBECONFIG", "")
    if given and given != str(KUBECONFIG):
        if not answers(Path(given)):
            raise Trouble(f"KUBECONFIG names {given}, whose cluster doesn't answer; unset it to have one started here.")
        print(f"The cluster of KUBECONFIG={given} answers; nothing is started.")
        return Path(given)
    if os.geteuid() != 0:
        raise Trouble("The cluster needs root for its containers and its network: run it as root.")
    with alone():
        if state.read():
            if running():
                return KUBECONFIG
            print("A cluster was there and isn't whole any more; removing it first.", flush=True)
            _down()
        begin = time.monotonic()
        host.fit()
        programs = built()
        started = time.monotonic()
        print("Starting the cluster ...", flush=True)
        state.write({"before": host.before(), "programs": str(programs)})
        host.prepare()
        control_plane.start(programs)
        node.start(programs)
        kubectl("apply", "--filename", str(HERE / "addons.yaml"))
        state.until(lambda: _is("node", NODE), "node", READY_DEADLINE_S)
        kubectl("wait", "node", NODE, "--for=condition=Ready", f"--timeout={READY_DEADLINE_S:.0f}s")
        rollout = ("rollout", "status", "deployment/dns", "--namespace=kube-system")
        kubectl(*rollout, f"--timeout={READY_DEADLINE_S:.0f}s")
        now = time.monotonic()
        print(f"The cluster is ready ({now - started:.0f} s, with what came before it {now - begin:.0f} s).")
    return KUBECONFIG


def down() -> None:
    """End everything that `up` started and remove what it left."""
    if os.geteuid() != 0:
        raise Trouble("What root started, root has to stop: run it as root.")
    with alone():
        if not state.read():
            LOCK.unlink()
            print("No cluster of ours is here.")
            return
        begin = time.monotonic()
        _down()
        LOCK.unlink()
        print(f"The cluster is gone ({time.monotonic() - begin:.0f} s).")


def _down() -> None:
    if state.alive("kube-apiserver") and state.alive("kubelet"):
        # The kubelet takes pods down best: networks, mounts and all. No new ones come to a node that is closed.
        print("Ending the pods ...", flush=True)
        with contextlib.suppress(Trouble, subprocess.TimeoutExpired):
            kubectl("cordon", NODE)
            kubectl("delete", "jobs,daemonsets", "--all", "--all-namespaces", "--wait=false")
            kubectl("delete", "pods", "--all", "--all-namespaces", "--grace-period=5", f"--timeout={DRAIN_DEADLINE_S}s")
            state.until(lambda: not node.remains(), "end of the containers", DRAIN_DEADLINE_S)
    for name in PARTS:
        state.stop(name)
        if name == "kubelet":
            # Whatever runs by now is nobody's; its shims know our containerd by its address.
            for pid in _shims():
                for child in (*_children(pid), pid):
                    state.end_process(child, state.begun(child), 5.0)
    for name in LAST_PARTS:
        state.stop(name)
    host.restore(state.read()["before"])


def running() -> bool:
    """Whether every part runs and the API server answers."""
    return all(state.alive(name) for name in (*PARTS, *LAST_PARTS)) and answers(KUBECONFIG)


def answers(kubeconfig: Path) -> bool:
    try:
        kubectl("get", "--raw=/readyz", kubeconfig=kubeconfig, deadline_s=10.0)
    except (Trouble, subprocess.TimeoutExpired):
        return False
    return True


def kubectl(*arguments: str, kubeconfig: Path = KUBECONFIG, deadline_s: float = 300.0) -> str:
    """:raises Trouble: with what kubectl says."""
    command = [str(built() / "kubectl"), f"--kubeconfig={kubeconfig}", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s)
    if answer.returncode != 0:
        raise Trouble(f"kubectl {' '.join(arguments)}: {answer.stderr.strip()}")
    return answer.stdout


def _is(kind: str, name: str) -> bool:
    with contextlib.suppress(Trouble):
        return bool(kubectl("get", kind, name, "--ignore-not-found", "--output=name"))
    return False


def _shims() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"containerd-shim" in words[0] and str(CONTAINERD).encode() in words:
                    found.append(int(entry.name))
    return found


def _children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found
