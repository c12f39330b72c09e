"""A user's own project, as startproject writes it plus five lines, in the image and under Compose."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.support.chat import Visitor
from deploy.support.compose import GRACE_S, Compose
from deploy.support.engine import ROOT, RUN, docker, run
from deploy.support.images import Images

FIVE_LINES = """
from trunkline.env import channel_layers_from_env
INSTALLED_APPS = ["trunkline", "channels", *INSTALLED_APPS]
CHANNEL_LAYERS = channel_layers_from_env()
ALLOWED_HOSTS = ["*"]
DATABASES["default"]["NAME"] = "/data/db.sqlite3"
"""
# From one container to the other through the project's own CHANNEL_LAYERS.
SCRIPT = """
import asyncio, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
from channels.layers import get_channel_layer
import django
django.setup()

async def main(what):
    layer = get_channel_layer()
    if what == "send":
        await layer.send("own", {"type": "own", "text": "hello"})
    else:
        print((await asyncio.wait_for(layer.receive("own"), 30))["text"])
    await layer.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "mysite"
    folder.mkdir()
    run(sys.executable, "-m", "django", "startproject", "mysite", str(folder))
    with (folder / "mysite" / "settings.py").open("a") as settings:
        settings.write(FIVE_LINES)
    return folder


@pytest.fixture(scope="module")
def image(images: Images, project: Path) -> Iterator[str]:
    """Built by the one command of docs/how-to/compose.md."""
    name = f"trunkline-test-own:{RUN}"
    arguments = ["--target", "project", "--build-arg", f"TRUNKLINE={images.trunkline}"]
    arguments += ["--build-arg", "APPLICATION=mysite.asgi:application"]
    dockerfile = ["--file", str(ROOT / "deploy" / "image" / "Dockerfile")]
    docker("build", "--tag", name, *dockerfile, *arguments, str(project), env={**os.environ, "DOCKER_BUILDKIT": "1"})
    yield name
    docker("image", "rm", "--force", name)


def test_it_runs_under_compose_with_two_variables(image: str) -> None:
    variables = {"TRUNKLINE_IMAGE": image, "ASGI_APPLICATION": "mysite.asgi:application"}
    # It has no background jobs.
    with Compose("own", **variables, WORKER_REPLICAS="0") as compose:
        try:
            compose.up()
            with Visitor(compose.url) as visitor:
                assert b"The install worked successfully" in visitor.get("/")
                # A page that reads the tables of the migrations.
                assert b"csrfmiddlewaretoken" in visitor.get("/admin/login/")
            first, second = compose.of("daphne")
            first.exec("python3", "-c", SCRIPT, "send")
            assert second.exec("python3", "-c", SCRIPT, "receive").strip() == "hello"
            for container in [*compose.of("nginx"), first, second, *compose.of("redis")]:
                container.stop(GRACE_S)
        except BaseException:
            compose.show()
            raise
