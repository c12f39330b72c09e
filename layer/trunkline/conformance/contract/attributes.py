"""The attributes that the specification asks of a layer object."""

from __future__ import annotations

from typing import Any

import channels.exceptions
import pytest

from trunkline.conformance.contract.base import Contract, requires


class Attributes(Contract):
    """Attributes: exceptions, extensions, group_expiry."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("name", ["ChannelFull", "MessageTooLarge"])
    async def test_the_layer_carries_its_exceptions(self, layer: Any, name: str) -> None:
        exception = getattr(layer, name, None)
        assert isinstance(exception, type), f"the layer has no exception class {name}"
        assert issubclass(exception, getattr(channels.exceptions, name)), f"{name} must be caught as Channels' own"

    @pytest.mark.asyncio
    async def test_the_extensions_are_a_list_of_names(self, layer: Any) -> None:
        assert isinstance(layer.extensions, list)
        assert all(isinstance(name, str) for name in layer.extensions)

    @requires("groups")
    @pytest.mark.asyncio
    async def test_a_layer_with_groups_says_so_and_tells_their_expiry(self, layer: Any) -> None:
        assert "groups" in layer.extensions
        assert isinstance(layer.group_expiry, (int, float))
        assert layer.group_expiry > 0

    @requires("group_expiry")
    @pytest.mark.asyncio
    async def test_memberships_last_a_day_by_default(self, layer: Any) -> None:
        assert layer.group_expiry == 86400

    @requires("flush")
    @pytest.mark.asyncio
    async def test_a_layer_with_flush_says_so(self, layer: Any) -> None:
        assert "flush" in layer.extensions
