"""The chart as a user installs it, in a namespace of its own that takes restricted pods alone."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import re
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from cluster import lifecycle, node
from cluster.build import built
from cluster.places import KUBECONFIG
from deploy.support.engine import ROOT, RUN, Failed, run, until
from deploy.support.relay import Relay

CHART = ROOT / "deploy" / "helm" / "trunkline"
INSTALL_DEADLINE_S = 180


class Cluster:
    """The cluster that KUBECONFIG names, or the one of ``make cluster``, started if need be and then ended again."""

    def __init__(self) -> None:
        there = lifecycle.running()
        self.kubeconfig = lifecycle.up()
        self.ours = self.kubeconfig == KUBECONFIG
        self._started = self.ours and not there
        self._programs = built()

    def close(self) -> None:
        if self._started:
            lifecycle.down()

    def load(self, *images: str) -> None:
        """Bring images from Docker to the node; to a cluster that isn't ours somebody else has to bring them."""
        if self.ours:
            with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
                node.load("-", save.stdout)
            assert save.returncode == 0

    def command(self, program: str, *arguments: str) -> list[str]:
        return [str(self._programs / program), f"--kubeconfig={self.kubeconfig}", *arguments]

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return run(*self.command("kubectl", *arguments), env=environ(), **options)

    def helm(self, *arguments: str, **options: Any) -> str:
        return run(*self.command("helm", *arguments), env=environ(), **options)


def environ() -> dict[str, str]:
    """Without what could lead kubectl and helm elsewhere."""
    strange = ("KUBE", "HELM_")
    return {k: v for k, v in os.environ.items() if not k.startswith(strange) and not k.lower().endswith("_proxy")}


