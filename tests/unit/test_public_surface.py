"""The public surface is exact: a name that comes or goes by accident is noticed here."""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import pytest
from channels.layers import BaseChannelLayer

import trunkline
from trunkline import (
    IPCChannelLayer,
    RedisChannelLayer,
    RedisLocalChannelLayer,
    RedisSentinelChannelLayer,
    conformance,
    env,
)

PACKAGE = {
    "ChannelFull",
    "ConfigurationError",
    "IPCChannelLayer",
    "LayerUnavailable",
    "MessageTooLarge",
    "RedisChannelLayer",
    "RedisLocalChannelLayer",
    "RedisSentinelChannelLayer",
    "__version__",
}
# What a layer offers beside what Channels' base class has.
LAYER = {
    "ChannelFull",
    "MessageTooLarge",
    "channel_capacity",
    "channel_statistics",
    "close",
    "common",
    "counters",
    "decode",
    "encode",
    "expiry",
    "extensions",
    "flush",
    "global_statistics",
    "group_add",
    "group_discard",
    "group_expiry",
    "group_send",
    "group_send_sync",
    "new_channel",
    "options",
    "own_address",
    "prefix",
    "process",
    "receive",
    "receive_named",
    "send",
    "send_sync",
    "statistics",
    "warn_group_dropped",
}
AT_LEAST_ONCE = {"receive_reliably", "dead_letters", "requeue_dead_letters", "drop_dead_letters"}


def test_the_package_offers_these_names_and_no_others() -> None:
    assert set(trunkline.__all__) == set(dir(trunkline)) == PACKAGE
    for name in PACKAGE:
        assert getattr(trunkline, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        trunkline.nothing_of_the_kind  # noqa: B018


def test_the_modules_for_settings_and_for_tests_offer_these_names() -> None:
    assert set(env.__all__) == {"channel_layers_from_env", "inside_container", "read_secret"}
    assert set(conformance.__all__) == {
        "Capabilities",
        "ChannelLayerContract",
        "PromisesContract",
        "SpecificationContract",
    }


def test_all_layers_offer_the_same_but_for_delivery_at_least_once(tmp_path: Path) -> None:
    inherited = {name for name in dir(BaseChannelLayer) if not name.startswith("_")} | {"capacity"}
    redis, ipc = RedisChannelLayer(hosts=["redis://localhost"]), IPCChannelLayer(directory=str(tmp_path))
    sentinel, local = RedisSentinelChannelLayer(), RedisLocalChannelLayer(directory=str(tmp_path))
    for layer, more in ((redis, AT_LEAST_ONCE), (sentinel, AT_LEAST_ONCE), (local, AT_LEAST_ONCE), (ipc, set())):
        own = {name for name in dir(layer) if not name.startswith("_")}
        assert own - inherited - more == LAYER - inherited
        assert own >= LAYER | more


@pytest.mark.parametrize("name", sorted(PACKAGE - {"__version__"}))
def test_each_public_name_explains_itself(name: str) -> None:
    assert len(inspect.getdoc(getattr(trunkline, name)) or "") > 40


def test_the_distribution_is_typed_and_brings_its_command_and_its_plugin() -> None:
    assert (files("trunkline") / "py.typed").is_file()
    [command] = entry_points(group="console_scripts", name="trunkline")
    [plugin] = entry_points(group="pytest11", name="trunkline_conformance")
    assert callable(command.load())
    assert plugin.load().channel_layer_config
