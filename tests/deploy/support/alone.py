"""Single containers and networks by testcontainers, under the label by which everything is removed in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from deploy.support.engine import LABEL, RUN, Container, docker

LABELS = {LABEL: RUN}


@contextmanager
def network() -> Iterator[Network]:
    with Network(docker_network_kw={"labels": LABELS}) as made:
        yield made


@contextmanager
def volume(name: str) -> Iterator[str]:
    """A volume; its name."""
    full = f"trunkline-test-{name}-{RUN}"
    docker("volume", "create", "--label", f"{LABEL}={RUN}", full)
    try:
        yield full
    finally:
        docker("volume", "rm", "--force", full)


def container(image: str, *command: str) -> DockerContainer:
    """A container that is still to be configured and started; locked down as in Compose."""
    made = DockerContainer(image).with_tmpfs_mount("/tmp")
    if command:
        made.with_command(list(command))
    locked = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    return made.with_kwargs(labels=LABELS, **locked)


def of(started: DockerContainer) -> Container:
    return Container(str(started.get_wrapped_container().id))


def finished(container: DockerContainer) -> str:
    """Wait until the container has ended, with 0; its output."""
    with container:
        found = of(container)
        code = docker("wait", found.id, deadline_s=120).strip()
        text = found.logs()
    assert code == "0", f"ended with {code}:\n{text}"
    return text
