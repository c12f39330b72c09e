"""The rules for channel and group names, as pure functions.

Source: the Channels channel layer specification (names of ASCII letters, digits, hyphens, underscores and full
stops; one ``!`` in process-specific channel names; fewer than 100 characters).
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_NAME_LENGTH = 99  # characters; Channels: "fewer than 100"

_GROUP = re.compile(r"[A-Za-z0-9_.\-]{1,99}")
_CHANNEL = re.compile(r"(?=.{1,99}\Z)[A-Za-z0-9_.\-]+(?:![A-Za-z0-9_.\-]*)?")
_PREFIX = re.compile(r"[A-Za-z0-9_.\-]{1,60}")
_PROCESS = re.compile(r"(?s).*\.([0-9a-f]{24})\Z")

PROCESS_ID_LENGTH = 24  # hexadecimal digits: 96 random bits


class Address(NamedTuple):
    """A process-specific channel name taken apart.

    :ivar head: everything up to and including the ``!``.
    :ivar process: the process id inside the head, or ``None`` where no process owns the name.
    :ivar local: what follows the ``!``; empty where the name asks for any channel of the process.
    """

    head: str
    process: str | None
    local: str


def check_channel(name: object, *, receive: bool = False) -> str:
    """Return ``name`` if it is a legal channel name.

    :param receive: also accept a name that ends with ``!`` (any channel of that process).
    :raises TypeError: with one sentence that says what was given and what is accepted.
    """
    if isinstance(name, str) and _CHANNEL.fullmatch(name) and (receive or not name.endswith("!")):
        return name
    raise TypeError(_refusal("channel", name, "with at most one '!' between two parts"))


def check_group(name: object) -> str:
    """Return ``name`` if it is a legal group name.

    :raises TypeError: with one sentence that says what was given and what is accepted.
    """
    if isinstance(name, str) and _GROUP.fullmatch(name):
        return name
    raise TypeError(_refusal("group", name, "without '!'"))


def check_new_channel_prefix(prefix: object) -> str:
    """Return ``prefix`` if ``new_channel`` can build names from it (1 to 60 characters, so that the name fits)."""
    if isinstance(prefix, str) and _PREFIX.fullmatch(prefix):
        return prefix
    raise TypeError(
        f"The prefix of a new channel must be a string of 1 to 60 ASCII letters, digits, hyphens, underscores "
        f"and full stops, not {_show(prefix)}."
    )


def address_of(channel: str) -> Address | None:
    """Take a legal channel name apart; ``None`` for a normal channel (a name without ``!``)."""
    head, mark, local = channel.partition("!")
    if not mark:
        return None
    match = _PROCESS.match(head)
    return Address(head + "!", match[1] if match else None, local)


def _refusal(kind: str, name: object, form: str) -> str:
    return (
        f"A {kind} name must be a string of 1 to {MAX_NAME_LENGTH} ASCII letters, digits, hyphens, underscores "
        f"and full stops, {form}, not {_show(name)}."
    )


def _show(value: object) -> str:
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return repr(value) if len(value) <= 120 else f"{value[:60]!r}… ({len(value)} characters)"
