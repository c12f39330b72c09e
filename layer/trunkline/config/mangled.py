"""The dict that Tethys' YAML step makes of a ``CONFIG`` with backslashes, recognised and put right in the message."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping

from trunkline.config.objects import MASK
from trunkline.config.table import CONNECTION_OPTIONS, OPTIONS
from trunkline.errors import ConfigurationError

__all__ = ["refuse_mangled"]

EXAMPLE = '{"hosts":[{"host":"redis","port":6379}]}'

_MANGLED_KEY = re.compile(r"\\ ")
_MANGLED_VALUE = re.compile(r"\\ ?['\"]")
_DEEPEST = 6  # levels that a real CONFIG never reaches
_SHOWN_TEXTS = frozenset({"host", "hosts", "prefix"})
_SHOWN_NUMBERS = frozenset({"capacity", "db", "expiry", "group_expiry", "hosts", "port"})
_KNOWN = {option.name for option in OPTIONS} | {option.name for option in CONNECTION_OPTIONS}
_HARMLESS = re.compile(r"[A-Za-z0-9_.\-]{1,60}")


def refuse_mangled(config: object) -> None:
    """Refuse a mapping in which spaces written as ``\\ `` became part of keys and values.

    Tethys' documented Dockerfile escapes the spaces of the value; read as YAML it becomes
    ``{"hosts": [{"host": "\\\\ 'redis'", "\\\\ 'port':\\\\ 6379": None}]}``.

    :raises ConfigurationError: with the corrected line to write; the line shows secrets as ``***``.
    """
    if not _is_mangled(config, 0):
        return
    line = _corrected(config)
    raise ConfigurationError(
        "The CONFIG holds backslashes that stood before spaces and became part of its keys and values; write it "
        f"without them: CHANNEL_LAYERS_CONFIG={line}"
    )


def _is_mangled(value: object, depth: int) -> bool:
    if depth > _DEEPEST:
        return False
    if isinstance(value, Mapping):
        return any(
            (isinstance(key, str) and _MANGLED_KEY.match(key) is not None) or _is_mangled(item, depth + 1)
            for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return any(_is_mangled(item, depth + 1) for item in value)
    return isinstance(value, str) and _MANGLED_VALUE.match(value) is not None


def _corrected(config: object) -> str:
    """The line to write, rebuilt from the mangled mapping, or an example where that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A SyntaxWarning would print pieces of the text.
            return json.dumps(_shown(_repaired(config)), separators=(",", ":"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return EXAMPLE


def _repaired(value: object) -> object:
    if isinstance(value, Mapping):
        result: dict[object, object] = {}
        for key, item in value.items():
            if isinstance(key, str) and "\\ " in key:
                text = key.replace("\\ ", " ")
                if item is not None:
                    text += ": " + (item.replace("\\ ", " ") if isinstance(item, str) else repr(item))
                result.update(ast.literal_eval("{" + text.strip() + "}"))
            else:
                result[key] = _repaired(item)
        return result
    if isinstance(value, list | tuple):
        return [_repaired(item) for item in value]
    if isinstance(value, str) and _MANGLED_VALUE.match(value):
        return ast.literal_eval(value.replace("\\ ", " ").strip().lstrip("\\"))
    return value


def _shown(value: object, name: str = "") -> object:
    """The value with everything masked that might be secret: only what a CONFIG usually holds is shown."""
    if isinstance(value, Mapping):
        return {str(key) if key in _KNOWN else MASK: _shown(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, name) for item in value]
    if isinstance(value, str):
        return value if name in _SHOWN_TEXTS and _HARMLESS.fullmatch(value) else MASK
    if isinstance(value, bool) or value is None:
        return value
    return value if isinstance(value, int | float) and name in _SHOWN_NUMBERS else MASK
