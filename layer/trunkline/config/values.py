"""The checks of single values, each kind of wrong value with a sentence of its own.

No check ever repeats a text that it was given, unless the text is shown to be harmless first: it may be a password
that landed in the wrong option.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping
from pathlib import PurePath

from trunkline.config.objects import SerializerFormat
from trunkline.errors import ConfigurationError

__all__ = [
    "boolean",
    "channel_capacity",
    "directory",
    "duration",
    "given",
    "group",
    "mode",
    "named",
    "plain_text",
    "prefix",
    "serializer_format",
    "whole_number",
]

HUNDRED_YEARS = 3_155_760_000  # seconds; a deadline that far away still has 13 digits in milliseconds
LARGEST_INTEGER = 2**63 - 1  # what Redis and LMDB records hold
LONGEST_PREFIX = 100  # characters; it stands in every key

REGULAR_EXPRESSION = "re:"  # begins a pattern that is no glob, where only texts can be written

_NUMBER = re.compile(r"\s*[+-]?\d{1,20}(\.\d{0,10})?\s*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,39}")


def given(value: object) -> str:
    """Say what a value is without repeating any text of it."""
    if value is None:
        return "None"
    if isinstance(value, bool):
        return f"the boolean {value}"
    if isinstance(value, int):
        # str() of an integer beyond 4300 digits raises, and nobody would read it.
        return str(int(value)) if value.bit_length() <= 70 else "an integer of more than 20 digits"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return "an empty text" if not value else f"a text of {len(value)} characters"
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    kind = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {kind}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"a {kind} of {len(value)}"
    return f"an object of type {kind}" if _WORD.fullmatch(kind) else "an object"


def named(key: object) -> str:
    """The name of an option for a message: quoted where it looks like a name, else only described."""
    if isinstance(key, str) and _WORD.fullmatch(key):
        return repr(str(key))
    return f"({given(key)} in place of a name)"


def _refuse(option: str, accepted: str, what: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError(f"Option {option!r} must be {accepted}, not {what}{hint}.")


def _not_a_number(option: str, accepted: str, value: object) -> ConfigurationError:
    if value is None:
        return _refuse(option, accepted, "None", f"; leave {option!r} out for its default")
    if isinstance(value, bool):
        return _refuse(option, accepted, f"the boolean {value}")
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return _refuse(option, accepted, f"the text {value.strip()!r}", "; write the number without quotes")
    return _refuse(option, accepted, given(value))


def duration(option: str, value: object, *, maximum: int = HUNDRED_YEARS) -> float:
    """Return ``value`` if it is a number of seconds from a millisecond to ``maximum``.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = "a number of seconds above zero"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _not_a_number(option, accepted, value)
    if isinstance(value, float) and math.isnan(value):
        raise _refuse(option, accepted, "nan (not a number)")
    if isinstance(value, float) and math.isinf(value):
        raise _refuse(option, accepted, f"{value} (infinity)", f"; the largest is {maximum}")
    if value == 0:
        raise _refuse(option, accepted, "zero", "; nothing would live long enough to be used")
    if value < 0:
        raise _refuse(option, accepted, f"the negative {given(value)}")
    if value < 0.001:
        raise _refuse(option, accepted, given(value), "; the smallest is 0.001, a millisecond")
    if value > maximum:
        raise _refuse(option, accepted, given(value), f"; the largest is {maximum}")
    return value


def whole_number(
    option: str, value: object, *, minimum: int = 1, maximum: int = LARGEST_INTEGER, unit: str = "messages"
) -> int:
    """Return ``value`` if it is an integer from ``minimum`` to ``maximum``.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = f"a whole number of {unit}, at least {minimum}"
    if isinstance(value, float):
        if math.isnan(value):
            raise _refuse(option, accepted, "nan (not a number)")
        if math.isinf(value):
            raise _refuse(option, accepted, f"{value} (infinity)", f"; the largest is {maximum}")
        hint = f"; write {int(value)}" if value.is_integer() and abs(value) < 1e15 else ""
        raise _refuse(option, accepted, f"the fraction {value!r}", hint)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _not_a_number(option, accepted, value)
    if value == 0 and minimum > 0:
        raise _refuse(option, accepted, "zero")
    if value < 0:
        raise _refuse(option, accepted, f"the negative {given(value)}")
    if value < minimum:
        raise _refuse(option, accepted, f"the smaller {given(value)}")
    if value > maximum:
        raise _refuse(option, accepted, given(value), f"; the largest is {maximum}")
    return value


def boolean(option: str, value: object) -> bool:
    """Return ``value`` if it is ``True`` or ``False`` (``0`` and ``1`` count as such).

    :raises ConfigurationError: one sentence.
    """
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    hint = "; write it without quotes" if isinstance(value, str) and value.lower() in ("true", "false") else ""
    raise _refuse(option, "True or False", given(value), hint)


def plain_text(option: str, value: object, *, what: str = "a text") -> str:
    """Return ``value`` if it is a text of at least one character without control characters.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    if isinstance(value, bytes):
        raise _refuse(option, what, "bytes", "; write it without the b before the quotes")
    if not isinstance(value, str):
        raise _refuse(option, what, given(value))
    if not value:
        raise _refuse(option, what, "an empty text")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise _refuse(option, what, "a text with control characters")
    return str(value)