@dataclass
class Pod:
    """What a watch saw of a pod last."""

    facts: dict[str, Any]
    asked: datetime.datetime | None = None  # when somebody deleted it

    def __repr__(self) -> str:
        return f"<Pod {self.name}>"

    @property
    def name(self) -> str:
        return str(self.facts["metadata"]["name"])

    @property
    def component(self) -> str:
        return str(self.facts["metadata"]["labels"].get("app.kubernetes.io/component"))

    @property
    def leaves(self) -> bool:
        return "deletionTimestamp" in self.facts["metadata"]

    @property
    def ready(self) -> bool:
        conditions = self.facts["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    @property
    def containers(self) -> list[dict[str, Any]]:
        status = self.facts["status"]
        return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]

    @property
    def restarts(self) -> int:
        return sum(each["restartCount"] for each in self.containers)

    def ended_well(self) -> float:
        """Every container's exit code is 0, within the grace. Returns the seconds from the request to the end."""
        took = 0.0
        for container in self.containers:
            end = container["state"].get("terminated")
            assert end, f"{self}: {container['name']} was not seen to end, but {container['state']}"
            assert end["exitCode"] == 0, f"{self}: {container['name']} ended with {end['exitCode']} ({end['reason']})"
            assert end["reason"] == "Completed", f"{self}: {container['name']} ended with {end['reason']}"
            if self.asked:
                took = max(took, (_time(end["finishedAt"]) - self.asked).total_seconds())
                limit = self.facts["spec"]["terminationGracePeriodSeconds"]
                assert took < limit, f"{self} took {took:g} s of {limit} s"
        return took


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclass
class Release:
    """One `helm install` in one namespace.

    :ivar gone: pods that were deleted, as they were seen last.
    """

    cluster: Cluster
    title: str
    name: str = "demo"
    gone: list[Pod] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namespace = f"trunkline-test-{self.title}-{RUN}"
        self.service = f"{self.name}-trunkline"
        self._pods: dict[str, Pod] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Release:
        self.cluster.kubectl("create", "namespace", self.namespace)
        self._stack.callback(self.cluster.kubectl, "delete", "namespace", self.namespace, "--wait=true")
        level = "pod-security.kubernetes.io/enforce=restricted"
        self.cluster.kubectl("label", "namespace", self.namespace, level)
        arguments = (
            f"--namespace={self.namespace}",
            "get",
            "pods",
            "--watch",
            "--output-watch-events",
            "--output=json",
        )
        watch = subprocess.Popen(
            self.cluster.command("kubectl", *arguments), env=environ(), stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(watch.wait)
        self._stack.callback(watch.terminate)
        threading.Thread(target=self._watch, args=(watch,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _watch(self, watch: subprocess.Popen[str]) -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            event = json.loads(line)  # each event is one line
            pod = Pod(event["object"])
            before = self._pods.get(pod.name)
            pod.asked = before.asked if before else None
            if pod.leaves and pod.asked is None:  # later the kubelet shortens the grace
                metadata = pod.facts["metadata"]
                grace = datetime.timedelta(seconds=metadata["deletionGracePeriodSeconds"])
                pod.asked = _time(metadata["deletionTimestamp"]) - grace
            if event["type"] == "DELETED":
                self._pods.pop(pod.name, None)
                self.gone.append(pod)
            else:
                self._pods[pod.name] = pod

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, **options)

    def helm(self, *arguments: str, **options: Any) -> str:
        return self.cluster.helm(f"--namespace={self.namespace}", *arguments, **options)

    def install(self, *arguments: str) -> None:
        self.helm("install", self.name, str(CHART), *self._wait, *arguments, deadline_s=INSTALL_DEADLINE_S + 30.0)

    def upgrade(self, *arguments: str) -> None:
        """Upgrade, and wait until the pods of before are gone, too."""
        self.helm("upgrade", self.name, str(CHART), *self._wait, *arguments, deadline_s=INSTALL_DEADLINE_S + 30.0)
        until(lambda: not any(pod.leaves for pod in list(self._pods.values())), "end of the old pods", 90)

    @property
    def _wait(self) -> list[str]:
        return ["--wait", "--wait-for-jobs", f"--timeout={INSTALL_DEADLINE_S}s"]

    def of(self, component: str) -> list[Pod]:
        """The pods of a component that aren't about to leave."""
        return [pod for pod in list(self._pods.values()) if pod.component == component and not pod.leaves]

    def delete(self, pod: Pod) -> float:
        """Delete a pod; it has to end by itself, with 0. Returns the seconds that it took."""
        self.kubectl("delete", "pod", pod.name, "--wait=true")
        return self.last(pod).ended_well()

    def last(self, pod: Pod) -> Pod:
        """The pod as it was seen last, after its end."""

        def seen() -> Pod | None:
            return next((each for each in self.gone if each.name == pod.name), None)

        found = until(seen, f"end of {pod}", 60)
        assert isinstance(found, Pod)
        return found

    def full(self, component: str, count: int) -> None:
        """Wait until so many pods are ready."""
        until(lambda: sum(p.ready for p in self.of(component)) == count, f"{count} ready {component} pods", 90)

    def secret(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.kubectl("get", "secret", self.service, "--output=json"))["data"]
        return found

    def door(self) -> Relay:
        """A door to the service, load balancing and all."""
        if self.cluster.ours:
            spec = json.loads(self.kubectl("get", "service", self.service, "--output=json"))["spec"]
            return Relay(lambda: (spec["clusterIP"], spec["ports"][0]["port"]))
        # The services of another cluster aren't reached from here, but its pods are through its API server.
        forwards = Forwards(self)
        return Relay(forwards.target, forwards.close)

    def show(self) -> None:
        """Print what somebody needs who looks for the reason of a failure."""
        for arguments in (
            ("get", "all,pvc", "--output=wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", f"--selector=app.kubernetes.io/instance={self.name}", "--all-containers", "--prefix", "--tail=40"),
        ):
            with contextlib.suppress(Failed):
                print(f"--- kubectl {' '.join(arguments)} ---\n{self.kubectl(*arguments)[-6000:]}")


class Forwards:
    """``kubectl port-forward`` to each Daphne pod; a connection goes to any of those that are ready."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._lock = threading.Lock()
        self._open: dict[str, tuple[subprocess.Popen[str], int]] = {}

    def target(self) -> tuple[str, int]:
        """:raises OSError: when there is none."""
        names = [pod.name for pod in self._release.of("daphne") if pod.ready]
        if not names:
            raise ConnectionRefusedError("no Daphne pod is ready")
        name = random.choice(names)
        with self._lock:
            if name not in self._open or self._open[name][0].poll() is not None:
                here = f"--namespace={self._release.namespace}"
                command = self._release.cluster.command("kubectl", here, "port-forward", f"pod/{name}", ":8000")
                process = subprocess.Popen(command, env=environ(), stdout=subprocess.PIPE, text=True)
                assert process.stdout is not None
                found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
                if found is None:
                    process.wait()
                    raise ConnectionRefusedError(f"{name} is gone")
                self._open[name] = (process, int(found[1]))
            return "127.0.0.1", self._open[name][1]

    def close(self) -> None:
        for process, _ in self._open.values():
            process.terminate()
            process.wait()


def values() -> Path:
    return CHART / "values.yaml"
