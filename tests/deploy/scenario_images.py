"""What is in the images, and what must not be."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deploy.support.engine import LABEL, ROOT, RUN, docker
from deploy.support.images import Images

sys.path.insert(0, str(ROOT / "deploy" / "image"))

TOOLS = "gcc cc g++ make ld pip pip3 git curl wget debootstrap"
OWN = ["/data", "/run/redis-password"]  # of the user of the image
NAMES = ("trunkline", "example", "redis", "nginx")


def inside(image: str, *command: str) -> str:
    return docker("run", "--rm", "--label", f"{LABEL}={RUN}", "--network", "none", "--read-only", image, *command)


@pytest.fixture(params=NAMES)
def image(request: pytest.FixtureRequest, images: Images) -> str:
    return str(getattr(images, request.param))


def test_nothing_runs_as_root(image: str) -> None:
    assert inside(image, "id", "-u").strip() != "0"


def test_no_build_tool_is_left(image: str) -> None:
    look = f"for each in {TOOLS}; do command -v $each; done; python3 -m pip --version 2>/dev/null; true"
    assert inside(image, "sh", "-c", look) == ""


def test_nobody_can_become_root_by_a_file_of_the_project(images: Images) -> None:
    # Everything that is started belongs to root, and only /data and the password's place to the user.
    look = "find / -xdev -user trunkline -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null; true"
    assert sorted(inside(images.example, "sh", "-c", look).split()) == OWN


def test_no_secret_of_the_build_is_left(image: str) -> None:
    """Neither the secrets' contents nor their files, in no layer's command."""
    import build
    from debian import Trouble

    look = "find /run/secrets /etc/pip.conf /root/.cache -type f -size +0 2>/dev/null; true"
    assert inside(image, "sh", "-c", look) == ""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    environment = json.loads(docker("image", "inspect", image))[0]["Config"]["Env"] or []
    try:
        own = set(build.own_sources().split())
    except Trouble:  # no debootstrap: the base came from a registry
        own = set()
    # Addresses that this machine uses and a Debian image wouldn't: its mirror, its package index.
    private = {word for word in build.apt_sources().decode().split() if "://" in word} - own
    private |= {word for word in build.pip_conf().decode().split() if "://" in word}
    for address in private:
        assert address not in history
        assert address not in "".join(environment)
        found = subprocess.run(
            [
                "docker",
                "run",
                "--rm",
                "--user",
                "0",
                "--network",
                "none",
                image,
                "grep",
                "-rlF",
                address,
                "/etc",
                "/opt",
            ],
            capture_output=True,
            text=True,
        )
        assert found.stdout == ""


def test_the_daphne_of_the_image_says_what_is_missing(images: Images) -> None:
    answer = subprocess.run(["docker", "run", "--rm", images.trunkline], capture_output=True, text=True)
    assert answer.returncode == 1
    assert "DJANGO_SETTINGS_MODULE is empty" in answer.stderr
