"""Everything in one container under supervisord: two Daphne processes, a worker, and a Redis of its own or none."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploy.support import alone
from deploy.support.chat import Visitor, apart, show_picture, talk, works_again
from deploy.support.engine import Container, until
from deploy.support.images import Images

GRACE_S = 50  # stop grace of the processes (40 s), supervisord's own 5 s, and some
# Finds processes by a word of their command line, as there is no ps; prints their numbers.
FIND = """
import pathlib, sys
for each in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        line = (each / "cmdline").read_bytes().replace(b"\\0", b" ").decode()
    except OSError:
        continue
    if sys.argv[1] in line and "import pathlib" not in line:
        print(each.name)
"""
KILL = "import os, sys; os.kill(int(sys.argv[1]), 9)"
LAYERS = {
    "redis": {"TRUNKLINE_LOCAL_REDIS": "1"},
    "ipc": {"CHANNEL_LAYERS_BACKEND": "trunkline.IPCChannelLayer"},
}


@pytest.fixture(scope="module", params=LAYERS)
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stack(images: Images, layer: str) -> Iterator[tuple[Container, str]]:
    """The container, and the address of the chat in it."""
    with alone.volume(f"supervisord-{layer}") as data:
        migrate = alone.container(images.example, "trunkline", "migrate").with_volume_mapping(data, "/data", "rw")
        alone.finished(migrate.with_env("CHANNEL_LAYERS_BACKEND", "trunkline.IPCChannelLayer"))
        server = alone.container(images.example, "python3", "-m", "trunkline_supervisor").with_volume_mapping(
            data, "/data", "rw"
        )
        server.with_envs(ASGI_PROCESSES="2", TRUNKLINE_WORKER_CHANNELS="thumbnail", **LAYERS[layer])
        with server.with_exposed_ports(8000) as started:
            container = alone.of(started)
            url = f"http://127.0.0.1:{started.get_exposed_port(8000)}"
            try:
                until(lambda: answers(container), "answer of Daphne", 60)
                yield container, url
            finally:
                print(f"--- {container.name} ---\n{container.logs()[-6000:]}")


def answers(container: Container) -> bool:
    assert container.facts["State"]["Status"] == "running", container.logs()
    try:
        container.exec("trunkline", "health", "daphne")
    except AssertionError:
        return False
    return True


def processes(container: Container, word: str) -> list[str]:
    return container.exec("python3", "-c", FIND, word).split()


@pytest.fixture
def pair(stack: tuple[Container, str]) -> Iterator[tuple[Visitor, Visitor]]:
    """Two visitors, served by different Daphne processes."""
    with Visitor(stack[1], "Ada") as ada, Visitor(stack[1], "Bob") as bob:
        apart(ada, bob, "process_id")
        yield ada, bob


def test_two_people_on_different_daphne_processes_chat(pair: tuple[Visitor, Visitor], picture: bytes) -> None:
    talk(*pair)
    made_by = show_picture(*pair, picture=picture)
    assert made_by["process_id"] not in {visitor.server["process_id"] for visitor in pair}


@pytest.mark.parametrize("word", ["daphne --fd", "runworker", "redis-server"])
def test_a_process_that_is_killed_comes_back_by_itself(
    stack: tuple[Container, str], pair: tuple[Visitor, Visitor], small_picture: bytes, layer: str, word: str
) -> None:
    container = stack[0]
    found = processes(container, word)
    if word == "redis-server" and layer == "ipc":
        assert not found  # this layer needs none
        return
    for number in found:
        container.exec("python3", "-c", KILL, number)

        def replaced(number: str = number) -> bool:
            now = processes(container, word)
            return len(now) == len(found) and number not in now

        until(replaced, f"new process for {number}, {word}", 30)
        works_again(*pair, picture=small_picture)


def test_the_container_stops_in_time_with_0_and_starts_again(
    stack: tuple[Container, str], pair: tuple[Visitor, Visitor]
) -> None:
    container, _ = stack
    begin = time.monotonic()
    took = container.stop(GRACE_S)
    assert took <= time.monotonic() - begin
    container.start()
    until(lambda: answers(container), "answer of Daphne after the restart", 60)
    assert processes(container, "runworker")
