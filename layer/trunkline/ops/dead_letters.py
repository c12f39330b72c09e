"""``trunkline dead-letters``: what messages were given up, and to give them again or drop them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from trunkline.errors import LayerUnavailable
from trunkline.ops.configured import configured_layer

if TYPE_CHECKING:
    from trunkline.layers.deliveries import DeadLetter

MOST_TEXT = 200  # characters of one text in a message that are shown
MOST_ITEMS = 50  # of a list or a dict
MOST_DEPTH = 8
MOST_SHOWN = 8000  # characters of one message
MOST_REASON = 60  # characters in the table

NONE = "There are no dead letters."

_ACTIONS = {
    "list": "one line for each",
    "show": "everything about each, with its message",
    "requeue": "give them to workers that run at least once again, as if for the first time",
    "drop": "remove them for good",
}


def add_arguments(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        "dead-letters",
        help="list, show, requeue or drop messages that were delivered in vain",
        description="Looks after the messages that runworker --delivery at-least-once gave up, on all servers that the "
        "environment configures (as `trunkline config` shows them). Exits with 0, or with 1 and one sentence when a "
        "server can't be reached or a letter isn't there (any more).",
    )
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    for action, help in _ACTIONS.items():
        sub = actions.add_parser(action, help=help, description=f"Dead letters: {help}.")
        if action != "list":
            sub.add_argument("ids", nargs="*", metavar="id", help="letters as `list` shows them")
            sub.add_argument("--all", action="store_true", help="all letters, or with --channel all of that channel")
        sub.add_argument("--channel", help="only letters of this channel")
        sub.add_argument("--json", action="store_true", help="JSON instead of text")
        sub.set_defaults(usage_error=sub.error)


def run(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Do what the arguments say and return the exit code.

    :raises ConfigurationError: when the environment is wrong, or configures a layer without dead letters.
    """
    ids = list(dict.fromkeys(getattr(given, "ids", [])))
    if given.action != "list" and bool(ids) == given.all:
        given.usage_error("name the letters, or say --all")
    if ids and given.channel:
        given.usage_error("letters are named by their ids or by --all with --channel, not both")
    layer = configured_layer(environ, "dead_letters", "can deliver at least once, such as trunkline.RedisChannelLayer")
    try:
        return asyncio.run(_run(layer, given, ids))
    except (LayerUnavailable, ValueError) as error:
        print(f"trunkline: {error}", file=sys.stderr)
        return 1


async def _run(layer: Any, given: argparse.Namespace, ids: Sequence[str]) -> int:
    try:
        letters: list[DeadLetter] = []
        if not ids or given.action == "show":
            letters = await layer.dead_letters(given.channel)
        if given.action == "list":
            _print(json.dumps([_facts(letter) for letter in letters], indent=2) if given.json else _table(letters))
            return 0
        if given.action == "show":
            chosen = [letter for letter in letters if not ids or letter.id in ids]
            if given.json:
                _print(json.dumps([{**_facts(letter), "message": bounded(letter.message)} for letter in chosen]))
            elif chosen or not ids:
                _print("\n\n".join(map(_described, chosen)) or NONE)
            return _missing([id for id in ids if id not in {letter.id for letter in chosen}])
        chosen_ids = list(ids) or [letter.id for letter in letters]
        change = layer.requeue_dead_letters if given.action == "requeue" else layer.drop_dead_letters
        missing = await change(chosen_ids)
        done, word = (
            [id for id in chosen_ids if id not in missing],
            {"requeue": "requeued"}.get(given.action, "dropped"),
        )
        letters_done = f"{len(done)} dead letter{'s' * (len(done) != 1)} {word}."
        _print(json.dumps({word: done, "missing": missing}) if given.json else letters_done)
        return _missing(missing if ids else [])
    finally:
        await layer.close()


def _print(text: str) -> None:
    print(text)
    sys.stdout.flush()


def _missing(ids: Sequence[str]) -> int:
    if ids:
        print(f"trunkline: There is no dead letter {', '.join(map(printable, ids))} (any more).", file=sys.stderr)
    return 1 if ids else 0


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "channel": letter.channel,
        "deliveries": letter.deliveries,
        "first": _time(letter.first),
        "last": _time(letter.last),
        "reason": letter.reason,
        "size": letter.size,
    }


def _table(letters: Sequence[DeadLetter]) -> str:
    if not letters:
        return NONE
    rows = [("ID", "CHANNEL", "DELIVERIES", "FIRST", "LAST", "REASON")]
    for letter in letters:
        facts = _facts(letter)
        reason = cut(printable(letter.reason), MOST_REASON)
        rows.append((letter.id, letter.channel, str(letter.deliveries), facts["first"], facts["last"], reason))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _described(letter: DeadLetter) -> str:
    lines = [f"{name}: {printable(str(value))}" for name, value in _facts(letter).items()]
    if letter.message is None:
        return "\n".join([*lines, "message: can't be read"])
    text = json.dumps(bounded(letter.message), indent=2, ensure_ascii=False)
    return "\n".join([*lines, "message:", *map(printable, cut(text, MOST_SHOWN).splitlines())])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def bounded(value: object, depth: int = 0) -> object:
    """A message's value as JSON can say it, however large it is."""
    if depth > MOST_DEPTH:
        return "…"
    if isinstance(value, str):
        return cut(value, MOST_TEXT)
    if isinstance(value, bytes):
        return f"{len(value)} bytes: {cut(value[:MOST_TEXT].hex(' '), MOST_TEXT)}"
    if isinstance(value, dict):
        some = {cut(key, MOST_TEXT): bounded(item, depth + 1) for key, item in list(value.items())[:MOST_ITEMS]}
        return {**some, "…": f"{len(value) - MOST_ITEMS} more"} if len(value) > MOST_ITEMS else some
    if isinstance(value, list):
        items = [bounded(item, depth + 1) for item in value[:MOST_ITEMS]]
        return [*items, f"… {len(value) - MOST_ITEMS} more"] if len(value) > MOST_ITEMS else items
    return value


def cut(text: str, most: int) -> str:
    """The beginning of a text, and how much is left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def printable(text: str) -> str:
    """A text that can't move a terminal's cursor or change its colours."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
