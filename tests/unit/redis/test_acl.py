"""The Redis user of docs/how-to/redis-security.md may do what the layer does, and no more."""

from __future__ import annotations

import re
from pathlib import Path

import trunkline
from support.documented import acl_rules, allowed
from trunkline.redis.scripts import HELD

REDIS = Path(trunkline.__file__).parent / "redis"
CONTAINERS = {"script", "xgroup", "xinfo"}  # of subcommands, which are allowed one by one
OF_HELD_MESSAGES = {"deadletters.py", "reliable.py", "_held.lua", *(f"{name}.lua" for name in HELD)}
IN_SCRIPTS = re.compile(r"redis\.p?call\(\s*'(\w+)'(?:, '([A-Z]+)')?")
IN_PYTHON = re.compile(r"[\[(]\s*b\"([A-Z]{3,})\"(?:, b\"([A-Z]+)\")?")
OF_SENTINEL = {"role", "wait"}
TO_SENTINELS = {"sentinel", "subscribe", "ping"}  # docs/how-to/sentinel.md


def commands_of(*, held: bool) -> set[str]:
    """What the scripts call and the modules send, with or without those of held messages."""
    found: set[str] = set()
    for path in [*REDIS.glob("*.py"), *REDIS.glob("lua/*.lua")]:
        if (path.name in OF_HELD_MESSAGES) is held:
            for name, sub in (IN_PYTHON if path.suffix == ".py" else IN_SCRIPTS).findall(path.read_text()):
                found.add(f"{name}|{sub}".lower() if name.lower() in CONTAINERS else name.lower())
    return found - TO_SENTINELS


def test_the_user_may_do_what_the_layer_does_and_nothing_else() -> None:
    everywhere = allowed(acl_rules()[0])
    assert "evalsha" in everywhere
    assert commands_of(held=False) - OF_SENTINEL == everywhere


def test_delivery_at_least_once_needs_what_the_page_adds_for_it() -> None:
    everywhere, more = (allowed(rules) for rules in acl_rules()[:2])
    assert commands_of(held=True) - everywhere == more


def test_sentinel_needs_what_the_page_adds_for_it() -> None:
    assert commands_of(held=False) & OF_SENTINEL == allowed(acl_rules()[2])
    assert allowed(acl_rules()[3]) == {"select"}  # redis-py sends it where `db` isn't 0


def test_the_user_reaches_the_keys_of_the_prefix_alone() -> None:
    rules = acl_rules()[0]
    assert rules[0] == "reset"
    assert [rule for rule in rules if rule.startswith("~")] == ["~tl1:trunkline:*"]
    assert not [rule for rule in rules if rule.startswith(("+@", "&", "%"))]
