"""The channel layer that the environment configures, for commands that look at what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from trunkline.env import channel_layers_from_env
from trunkline.errors import ConfigurationError


def configured_layer(environ: Mapping[str, str], ability: str, purpose: str) -> Any:
    """Make the layer.

    :param ability: the method that the layer must have.
    :param purpose: what it is for, as the sentence's end after "a layer that".
    :raises ConfigurationError: when the environment is wrong, or names a layer that can't do this.
    """
    configured = channel_layers_from_env(environ)["default"]
    backend, config = str(configured["BACKEND"]), configured["CONFIG"]
    assert isinstance(config, dict)
    module, _, name = backend.rpartition(".")
    try:
        layer = getattr(import_module(module), name)(**config)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"The layer {backend} can't be loaded: {error}.") from error
    if not hasattr(layer, ability):
        raise ConfigurationError(f"The environment configures {backend}; this command needs a layer that {purpose}.")
    return layer
