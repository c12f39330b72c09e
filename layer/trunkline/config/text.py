"""A ``CONFIG`` written as text: JSON, a Python literal or YAML in flow style, also inside quotes.

Docker, Compose and Tethys hand the same line on with different quotes and backslashes around it; whatever they leave
in place is taken off here. Of a text that doesn't parse no message shows a character, because the whole of it may be
one password.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import yaml

from trunkline.config.mangled import refuse_mangled
from trunkline.config.values import given
from trunkline.errors import ConfigurationError

__all__ = ["parse_config_text"]

LONGEST_TEXT = 65536  # characters; a CONFIG has a few hundred
DEEPEST_NESTING = 32  # brackets inside brackets; a CONFIG has four, and the parsers recurse
MOST_QUOTINGS = 4  # Tethys' documented values have up to two layers of quotes

_CLOSING = {"{": "}", "[": "]", "(": ")"}
_EXAMPLE = '{"hosts": ["redis://redis:6379"]}'


class _Failure(NamedTuple):
    """Where a parser gave up, as an index into the text."""

    position: int


class _Parsed(NamedTuple):
    value: object


def parse_config_text(text: str, *, source: str = "The configuration text") -> dict[str, object]:
    """Parse the text of a ``CONFIG``.

    It is tried as JSON, then as a Python literal (tuples too), then as YAML in flow style. Quotes around the whole,
    a comment behind it, and backslashes before spaces are taken off.

    :param source: where the text comes from, such as a variable's name; it begins every message.
    :raises ConfigurationError: one sentence with the text's length, a position and what was expected there.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{source} must be a text, not {given(text)}.")
    current = text.strip().removeprefix("\ufeff").strip()
    if not current:
        raise ConfigurationError(f"{source} is empty; expected a dict such as {_EXAMPLE}.")
    if len(current) > LONGEST_TEXT:
        raise ConfigurationError(f"{source} has {len(current)} characters; at most {LONGEST_TEXT} are read.")
    for _ in range(MOST_QUOTINGS + 1):
        if _nesting(current) > DEEPEST_NESTING:
            raise ConfigurationError(f"{source} has more than {DEEPEST_NESTING} brackets inside each other.")
        result = _parse(current, source)
        if isinstance(result, _Failure):
            raise ConfigurationError(f"{source} can't be parsed: {_explain(text, current, result.position)}.")
        if not isinstance(result.value, str):
            return _checked(result.value, source)
        inner = result.value.strip()
        if inner == current:  # a bare word of YAML
            break
        if not inner:
            raise ConfigurationError(f"{source} holds nothing but quotes; expected a dict such as {_EXAMPLE}.")
        current = inner
    raise ConfigurationError(
        f"{source} must be a dict such as {_EXAMPLE}, not one text of {len(text)} characters; a Redis URL belongs into "
        "REDIS_URL."
    )


def _checked(value: object, source: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{source} must be a dict such as {_EXAMPLE}, not {_kind(value)}.")
    refuse_mangled(value)
    result: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ConfigurationError(f"{source} must be a dict with texts as keys, not {_kind(key)}.")
        result[key] = item
    return result


def _kind(value: object) -> str:
    """Say what was parsed; even a number is not repeated, since a password may look like one."""
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else given(value)


def _parse(text: str, source: str) -> _Parsed | _Failure:
    furthest = 0
    for candidate in dict.fromkeys((text, _without_shell_escapes(text))):
        for parser in (_json, _literal):
            result = parser(candidate)
            if isinstance(result, _Parsed):
                return result
            furthest = max(furthest, min(result.position, len(text)))
    result = _yaml(text, source)
    if isinstance(result, _Failure):
        return _Failure(max(furthest, result.position))
    return result


def _json(text: str) -> _Parsed | _Failure:
    try:
        return _Parsed(json.loads(text))
    except json.JSONDecodeError as error:
        return _Failure(error.pos)
    except (ValueError, RecursionError):  # an integer of thousands of digits; nesting
        return _Failure(0)


def _literal(text: str) -> _Parsed | _Failure:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A SyntaxWarning about a backslash would print pieces of the text.
            return _Parsed(ast.literal_eval(text))
    except SyntaxError as error:
        lines = text.splitlines(keepends=True)[: max((error.lineno or 1) - 1, 0)]
        return _Failure(min(sum(map(len, lines)) + max((error.offset or 1) - 1, 0), len(text)))
    except (ValueError, TypeError, MemoryError, RecursionError, OverflowError):
        return _Failure(0)


def _yaml(text: str, source: str) -> _Parsed | _Failure:
    try:
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        node = None if aliases else yaml.compose(text, Loader=yaml.SafeLoader)
        value = None if aliases else yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _Failure(mark.index if mark is not None else 0)
    except Exception:
        # Constructors of YAML's implicit types raise what int(), float() and date() raise, among others.
        return _Failure(0)
    if aliases:
        raise ConfigurationError(f"{source} has an alias of YAML (*name) in it; write the value itself.")
    if isinstance(value, dict) and not text.startswith("{"):
        raise ConfigurationError(
            f"{source} is YAML in block style; write it in flow style, in braces on one line, such as {_EXAMPLE}."
        )
    if isinstance(value, dict):
        refuse_mangled(value)
        position = _without_value(node)
        if position is not None:
            raise ConfigurationError(
                f"{source} (length {len(text)}) has a key without a value at position {position}: expected ': ' (colon "
                "and space) and a value."
            )
    return _Parsed(value)


def _without_value(node: yaml.Node | None) -> int | None:
    """Index of the first key that has no value at all; ``{password}`` is such a mapping to YAML."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None:
                return int(key.start_mark.index)
            position = _without_value(value)
            if position is not None:
                return position
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            position = _without_value(item)
            if position is not None:
                return position
    return None


def _without_shell_escapes(text: str) -> str:
    """Replace backslash and space by a space outside of quotes: a Dockerfile's ENV escapes spaces in this way."""
    if "\\ " not in text:
        return text
    result: list[str] = []
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and position + 1 < len(text):
            following = text[position + 1]
            result.append(" " if not quote and following == " " else character + following)
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        result.append(character)
        position += 1
    return "".join(result)


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "{[(":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}])" and depth:
            depth -= 1
    return deepest


def _explain(text: str, current: str, position: int) -> str:
    """Say where and what was expected, by the text's structure where that tells, else by the furthest parser."""
    inside = "" if len(current) == len(text.strip()) else f" of the {len(current)} inside its quotes"
    where, expected = _structure(current) or (position, "a key, a value, ',' or ':' as JSON, Python or YAML have them")
    return f"length {len(text)}, position {where}{inside}: expected {expected}"


def _structure(text: str) -> tuple[int, str] | None:
    if text[0] != "{":
        return 0, "'{'"
    opened: list[tuple[int, str]] = []
    quote: tuple[int, str] | None = None
    escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif quote:
            if character == quote[1]:
                quote = None
        elif character in "'\"":
            quote = (position, character)
        elif character in _CLOSING:
            opened.append((position, _CLOSING[character]))
        elif character in _CLOSING.values():
            start, closing = opened.pop()
            if character != closing:
                return position, f"'{closing}' for the bracket at position {start}"
            if not opened:
                rest = text[position + 1 :].strip()
                if rest and not rest.startswith("#"):
                    return position + 1, "the end"
                return None
    if quote:
        return len(text), f"the closing quote of the text that begins at position {quote[0]}"
    if opened:
        return len(text), f"'{opened[-1][1]}' for the bracket at position {opened[-1][0]}"
    return None
