"""The fixtures that every part of the contract uses, as methods so that they meet no fixture of the user's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from trunkline.conformance.api import ChannelLayer, build_layer, close_layer
from trunkline.conformance.capabilities import OPTIONS, Capabilities
from trunkline.conformance.names import Names
from trunkline.conformance.peers import Peers
from trunkline.conformance.waiting import END_DEADLINE_S, Tasks, set_patience, within

logger = logging.getLogger(__name__)
requires = pytest.mark.channel_layer_requires
LayerMaker = Callable[..., ChannelLayer]


class Contract:
    """Base of every part: makes layers, names, tasks and other processes, and ends what it made."""

    @pytest.fixture(autouse=True)
    def _check_capabilities(self, request: pytest.FixtureRequest, channel_layer_capabilities: Capabilities) -> None:
        set_patience(channel_layer_capabilities.patience)
        for marker in request.node.iter_markers("channel_layer_requires"):
            for name in marker.args:
                reason = channel_layer_capabilities.missing(name)
                if reason is not None:
                    pytest.skip(f"{name}: {reason}")

    @pytest_asyncio.fixture(autouse=True)
    async def _log_loop_errors_in_one_line(self) -> None:
        # asyncio's own handler formats a traceback when a task is collected, which may happen inside pytest's report of
        # a failure; Python 3.11 then parses source code twice at once and dies of it.
        def log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            logger.error("%s: %r", context["message"], context.get("exception"))

        asyncio.get_running_loop().set_exception_handler(log)

    @pytest.fixture
    def options(
        self,
        channel_layer_config: tuple[str, Mapping[str, Any]],
        channel_layer_capabilities: Capabilities,
    ) -> Callable[..., dict[str, Any]]:
        """A function that lays options over CONFIG, without those that the layer doesn't have."""

        def options(**overrides: Any) -> dict[str, Any]:
            chosen = {
                name: value
                for name, value in overrides.items()
                if name not in OPTIONS or getattr(channel_layer_capabilities, name)
            }
            return {**channel_layer_config[1], **chosen}

        return options

    @pytest_asyncio.fixture
    async def make_layer(
        self, channel_layer_config: tuple[str, Mapping[str, Any]], options: Callable[..., dict[str, Any]]
    ) -> AsyncIterator[LayerMaker]:
        """A function that makes layers: ``make_layer(capacity=3)``. They are closed after the test."""
        made: list[ChannelLayer] = []

        def make(**overrides: Any) -> ChannelLayer:
            layer = build_layer(channel_layer_config[0], options(**overrides))
            made.append(layer)
            return layer

        yield make
        for layer in made:
            await within(close_layer(layer), END_DEADLINE_S, "the end of close()")

    @pytest_asyncio.fixture
    async def layer(self, make_layer: LayerMaker) -> ChannelLayer:
        """One layer with the given CONFIG and nothing else."""
        return make_layer()

    @pytest.fixture
    def loopless_layer(
        self, channel_layer_config: tuple[str, Mapping[str, Any]], options: Callable[..., dict[str, Any]]
    ) -> Iterator[ChannelLayer]:
        """A layer for tests that run event loops of their own."""
        layer = build_layer(channel_layer_config[0], options(capacity=5000))
        yield layer
        asyncio.run(within(close_layer(layer), END_DEADLINE_S, "the end of close()"))

    @pytest.fixture
    def names(self) -> Names:
        return Names()

    @pytest_asyncio.fixture
    async def tasks(self) -> AsyncIterator[Tasks]:
        async with Tasks() as tasks:
            yield tasks

    @pytest_asyncio.fixture
    async def peers(
        self, channel_layer_config: tuple[str, Mapping[str, Any]], options: Callable[..., dict[str, Any]]
    ) -> AsyncIterator[Peers]:
        """Starts other processes with a layer of the same CONFIG."""
        path, _ = channel_layer_config
        async with Peers(path, options(capacity=5000)) as peers:
            yield peers
