"""The three ways in which Tethys' documentation writes CHANNEL_LAYERS_CONFIG, each through a real container."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.core.network import Network

from deploy.support import alone
from deploy.support.compose import FOREIGN
from deploy.support.engine import LABEL, RUN, docker
from deploy.support.images import Images

# The line as the documentation has it, for both kinds of env file.
VALUE = r""""\"{'hosts':[{'host': 'redis', 'port': 6379}]}\""  # Hostname is the name of the service"""
LINE = f"CHANNEL_LAYERS_CONFIG={VALUE}"
DOCKERFILE = r"""ENV CHANNEL_LAYERS_CONFIG="\"{'hosts':[{'host':\ 'redis',\ 'port':\ 6379}]}\"" """
# What a process in the container then really finds.
FOUND = {
    "dockerfile": r"""{'hosts':[{'host':\ 'redis',\ 'port':\ 6379}]}""",
    "compose": r"""{'hosts':[{'host': 'redis', 'port': 6379}]}""",
    "run": VALUE,
}
FOUND = {form: value if form == "run" else f'"{value}"' for form, value in FOUND.items()}

# Says what it found, sends to the network's Redis, and receives what a process with a plain REDIS_URL has sent.
SCRIPT = """
import asyncio, json, os, subprocess, sys
from trunkline.env import channel_layers_from_env
from django.utils.module_loading import import_string

async def main(inbox, outbox):
    given = channel_layers_from_env()["default"]
    layer = import_string(given["BACKEND"])(**given["CONFIG"])
    await layer.send(outbox, {"type": "form", "from": outbox})
    heard = await asyncio.wait_for(layer.receive(inbox), 30)
    await layer.close()
    config = subprocess.run(["trunkline", "config"], capture_output=True, text=True).stdout
    print(json.dumps({"value": os.environ.get("CHANNEL_LAYERS_CONFIG"), "heard": heard["from"], "config": config}))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def net(images: Images) -> Iterator[Network]:
    """A network with a Redis named redis."""
    with alone.network() as made:
        redis = alone.container(images.redis).with_network(made).with_network_aliases("redis")
        with redis:
            yield made


@pytest.mark.parametrize("form", FOUND)
def test_the_value_arrives_as_documented_and_the_layer_talks(
    images: Images, net: Network, tmp_path: Path, form: str
) -> None:
    start = {"dockerfile": by_dockerfile, "compose": by_compose, "run": by_run}[form]
    # The other side runs at the same time, in a container that is configured plainly.
    other = alone.container(images.trunkline, "python3", "-c", SCRIPT, f"to-{form}", f"from-{form}").with_network(net)
    with other.with_env("REDIS_URL", "redis://redis:6379/0") as plain:
        said = json.loads(start(images, net, tmp_path, ["python3", "-c", SCRIPT, f"from-{form}", f"to-{form}"]))
        assert docker("wait", alone.of(plain).id, deadline_s=60).strip() == "0", alone.of(plain).logs()
        answer = json.loads(alone.of(plain).logs())
    assert said["value"] == FOUND[form]
    assert said["heard"] == f"from-{form}"
    assert answer["heard"] == f"to-{form}"
    assert "backend: trunkline.RedisChannelLayer\nhosts[0]: redis://redis:6379" in said["config"]


def by_dockerfile(images: Images, net: Network, folder: Path, command: list[str]) -> str:
    (folder / "Dockerfile").write_text(f"FROM {images.trunkline}\n{DOCKERFILE}\n")
    name = f"trunkline-test-env:{RUN}"
    docker("build", "--quiet", "--tag", name, str(folder))
    try:
        return docker("run", "--rm", "--label", f"{LABEL}={RUN}", "--network", net.name, name, *command)
    finally:
        docker("image", "rm", "--force", name)


def by_run(images: Images, net: Network, folder: Path, command: list[str]) -> str:
    (folder / "env").write_text(LINE + "\n")
    options = ["--rm", "--label", f"{LABEL}={RUN}", "--network", net.name, "--env-file", str(folder / "env")]
    return docker("run", *options, images.trunkline, *command)


def by_compose(images: Images, net: Network, folder: Path, command: list[str]) -> str:
    (folder / "env").write_text(LINE + "\n")
    service = {"image": images.trunkline, "env_file": ["env"], "networks": ["outside"], "labels": {LABEL: RUN}}
    network = {"outside": {"external": True, "name": net.name}}
    # JSON is YAML, too.
    (folder / "compose.yaml").write_text(json.dumps({"services": {"form": service}, "networks": network}))
    environ = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    arguments = ["--project-name", f"trunkline-test-env-{RUN}", "run", "--rm", "-T", "form"]
    return docker("compose", *arguments, *command, cwd=folder, env=environ)
