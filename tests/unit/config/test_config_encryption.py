"""``symmetric_encryption_keys``: each kind of wrong value has its own sentence, and no sentence shows a key."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from trunkline.cli import describe
from trunkline.config import ipc_options, redis_options
from trunkline.errors import ConfigurationError

STRONG = "correct horse battery staple"


def judged(keys: Any) -> Any:
    first, second = (judge({"symmetric_encryption_keys": keys}).common for judge in (redis_options, ipc_options))
    assert first == second
    return first


def test_a_key_counts_by_its_sha_256_as_in_asgi_redis() -> None:
    common = judged([STRONG, bytearray(32), b"\xff" * 32])
    assert list(common.symmetric_encryption_keys) == [
        sha256(STRONG.encode()).digest(),
        sha256(bytes(32)).digest(),
        sha256(b"\xff" * 32).digest(),
    ]
    assert judged([STRONG]) == judged((STRONG.encode(),))
    assert judged([STRONG, STRONG]) == judged([STRONG])


@pytest.mark.parametrize("nothing", [None, [], ()], ids=repr)
def test_no_keys_mean_no_encryption(nothing: Any) -> None:
    assert judged(nothing) == judged(None)
    assert not judged(nothing).symmetric_encryption_keys


REFUSED = [
    (STRONG, "must be a list of keys (texts or bytes), not a text; write brackets around the key."),
    (STRONG.encode(), "not bytes; write brackets around the key."),
    ("", "not an empty text; write brackets"),
    ({STRONG: STRONG}, "not a dict."),
    ({STRONG}, "not a set of 1."),
    (7, "not 7."),
    ([STRONG, ""], "not one with an empty key at 1."),
    ([" \n"], "not one with an empty key at 0."),
    ([None], "not one with None at position 0."),
    ([12345678901234567890], "not one with a number at position 0."),
    ([[STRONG]], "not one with a list of 1 at position 0."),
    ([STRONG + "\ud800"], "not one with a text that can't be encoded at 0."),
]


@pytest.mark.parametrize(("value", "expected"), REFUSED, ids=[what for _, what in REFUSED])
def test_each_kind_of_wrong_value_has_its_own_sentence(value: Any, expected: str) -> None:
    for judge in (redis_options, ipc_options):
        with pytest.raises(ConfigurationError) as caught:
            judge({"symmetric_encryption_keys": value})
        assert expected in str(caught.value)
        assert "'symmetric_encryption_keys'" in str(caught.value)
        assert "horse" not in str(caught.value)
        assert "1234567" not in str(caught.value)


def test_a_short_key_is_warned_of_without_showing_it() -> None:
    common = judged([STRONG, "hunter2"])
    assert len(common.warnings) == 1
    assert "Key 2 of option 'symmetric_encryption_keys' is weak" in common.warnings[0]
    assert "hunter2" not in common.warnings[0]


def test_neither_a_repr_nor_the_command_shows_a_key() -> None:
    options = redis_options({"symmetric_encryption_keys": [STRONG]})
    for shown in (repr(options), str(options), repr(options.common.symmetric_encryption_keys)):
        assert "***" in shown
        assert "horse" not in shown
        assert repr(sha256(STRONG.encode()).digest()) not in shown
    environ = {"CHANNEL_LAYERS_CONFIG": '{"hosts": ["redis://a"], "symmetric_encryption_keys": ["hunter2"]}'}
    lines = list(describe(environ))
    assert "symmetric_encryption_keys: ***" in lines
    assert [line for line in lines if "is weak" in line]
    assert "hunter2" not in "".join(lines)
    assert "symmetric_encryption_keys: none" in list(describe({"REDIS_URL": "redis://a"}))