def prefix(option: str, value: object) -> str:
    """Return the prefix as text.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = f"a text of 1 to {LONGEST_PREFIX} characters"
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise _refuse(option, accepted, "bytes that are not UTF-8") from None
    if not isinstance(value, str):
        hint = "; leave 'prefix' out for its default" if value is None else ""
        raise _refuse(option, accepted, given(value), hint)
    if not value:
        raise _refuse(option, accepted, "an empty text", f"; leave {option!r} out for its default")
    if len(value) > LONGEST_PREFIX:
        raise _refuse(option, accepted, f"one of {len(value)}")
    if "{" in value or "}" in value:
        raise _refuse(
            option, f"{accepted} without braces", "one with braces", "; Redis places keys by what stands in braces"
        )
    if any(character.isspace() for character in value):
        raise _refuse(option, f"{accepted} without spaces", "one with spaces or line breaks")
    if not value.isprintable():
        raise _refuse(option, accepted, "one with characters that can't be printed")
    return str(value)


def channel_capacity(option: str, value: object) -> tuple[tuple[re.Pattern[str], int], ...]:
    """Compile ``channel_capacity`` into (pattern, capacity) pairs in the order given.

    :param value: a dict or a list of pairs from a glob (text, as ``fnmatch`` has it) or a compiled regular
        expression to a capacity; ``None`` counts as empty, as in Channels. A text that begins with ``re:`` is a regular
        expression too; no channel name has a colon, so that it can't be meant as a glob.
    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = "a dict or a list of (pattern, capacity) pairs"
    if value is None:
        return ()
    if isinstance(value, Mapping):
        pairs: list[object] = list(value.items())
    elif isinstance(value, list | tuple):
        pairs = list(value)
    else:
        raise _refuse(option, accepted, given(value))
    result = []
    for position, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise _refuse(option, accepted, f"a sequence with {given(pair)} at position {position}")
        pattern, capacity = pair
        result.append((_pattern(option, pattern, position), whole_number(f"{option}[{position}]", capacity)))
    return tuple(result)


def _pattern(option: str, pattern: object, position: int) -> re.Pattern[str]:
    accepted = "a dict from globs (text) or regular expressions (compiled, or 're:' and its text) to capacities"
    if isinstance(pattern, re.Pattern):
        if isinstance(pattern.pattern, bytes):
            raise _refuse(
                option, accepted, f"one with a regular expression of bytes at position {position}", "; compile a text"
            )
        return pattern
    if isinstance(pattern, bytes):
        raise _refuse(option, accepted, f"one with a glob of bytes at position {position}", "; write it as text")
    if not isinstance(pattern, str):
        raise _refuse(option, accepted, f"one with {given(pattern)} as the pattern at position {position}")
    regular = pattern.startswith(REGULAR_EXPRESSION)
    expression = pattern.removeprefix(REGULAR_EXPRESSION)
    what = "a regular expression" if regular else "a glob"
    if not expression:
        raise _refuse(
            option, accepted, f"one with {what} that is empty at position {position}", "; '*' is every channel"
        )
    try:
        return re.compile(expression if regular else fnmatch.translate(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        at = getattr(error, "pos", None) if regular else None
        hint = "" if at is None else f"; look at its character {at + 1}"
        raise _refuse(
            option, accepted, f"one with {what} that can't be compiled at position {position}", hint
        ) from None


def serializer_format(option: str, value: object) -> SerializerFormat:
    """Return the name of a serializer; ``None`` and an empty text are the default's.

    :raises ConfigurationError: one sentence.
    """
    if value is None or value == "" or value == "msgpack":
        return "msgpack"
    if value == "json":
        return "json"
    raise _refuse(option, "'msgpack' or 'json'", given(value), "; serializers of one's own are not loaded")


def directory(option: str, value: object) -> str | None:
    """Return an absolute directory path as text, or ``None``.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = "an absolute path"
    if value is None:
        return None
    if isinstance(value, PurePath):
        value = str(value)
    text = plain_text(option, value, what=accepted)
    if text.startswith("~"):
        raise _refuse(option, accepted, "one that begins with '~'", "; write the home directory out")
    if not text.startswith("/"):
        raise _refuse(
            option, accepted, "a relative one", "; processes with different working directories would not meet"
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _refuse(option, accepted, "a text that can't be encoded")
    return text


def mode(option: str, value: object) -> int:
    """Return permission bits given as an integer (``0o700``) or as octal text (``"0700"``).

    Whoever may enter the directory must be able to read and write in it, so each digit is 7 or 0.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = "'0700' (owner only), '0770' (a group too) or '0777' (everybody)"
    if isinstance(value, bool) or value is None or not isinstance(value, int | str):
        raise _refuse(option, accepted, given(value))
    if isinstance(value, str):
        if not re.fullmatch(r"(0o?)?[0-7]{3}", value):
            raise _refuse(option, accepted, "a text that is not three octal digits")
        bits = int(value[-3:], 8)
    else:
        bits = value
        if bits in (700, 770, 777):
            raise _refuse(
                option, accepted, f"the decimal number {bits}", f"; write the text '0{bits}' or, in Python, 0o{bits}"
            )
    if bits not in (0o700, 0o770, 0o777):
        shown = f"0{bits:o}" if 0 <= bits <= 0o7777 else given(bits)
        raise _refuse(option, accepted, shown, "; whoever may enter must be able to read and write")
    return bits


def group(option: str, value: object) -> str | int | None:
    """Return a group's name or number, or ``None``.

    :raises ConfigurationError: one sentence for each kind of wrong value.
    """
    accepted = "a group's name or number"
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _refuse(option, accepted, given(value))
    if isinstance(value, int):
        if not 0 <= value < 2**32 - 1:
            raise _refuse(option, accepted, given(value), "; numbers go from 0 to 4294967294")
        return value
    return plain_text(option, value, what=accepted)
