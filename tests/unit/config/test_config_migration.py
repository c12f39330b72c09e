"""What a ``CONFIG`` written for asgi_redis, asgi_ipc or channels_redis may hold besides."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubLoopLayer

import trunkline
from trunkline.config import JUDGES, LAYERS, OPTIONS, Endpoint, redis_options, sentinel_options
from trunkline.errors import ConfigurationError

# Of asgi_redis 1.4.3 (the plain, the Sentinel and the local layer) and asgi_ipc 1.4.2.
ASGI_REDIS = [
    "expiry",
    "hosts",
    "prefix",
    "group_expiry",
    "capacity",
    "channel_capacity",
    "symmetric_encryption_keys",
    "stats_prefix",
    "connection_kwargs",
    "services",
    "sentinel_refresh_interval",
]
ASGI_IPC = ["prefix", "expiry", "group_expiry", "capacity", "channel_capacity", "message_memory", "group_memory"]

LEGACY = [(layer, option) for option in OPTIONS for layer in option.layers if option.fate != "accepted"]


def names(layer: str) -> set[str]:
    return {option.name for option in OPTIONS if layer in option.layers}


def test_every_option_of_the_forerunners_has_an_answer() -> None:
    theirs = {*inspect.signature(RedisChannelLayer).parameters, *inspect.signature(RedisPubSubLoopLayer).parameters}
    for layer in ("redis", "sentinel", "local"):
        assert {*theirs, *ASGI_REDIS} - {"kwargs", "args"} <= names(layer)
    assert set(ASGI_IPC) <= names("ipc")


def test_a_config_for_channels_redis_is_taken_as_it_is() -> None:
    config = {
        "hosts": [("localhost", 6379)],
        "prefix": "asgi",
        "expiry": 60,
        "group_expiry": 86400,
        "capacity": 100,
        "channel_capacity": {"http.request": 200, "http.response!*": 10, re.compile(r"^websocket.send\!.+"): 20},
        "symmetric_encryption_keys": None,
        "random_prefix_length": 12,
        "serializer_format": "msgpack",
    }
    options = redis_options(config)
    assert options.common.capacity_of("websocket.send!x") == 20
    assert [note.split("'")[1] for note in options.notes] == ["random_prefix_length"]


def test_a_config_for_asgi_redis_is_taken_as_it_is() -> None:
    config = {
        "hosts": ["redis://:password@127.0.0.1:6379/0"],
        "prefix": "asgi:",
        "connection_kwargs": {"socket_connect_timeout": 5, "socket_timeout": 10, "socket_keepalive": True},
    }
    options = redis_options(config)
    (host,) = options.hosts
    assert isinstance(host, Endpoint)
    assert dict(host.options) == {"socket_connect_timeout": 5, "socket_keepalive": True}
    assert "'socket_timeout' has no effect" in options.notes[0]


def test_a_config_for_asgi_redis_sentinel_layer_is_taken_as_it_is() -> None:
    config = {
        "hosts": [("127.0.0.1", 26379), ("127.0.0.2", 26379)],
        "services": ["one", "two"],
        "prefix": "asgi:",
        "stats_prefix": "",
        "sentinel_refresh_interval": 0,
        "connection_kwargs": {"socket_connect_timeout": 5, "socket_timeout": 10},
    }
    options = sentinel_options(config)
    assert [host.name for host in options.hosts if not isinstance(host, Endpoint)] == ["one", "two"]
    assert options.discover is None


def test_a_config_with_sentinels_for_channels_redis_is_taken_as_it_is() -> None:
    service = {
        "sentinels": [("10.0.0.1", 26379), ("10.0.0.2", 26379)],
        "master_name": "mymaster",
        "sentinel_kwargs": {"password": "of the Sentinels"},
        "password": "of the primary",
        "db": 2,
    }
    options = redis_options({"hosts": [service, ("localhost", 6379)]})
    label = "sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster"
    assert [host.label for host in options.hosts] == [label, "redis://localhost:6379/0"]
    assert "of the" not in repr(options)


@pytest.mark.parametrize(("layer", "option"), LEGACY, ids=[f"{layer}-{option.name}" for layer, option in LEGACY])
def test_a_legacy_option_is_never_ignored_silently(layer: str, option: Any) -> None:
    judge = JUDGES[LAYERS[layer]]
    if option.fate == "noted":
        assert len(judge({option.name: "json"}).notes) == 1
    else:
        verb = "is not in this version" if option.fate == "later" else "is not accepted here"
        with pytest.raises(ConfigurationError, match=verb) as caught:
            judge({option.name: ["hunter2"]})
        assert option.help in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("layer", "option"), LEGACY, ids=[f"{layer}-{option.name}" for layer, option in LEGACY])
@pytest.mark.parametrize("nothing", [None, [], (), "", {}], ids=repr)
def test_a_legacy_option_that_says_nothing_is_as_good_as_left_out(layer: str, option: Any, nothing: Any) -> None:
    assert JUDGES[LAYERS[layer]]({option.name: nothing}).notes == ()


def test_a_serializer_of_ones_own_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'serializer_format' must be 'msgpack' or 'json'"):
        redis_options({"serializer_format": "myformat"})


def test_every_layer_of_the_table_exists_by_its_path() -> None:
    assert set(LAYERS) == {"redis", "sentinel", "local", "ipc"}
    for path in LAYERS.values():
        assert getattr(trunkline, path.rpartition(".")[2]).__name__ in path
    assert set(JUDGES) == set(LAYERS.values())
