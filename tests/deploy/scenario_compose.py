"""`docker compose up --wait`: two people chat, everything is restarted, everything stops."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from deploy.support.chat import Visitor, apart, show_picture, talk, works_again
from deploy.support.compose import GRACE_S, Compose
from deploy.support.engine import until
from deploy.support.images import Images


@pytest.fixture(scope="module")
def compose(images: Images) -> Iterator[Compose]:
    with Compose("compose") as stack:
        try:
            stack.up()
        except BaseException:
            stack.show()
            raise
        yield stack


@pytest.fixture(autouse=True)
def _logs(compose: Compose, request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        compose.show()


@pytest.fixture
def pair(compose: Compose) -> Iterator[tuple[Visitor, Visitor]]:
    """Two visitors, served by different Daphne containers."""
    with Visitor(compose.url, "Ada") as ada, Visitor(compose.url, "Bob") as bob:
        apart(ada, bob)
        yield ada, bob


def test_two_people_on_different_daphne_containers_chat_at_once_when_up_returns(
    compose: Compose, pair: tuple[Visitor, Visitor]
) -> None:
    talk(*pair)
    hosts = {visitor.server["host"] for visitor in pair}
    assert hosts == {container.host for container in compose.of("daphne")}
    assert [visitor.server["process_id"] for visitor in pair] == [1, 1]


def test_a_large_picture_gets_a_thumbnail_from_the_worker(
    compose: Compose, pair: tuple[Visitor, Visitor], picture: bytes
) -> None:
    made_by = show_picture(*pair, picture=picture)
    assert made_by["host"] == compose.of("worker")[0].host
    assert made_by["process_id"] == 1


def test_a_client_cannot_choose_its_address(compose: Compose) -> None:
    with Visitor(compose.url) as visitor:
        visitor.get("/whoami?forged", X_Forwarded_For="192.0.2.66")
    lines = [line for each in compose.of("daphne") for line in each.logs().splitlines() if "/whoami?forged" in line]
    assert len(lines) == 1
    assert "192.0.2.66" not in lines[0]


def test_redis_asks_for_a_password_evicts_nothing_and_is_not_published(compose: Compose) -> None:
    (redis,) = compose.of("redis")
    assert "NOAUTH" in redis.exec("redis-cli", "ping")
    ask = "REDISCLI_AUTH=$(cat /run/redis-password/password) redis-cli config get maxmemory-policy"
    assert redis.exec("sh", "-c", ask).split() == ["maxmemory-policy", "noeviction"]
    assert not any(redis.facts["NetworkSettings"]["Ports"].values())


@pytest.mark.parametrize("service", ["daphne", "worker", "redis", "nginx"])
def test_each_container_stops_in_time_and_the_chat_works_again_without_a_hand(
    compose: Compose, pair: tuple[Visitor, Visitor], small_picture: bytes, service: str
) -> None:
    for container in compose.of(service):
        try:
            took = container.stop(GRACE_S)
        finally:
            container.start()
        works_again(*pair, picture=small_picture)
        print(f"{container.name} stopped in {took:.1f} s")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can kill a container's process from outside")
@pytest.mark.parametrize("service", ["daphne", "worker", "redis"])
def test_a_process_that_is_killed_comes_back_by_itself(
    compose: Compose, pair: tuple[Visitor, Visitor], small_picture: bytes, service: str
) -> None:
    container = compose.of(service)[0]
    before = container.started
    os.kill(container.pid, signal.SIGKILL)
    until(lambda: container.started != before, f"new start of {container}")
    container.well()
    works_again(*pair, picture=small_picture)


def test_more_containers_share_the_work_as_soon_as_they_are_there(
    compose: Compose, pair: tuple[Visitor, Visitor], small_picture: bytes
) -> None:
    compose.up("--scale", "worker=3", "--scale", "daphne=3", "--no-recreate")
    workers = {container.host for container in compose.of("worker")}
    daphnes = {container.host for container in compose.of("daphne")}
    assert len(workers) == len(daphnes) == 3
    with Visitor(compose.url) as visitor:
        seen: set[str] = set()

        def all_seen() -> bool:
            seen.add(visitor.enter().server["host"])
            return seen == daphnes

        until(all_seen, "socket on each of three Daphne containers", 60)
        made: set[str] = set()

        def all_made() -> bool:
            made.add(show_picture(visitor, picture=small_picture)["host"])
            return made == workers

        until(all_made, "thumbnail by each of three workers", 120)
    talk(*pair)


def test_a_stop_under_open_sockets_ends_every_process_with_0(compose: Compose, pair: tuple[Visitor, Visitor]) -> None:
    begin = time.monotonic()
    compose("stop")
    assert time.monotonic() - begin < GRACE_S
    for container in compose.all():
        container.ended_well()
