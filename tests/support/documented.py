"""What the how-to pages tell a person to type, for the tests to type the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "redis-security.md"
PASSWORD = "the-password"
USER = "trunkline"


def acl_rules() -> list[list[str]]:
    """The rules of each ``ACL SETUSER`` of the page, in its order: the user that suffices, then what features add."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    return [words[4:] for words in commands if words[:4] == ["redis-cli", "ACL", "SETUSER", USER]]


def allowed(rules: list[str]) -> set[str]:
    """The commands that rules allow."""
    return {rule[1:] for rule in rules if rule.startswith("+")}
