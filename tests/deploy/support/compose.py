"""The Compose dress as a user starts it, under a project name of its own."""

from __future__ import annotations

import os
import re
from types import TracebackType

from deploy.support.engine import ROOT, RUN, Container, containers, docker, remove
from support.servers import free_port

GRACE_S = 40  # what compose.yaml gives
# What a developer's shell may hold and a test must not inherit.
FOREIGN = re.compile(
    r"REDIS_|NGINX_|CHANNEL_LAYERS_|TRUNKLINE_|DJANGO_|DAPHNE_|WORKER_|CHAT_|ASGI_|DATABASE_URL|COMPOSE_"
)


class Compose:
    """``docker compose`` in the root of the repository.

    :param name: of the scenario, a part of the project's name.
    :param variables: as one would write them into .env.
    """

    def __init__(self, name: str, **variables: str) -> None:
        self.project = f"trunkline-test-{name}-{RUN}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = {key: value for key, value in os.environ.items() if not FOREIGN.match(key)}
        self._environ |= {"TRUNKLINE_PUBLISH": f"127.0.0.1:{self.port}", "TRUNKLINE_PULL": "never"}
        self._environ |= {"TRUNKLINE_ENV_FILE": os.devnull, **variables}

    def __call__(self, *arguments: str, deadline_s: float = 300.0) -> str:
        command = ["compose", "--project-name", self.project, "--env-file", os.devnull, *arguments]
        return docker(*command, cwd=ROOT, env=self._environ, deadline_s=deadline_s)

    def __enter__(self) -> Compose:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.show()
        remove(f"label=com.docker.compose.project={self.project}")

    def up(self, *arguments: str) -> None:
        """What the README says: returns when the chat is usable."""
        self("up", "--detach", "--wait", *arguments)

    def of(self, service: str) -> list[Container]:
        """The containers of a service, stopped ones too."""
        project = f"label=com.docker.compose.project={self.project}"
        return containers(project, f"label=com.docker.compose.service={service}")

    def all(self) -> list[Container]:
        return containers(f"label=com.docker.compose.project={self.project}")

    def show(self) -> None:
        """Print what somebody needs who looks for the reason of a failure."""
        print(docker("ps", "--all", "--filter", f"label=com.docker.compose.project={self.project}"))
        for container in self.all():
            print(f"--- {container.name} ---\n{container.logs()[-3000:]}")
