"""The pytest plugin: registers the marker, the two fixtures that a layer's author overrides, and assertion rewriting.

It is loaded in every pytest run of an environment that has ``trunkline`` installed, so it imports nothing of the suite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from trunkline.conformance.capabilities import Capabilities

pytest.register_assert_rewrite(
    "trunkline.conformance.contract", "trunkline.conformance.peers", "trunkline.conformance.waiting"
)

ADVICE = (
    "The channel layer contract needs a fixture `channel_layer_config` that returns (dotted path, CONFIG), "
    'for example ("myproject.layers.MyChannelLayer", {"prefix": "a unique one"}).'
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "channel_layer_requires(*names): skip unless the channel layer under test has these capabilities"
    )


@pytest.fixture
def channel_layer_config() -> tuple[str, Mapping[str, Any]]:
    """Override: the dotted path and the CONFIG of the channel layer under test, with a prefix that is nobody else's."""
    raise pytest.UsageError(ADVICE)


@pytest.fixture
def channel_layer_capabilities() -> Capabilities:
    """Override where the layer can't do everything."""
    return Capabilities()
