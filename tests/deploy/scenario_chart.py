"""`helm install`: two people chat, every pod is replaced, upgrades keep what they should, everything stops."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.scenario_own_project import SCRIPT, image, project
from deploy.support.chart import CHART, Cluster, Pod, Release, values
from deploy.support.chat import Visitor, apart, show_picture, talk, works_again
from deploy.support.engine import Failed
from deploy.support.images import Images

__all__ = ["image", "project"]  # fixtures


@pytest.fixture(scope="module")
def cluster(images: Images) -> Iterator[Cluster]:
    found = Cluster()
    try:
        found.load(images.example, images.redis)
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Release]:
    """`helm install demo deploy/helm/trunkline`, no more."""
    with Release(cluster, "chat") as found:
        try:
            found.install()
        except BaseException:
            found.show()
            raise
        yield found


@pytest.fixture
def _logs(release: Release, request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        release.show()


@pytest.fixture(scope="module")
def url(release: Release) -> Iterator[str]:
    with release.door() as door:
        yield door.url


@pytest.fixture
def pair(url: str, _logs: None) -> Iterator[tuple[Visitor, Visitor]]:
    """Two visitors, served by different Daphne pods."""
    with Visitor(url, "Ada") as ada, Visitor(url, "Bob") as bob:
        apart(ada, bob)
        yield ada, bob


# --- what it renders ---


def leaves(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def compare(given: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> list[str]:
    """Where the values and their schema differ."""
    found = []
    properties = schema["properties"]
    for name in sorted(set(properties) ^ set(given) - {"global"}):
        if name != "global":
            found.append(f"{path}{name}")
    assert schema["additionalProperties"] is False, path
    for name, value in given.items():
        inner = leaves(properties.get(name, {}), definitions)
        if isinstance(value, dict) and "properties" in inner and "requests" not in inner["properties"]:
            found += compare(value, inner, definitions, f"{path}{name}.")
    return found


def test_the_schema_knows_each_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert compare(yaml.safe_load(values().read_text()), schema, schema["$defs"]) == []


def test_each_value_is_explained_above_it() -> None:
    lines = values().read_text().splitlines()
    for number, line in enumerate(lines):
        key = re.fullmatch(r"(?: {0,2}|    )([A-Za-z]+): \S.*", line)
        if key is None or key[1] in ("requests", "limits"):
            continue
        above = number - 1
        while lines[above].lstrip().startswith("#") and "# -- " not in lines[above]:
            above -= 1
        assert "# -- " in lines[above], f"values.yaml:{number + 1}: {line.strip()} has no '# --' above it"


@pytest.mark.parametrize("file", sorted(CHART.glob("ci/*.yaml")), ids=lambda path: path.stem)
def test_the_api_server_accepts_what_it_renders(cluster: Cluster, file: Path) -> None:
    cluster.helm("lint", str(CHART), "--strict", f"--values={file}")
    rendered = cluster.helm("template", "demo", str(CHART), f"--values={file}")
    arguments = ("apply", "--dry-run=server", "--validate=strict", "--filename=-")
    assert "configured" not in cluster.kubectl(*arguments, input=rendered)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("workerz=1", "'workerz' not allowed"),
        ("image.tagg=1", "'tagg' not allowed"),
        ("workers[0].name=Pictures", "does not match pattern"),
        ("redis.url=redis://elsewhere", "set redis.enabled=false"),
        ("channelLayers.config.hosts[0]=redis://elsewhere", "set redis.enabled=false"),
        ("ingress.enabled=true", "at least one name in ingress.hosts"),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence(cluster: Cluster, values: str, sentence: str) -> None:
    with pytest.raises(Failed, match=re.escape(sentence)):
        cluster.helm("template", "demo", str(CHART), "--set", values)


# --- the chat ---


def test_two_people_on_different_daphne_pods_chat_after_an_install_without_values(
    release: Release, pair: tuple[Visitor, Visitor]
) -> None:
    talk(*pair)
    assert {visitor.server["host"] for visitor in pair} == {pod.name for pod in release.of("daphne")}
    assert [visitor.server["process_id"] for visitor in pair] == [1, 1]


def test_a_large_picture_gets_a_thumbnail_from_the_worker_pod(
    release: Release, pair: tuple[Visitor, Visitor], picture: bytes
) -> None:
    made_by = show_picture(*pair, picture=picture)
    assert made_by["host"] == release.of("worker")[0].name
    assert made_by["process_id"] == 1


@pytest.mark.usefixtures("_logs")
def test_helm_test_opens_the_page_and_exchanges_a_message(release: Release) -> None:
    said = release.helm("test", release.name, "--logs")
    assert "/ answered 200" in said
    assert "a message over /ws/rooms/lobby/ arrived at both sockets" in said


def test_redis_asks_for_a_password_and_evicts_nothing(release: Release) -> None:
    redis = f"deployment/{release.service}-redis"
    assert "NOAUTH" in release.kubectl("exec", redis, "--", "redis-cli", "ping")
    ask = "REDISCLI_AUTH=$(cat /run/redis-password/password) redis-cli config get maxmemory-policy"
    assert release.kubectl("exec", redis, "--", "sh", "-c", ask).split() == ["maxmemory-policy", "noeviction"]


@pytest.mark.parametrize("component", ["daphne", "worker", "redis"])
def test_each_pod_is_replaced_and_the_chat_works_again_without_a_hand(
    release: Release, pair: tuple[Visitor, Visitor], small_picture: bytes, component: str
) -> None:
    pods = release.of(component)
    for pod in pods:
        took = release.delete(pod)
        works_again(*pair, picture=small_picture)
        release.full(component, len(pods))
        print(f"{pod.name} ended in {took:.1f} s")
    others = [pod for each in ("daphne", "worker", "redis") for pod in release.of(each)]
    assert [pod.restarts for pod in others] == [0] * len(others), "something else was restarted meanwhile"


# --- upgrades ---


def config_of(release: Release, component: str) -> str:
    """What `trunkline config` says inside a pod."""
    return release.kubectl("exec", release.of(component)[0].name, "--", "trunkline", "config")


def test_an_upgrade_migrates_first_and_keeps_the_passwords_and_the_messages(
    release: Release, url: str, pair: tuple[Visitor, Visitor], small_picture: bytes
) -> None:
    secret, redis = release.secret(), release.of("redis")
    talk(*pair)
    pools = [{"name": "two", "channels": ["thumbnail"], "replicas": 2, "drainTimeout": 10}]
    release.upgrade("--set", "channelLayers.config.capacity=777", "--set-json", f"workers={json.dumps(pools)}")
    assert [pod.component for pod in release.of("worker")] == ["worker"] * 2
    kept = release.secret()
    assert {name: kept[name] for name in secret} == secret
    assert [pod.name for pod in release.of("redis")] == [pod.name for pod in redis], "Redis was restarted"
    hooks = [pod for pod in release.gone if "-migrate-2-" in pod.name]
    assert [pod.ended_well() for pod in hooks], "no migration ran before the upgrade"
    for component in ("daphne", "worker"):
        assert "capacity: 777" in config_of(release, component)
    works_again(*pair, picture=small_picture)


def test_a_layer_configured_by_a_secret_reaches_every_process(
    release: Release, pair: tuple[Visitor, Visitor], small_picture: bytes
) -> None:
    # As Tethys' documentation writes it in an env_file, quotes and all.
    text = "\"{'capacity': 555}\""
    release.kubectl("create", "secret", "generic", "my-layer", f"--from-literal=channel-layers-config={text}")
    release.upgrade("--set", "channelLayers.existingSecret=my-layer")
    for component in ("daphne", "worker"):
        assert "capacity: 555" in config_of(release, component)
    works_again(*pair, picture=small_picture)


def test_a_migration_that_fails_stops_the_upgrade_before_anything_changed(
    release: Release, pair: tuple[Visitor, Visitor]
) -> None:
    before = sorted(pod.name for each in ("daphne", "worker", "redis") for pod in release.of(each))
    wrong = "extraEnv[0].name=DATABASE_URL,extraEnv[0].value=sqlite:////nowhere/chat.sqlite3"
    with pytest.raises(Failed, match="unable to open database file") as failed:
        release.upgrade("--reuse-values", "--set", wrong, "--set", "migrations.timeout=6")
    assert "pre-upgrade hooks failed" in str(failed.value)
    assert sorted(pod.name for each in ("daphne", "worker", "redis") for pod in release.of(each)) == before
    talk(*pair)


# --- the end ---


def test_an_uninstall_under_open_sockets_ends_every_process_with_0(
    release: Release, pair: tuple[Visitor, Visitor]
) -> None:
    pods: list[Pod] = [pod for each in ("daphne", "worker", "redis") for pod in release.of(each)]
    assert len(pods) == 4
    release.helm("uninstall", release.name, "--wait", deadline_s=90)
    for pod in pods:
        took = release.last(pod).ended_well()
        print(f"{pod.name} ended in {took:.1f} s")
    left = release.kubectl("get", "deployments,services,secrets,jobs,persistentvolumeclaims", "--output=name").split()
    assert [name for name in left if release.service in name and "-migrate-" not in name] == []


# --- a project of one's own ---


def test_a_project_of_ones_own_runs_with_two_values(cluster: Cluster, image: str) -> None:
    if not cluster.ours:
        pytest.skip("its image, made by this test, can't be brought to a cluster that isn't ours")
    cluster.load(image)
    name, _, tag = image.rpartition(":")
    with Release(cluster, "own") as release:
        try:
            own = ("--set", f"image.repository={name}", "--set-string", f"image.tag={tag}")
            release.install(*own, "--set", "application=mysite.asgi:application")
            with release.door() as door, Visitor(door.url) as visitor:
                assert b"The install worked successfully" in visitor.get("/")
                # A page that reads the tables of the migrations.
                assert b"csrfmiddlewaretoken" in visitor.get("/admin/login/")
            first, second = release.of("daphne")
            release.kubectl("exec", first.name, "--", "python3", "-c", SCRIPT, "send")
            assert release.kubectl("exec", second.name, "--", "python3", "-c", SCRIPT, "receive").strip() == "hello"
            assert "/ answered 200" in release.helm("test", release.name, "--logs")
            release.helm("uninstall", release.name, "--wait", deadline_s=90)
            for pod in (first, second):
                release.last(pod).ended_well()
        except BaseException:
            release.show()
            raise
