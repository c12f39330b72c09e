"""The contract of a channel layer as tests, for any layer: a pytest plugin and classes to subclass.

::

    # test_my_layer.py
    import uuid, pytest
    from trunkline.conformance import ChannelLayerContract

    @pytest.fixture
    def channel_layer_config():
        return "myproject.layers.MyChannelLayer", {"prefix": uuid.uuid4().hex}

    class TestMyLayer(ChannelLayerContract):
        pass

:class:`SpecificationContract` holds what Channels' channel layer specification demands, :class:`PromisesContract` what
Trunkline promises beyond it, :class:`ChannelLayerContract` both. What the layer can't do by design is said in a fixture
``channel_layer_capabilities``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trunkline.conformance.capabilities import Capabilities

if TYPE_CHECKING:
    from trunkline.conformance.contract import ChannelLayerContract, PromisesContract, SpecificationContract

__all__ = ["Capabilities", "ChannelLayerContract", "PromisesContract", "SpecificationContract"]


def __getattr__(name: str) -> Any:
    # The plugin imports this package in every pytest run; the tests themselves are loaded for those who ask.
    if name in __all__:
        return getattr(import_module("trunkline.conformance.contract"), name)
    raise AttributeError(f"module 'trunkline.conformance' has no attribute {name!r}")
