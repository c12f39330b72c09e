"""The environment, read into CHANNEL_LAYERS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.endpoints import endpoints
from trunkline.config import VARIABLES, redis_options
from trunkline.env import channel_layers_from_env, inside_container, read_secret
from trunkline.errors import ConfigurationError

REDIS = "trunkline.RedisChannelLayer"
IPC = "trunkline.IPCChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
MEMORY = "channels.layers.InMemoryChannelLayer"


def layer(given: Mapping[str, str] | None = None, /, *, container: bool = False, **environ: str) -> tuple[Any, Any]:
    layers = channel_layers_from_env({**(given or {}), **environ}, container=lambda: container)
    assert list(layers) == ["default"]
    assert sorted(layers["default"]) == ["BACKEND", "CONFIG"]
    return layers["default"]["BACKEND"], layers["default"]["CONFIG"]


def sentence(given: Mapping[str, str] | None = None, /, *, container: bool = False, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        layer(given, container=container, **environ)
    return str(caught.value)


def test_with_nothing_set_the_processes_of_one_machine_talk() -> None:
    assert layer() == (IPC, {})


def test_empty_variables_count_as_not_set() -> None:
    assert layer({variable.name: " " for variable in VARIABLES}) == (IPC, {})


def test_in_a_container_nothing_set_is_an_error() -> None:
    said = sentence(container=True)
    assert "runs in a container and no Redis server is configured: set REDIS_URL" in said
    assert "capacity" not in said
    assert "no Redis server" in sentence(container=True, CHANNEL_LAYERS_CONFIG="{'capacity': 5}")
    assert "no Redis server" in sentence(container=True, CHANNEL_LAYERS_CONFIG="{'hosts': []}")


def test_an_empty_list_of_hosts_is_the_local_server() -> None:
    assert layer(CHANNEL_LAYERS_CONFIG="{'hosts': []}") == (REDIS, {"hosts": []})


def test_in_a_container_an_explicit_backend_or_a_server_is_enough() -> None:
    assert layer(container=True, CHANNEL_LAYERS_BACKEND=IPC) == (IPC, {})
    assert layer(container=True, CHANNEL_LAYERS_BACKEND=REDIS) == (REDIS, {})
    assert layer(container=True, REDIS_URL="redis://a")[0] == REDIS
    assert layer(container=True, CHANNEL_LAYERS_CONFIG="{hosts: [redis]}")[0] == REDIS


def test_a_container_is_recognised_by_its_marks() -> None:
    assert not inside_container({}, exists=lambda path: False)
    assert inside_container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, exists=lambda path: False)
    for mark in ("/.dockerenv", "/run/.containerenv"):
        assert inside_container({}, exists={mark}.__contains__)


def test_hosts_in_the_config_choose_redis() -> None:
    assert layer(CHANNEL_LAYERS_CONFIG="{'hosts': [('redis', 6379)]}") == (REDIS, {"hosts": [("redis", 6379)]})


def test_a_config_without_hosts_goes_to_the_machine_local_layer() -> None:
    assert layer(CHANNEL_LAYERS_CONFIG='{"capacity": 5}') == (IPC, {"capacity": 5})


def test_a_config_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text('\ufeff{"hosts": ["redis"]}\n')
    assert layer(CHANNEL_LAYERS_CONFIG_FILE=str(file)) == (REDIS, {"hosts": ["redis"]})


def test_the_values_of_tethys_choose_redis() -> None:
    for text in (
        "\"{'hosts':[{'host':\\ 'redis',\\ 'port':\\ 6379}]}\"",
        "\"{'hosts':[{'host': 'redis', 'port': 6379}]}\"",
        "\"\\\"{'hosts':[{'host': 'redis', 'port': 6379}]}\\\"\"  # Hostname is the name of the service",
    ):
        assert layer(CHANNEL_LAYERS_CONFIG=text) == (REDIS, {"hosts": [{"host": "redis", "port": 6379}]})


def test_the_mangled_dict_is_refused_for_any_backend() -> None:
    text = json.dumps({"hosts": [{"host": "\\ 'redis'", "\\ 'port':\\ 6379": None}]})
    for backend in ("", REDIS, CORE, MEMORY):
        said = sentence(CHANNEL_LAYERS_CONFIG=text, CHANNEL_LAYERS_BACKEND=backend)
        assert said.endswith('CHANNEL_LAYERS_CONFIG={"hosts":[{"host":"redis","port":6379}]}')


def test_a_redis_url_becomes_hosts_and_chooses_redis() -> None:
    assert layer(REDIS_URL="redis://cache:6379/1") == (REDIS, {"hosts": ["redis://cache:6379/1"]})
    assert layer(REDIS_URL="redis://a, rediss://b:1/2 ,unix:///run/r.sock")[1] == {
        "hosts": ["redis://a", "rediss://b:1/2", "unix:///run/r.sock"]
    }


def test_bare_names_in_redis_url_become_urls() -> None:
    assert layer(REDIS_URL="a,b:6380")[1] == {"hosts": ["redis://a", "redis://b:6380"]}


def test_a_redis_url_goes_beside_other_options() -> None:
    config = {"capacity": 5, "hosts": ["redis://a"]}
    assert layer(REDIS_URL="redis://a", CHANNEL_LAYERS_CONFIG="{capacity: 5}") == (REDIS, config)


def test_quotes_that_docker_leaves_around_a_value_are_taken_off() -> None:
    assert layer(REDIS_URL='"redis://a"', CHANNEL_LAYERS_BACKEND=f"'{REDIS}'") == (REDIS, {"hosts": ["redis://a"]})


def test_passwords_stand_apart_from_the_url_where_django_masks_them() -> None:
    _, config = layer(
        REDIS_URL="redis://:hunter2@a/1,redis://me:hunter%2F3@b,redis://c,unix://:hunter4@/run/r.sock?db=1"
    )
    assert config["hosts"] == [
        {"address": "redis://a/1", "password": "hunter2"},
        {"address": "redis://me@b", "password": "hunter/3"},
        "redis://c",
        {"address": "unix:/run/r.sock?db=1", "password": "hunter4"},
    ]
    assert [(e.label, e.username, e.password) for e in endpoints(redis_options(config))] == [
        ("redis://a:6379/1", None, "hunter2"),
        ("redis://b:6379/0", "me", "hunter/3"),
        ("redis://c:6379/0", None, None),
        ("unix:///run/r.sock?db=1", None, "hunter4"),
    ]


def test_a_comma_in_a_password_does_not_divide_a_url() -> None:
    _, config = layer(REDIS_URL="redis://:hun,ter2@a,redis://b")
    assert config["hosts"] == [{"address": "redis://a", "password": "hun,ter2"}, "redis://b"]


def test_a_password_from_a_file_goes_to_every_server(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    _, config = layer(REDIS_URL="redis://a,redis://me@b", REDIS_PASSWORD_FILE=str(file))
    found = [(e.username, e.password) for e in endpoints(redis_options(config))]
    assert found == [(None, "hunter2"), ("me", "hunter2")]


@pytest.mark.parametrize("backend", [CORE, PUBSUB])
def test_other_layers_get_hosts_that_redis_py_understands(backend: str) -> None:
    from channels_redis.utils import create_pool, decode_hosts

    chosen, config = layer(CHANNEL_LAYERS_BACKEND=backend, REDIS_URL="redis://:hunter2@a:1/2,redis://b")
    assert chosen == backend
    pools = [create_pool(host) for host in decode_hosts(config["hosts"])]
    first = pools[0].connection_kwargs
    assert [first[name] for name in ("host", "port", "db", "password")] == ["a", 1, 2, "hunter2"]
    assert pools[1].connection_kwargs["host"] == "b"


@pytest.mark.parametrize("backend", [CORE, PUBSUB, MEMORY, "my.project.layers.Layer"])
def test_the_config_of_any_other_layer_is_passed_on_as_it_is(backend: str) -> None:
    config = {"hosts": "nonsense", "anything": [1, {"b": None}]}
    assert layer(CHANNEL_LAYERS_BACKEND=backend, CHANNEL_LAYERS_CONFIG=json.dumps(config)) == (backend, config)
    assert layer(CHANNEL_LAYERS_BACKEND=backend, TRUNKLINE_IPC_DIR="/run/x") == (backend, {})


def test_our_layers_are_judged_already_in_the_settings() -> None:
    assert sentence(CHANNEL_LAYERS_CONFIG="{capcity: 5}").startswith("CHANNEL_LAYERS_CONFIG: Unknown option 'capcity'")
    assert "'hosts' must be a list" in sentence(CHANNEL_LAYERS_CONFIG="{hosts: redis}")
    assert "REDIS_URL[1]" in sentence(REDIS_URL="redis://a,http://b")
    assert "'hosts' belongs to" in sentence(CHANNEL_LAYERS_BACKEND=IPC, CHANNEL_LAYERS_CONFIG="{hosts: [redis]}")


def test_the_module_path_of_our_layers_is_judged_too() -> None:
    assert layer(CHANNEL_LAYERS_BACKEND="trunkline.layers.redis.RedisChannelLayer") == (REDIS, {})
    assert layer(CHANNEL_LAYERS_BACKEND="trunkline.layers.ipc.IPCChannelLayer") == (IPC, {})


def test_the_directory_of_the_machine_local_layer_comes_from_its_variable() -> None:
    assert layer(TRUNKLINE_IPC_DIR="/run/site") == (IPC, {"directory": "/run/site"})
    assert layer(TRUNKLINE_IPC_DIR="/run/site", REDIS_URL="redis://a") == (REDIS, {"hosts": ["redis://a"]})


TWICE = [
    (
        {"CHANNEL_LAYERS_CONFIG": "{}", "CHANNEL_LAYERS_CONFIG_FILE": "/x"},
        "CHANNEL_LAYERS_CONFIG_FILE are both set",
    ),
    ({"CHANNEL_LAYERS_CONFIG": "{hosts: [a]}", "REDIS_URL": "redis://a"}, "given twice, in REDIS_URL and in CHANNEL_"),
    ({"CHANNEL_LAYERS_CONFIG": "{directory: /a}", "TRUNKLINE_IPC_DIR": "/b"}, "given twice, in TRUNKLINE_IPC_DIR and"),
]


@pytest.mark.parametrize(("environ", "expected"), TWICE, ids=[what for _, what in TWICE])
def test_two_sources_for_one_thing_are_an_error(environ: dict[str, str], expected: str) -> None:
    assert expected in sentence(environ)


def test_a_password_from_two_sources_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    said = sentence(REDIS_URL="redis://a,redis://:hunter3@b", REDIS_PASSWORD_FILE=str(file))
    assert "The password of REDIS_URL[1] is given twice" in said
    assert "hunter" not in said


WRONG: list[tuple[dict[str, str], str]] = [
    (
        {"CHANNEL_LAYERS_BACKEND": "redis"},
        "must be the dotted path of a channel layer, such as trunkline.",
    ),
    ({"CHANNEL_LAYERS_BACKEND": "a.b:C"}, "write a full stop before the class, not a colon"),
    (
        {"CHANNEL_LAYERS_BACKEND": "trunkline.RedisChanelLayer"},
        "did you mean trunkline.RedisChannelLayer?",
    ),
    (
        {"CHANNEL_LAYERS_BACKEND": "trunkline.RedisSentinelChannelLayer", "REDIS_URL": "redis://a"},
        "the hosts of trunkline.RedisSentinelChannelLayer are Sentinels",
    ),
    (
        {"CHANNEL_LAYERS_BACKEND": "asgi_redis.RedisSentinelChannelLayer"},
        "for Channels 1; write trunkline.RedisSentinelChannelLayer, which takes its CONFIG",
    ),
    (
        {"CHANNEL_LAYERS_BACKEND": "asgi_redis.RedisChannelLayer"},
        "for Channels 1; write trunkline.RedisChannelLayer",
    ),
    ({"CHANNEL_LAYERS_BACKEND": "asgi_ipc.IPCChannelLayer"}, "a layer for Channels 1; write trunkline.IPCChannelLayer"),
    ({"CHANNEL_LAYERS_BACKEND": MEMORY, "REDIS_URL": "redis://a"}, "InMemoryChannelLayer uses no server"),
    ({"CHANNEL_LAYERS_BACKEND": IPC, "REDIS_URL": "redis://a"}, "IPCChannelLayer uses no server"),
    ({"CHANNEL_LAYERS_BACKEND": "my.Layer", "REDIS_URL": "redis://a"}, "it isn't known how my.Layer takes servers"),
    ({"REDIS_PASSWORD_FILE": "/x"}, "REDIS_PASSWORD_FILE is given without REDIS_URL"),
    ({"REDIS_URL": "redis://a,"}, "a comma with no URL before or behind it"),
    ({"REDIS_URL": "a,,b"}, "a comma with no URL before or behind it"),
    ({"REDIS_URL": "redis://a,redis://a"}, "REDIS_URL[1] is the same as REDIS_URL[0]"),
    ({"REDIS_URL": "redis://a", "CHANNEL_LAYERS_CONFIG": "[1]"}, "CHANNEL_LAYERS_CONFIG must be a dict such as"),
    ({"TRUNKLINE_IPC_DIR": "run"}, "TRUNKLINE_IPC_DIR must be an absolute path"),
    ({"CHANNEL_LAYERS_CONFIG_FILE": "/nowhere/hunter2"}, "_CONFIG_FILE names can't be read: No such file or directory"),
    ({"CHANNEL_LAYERS_CONFIG_FILE": "/"}, "_CONFIG_FILE names can't be read: Is a directory"),
    ({"CHANNEL_LAYERS_CONFIG_FILE": "a\0b"}, "must be the path of a file, not a text that can't be one"),
]


@pytest.mark.parametrize(("environ", "expected"), WRONG, ids=[what for _, what in WRONG])
def test_each_kind_of_wrong_variable_has_its_own_sentence(environ: dict[str, str], expected: str) -> None:
    said = sentence(environ)
    assert expected in said
    assert "hunter2" not in said


def test_a_backend_that_is_no_path_is_not_repeated() -> None:
    assert "hunter2" not in sentence(CHANNEL_LAYERS_BACKEND="hunter2")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"x" * 65537, "is larger than 65536"),
    ],
)
def test_each_kind_of_wrong_file_has_its_own_sentence(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    assert f"The file that CHANNEL_LAYERS_CONFIG_FILE names {expected}" in sentence(
        CHANNEL_LAYERS_CONFIG_FILE=str(file)
    )
    with pytest.raises(ConfigurationError, match=f"KEY_FILE names {expected}"):
        read_secret({"KEY_FILE": str(file)}, "KEY")


def test_a_file_that_does_not_parse_is_named_by_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2")
    said = sentence(CHANNEL_LAYERS_CONFIG_FILE=str(file))
    assert said.startswith("The file of CHANNEL_LAYERS_CONFIG_FILE must be a dict")
    assert "hunter2" not in said


def test_a_secret_comes_from_its_variable_or_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(" with spaces \r\n")
    assert read_secret({}, "KEY") is None
    assert read_secret({"KEY": "", "KEY_FILE": ""}, "KEY") is None
    assert read_secret({"KEY": "hunter2"}, "KEY") == "hunter2"
    assert read_secret({"KEY_FILE": str(file)}, "KEY") == " with spaces "
    with pytest.raises(ConfigurationError, match="KEY and KEY_FILE are both set"):
        read_secret({"KEY": "hunter2", "KEY_FILE": str(file)}, "KEY")


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("REDIS_URL", "redis://a")
    assert channel_layers_from_env() == {"default": {"BACKEND": REDIS, "CONFIG": {"hosts": ["redis://a"]}}}


def test_importing_it_in_settings_loads_neither_django_nor_redis_nor_lmdb() -> None:
    code = "import sys, trunkline.env; print(sorted({'django', 'redis', 'lmdb', 'asyncio'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
