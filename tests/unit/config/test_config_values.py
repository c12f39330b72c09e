"""Every option of both layers: what is accepted, and one sentence for each kind of wrong value."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import FrozenInstanceError, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from trunkline.config import (
    LAYERS,
    OPTIONS,
    CommonOptions,
    IPCOptions,
    RedisOptions,
    ipc_options,
    parse_config_text,
    redis_options,
)
from trunkline.errors import ConfigurationError


def sentence(config: Any, judge: Any = redis_options) -> str:
    with pytest.raises(ConfigurationError) as caught:
        judge(config)
    return str(caught.value)


def test_without_options_the_defaults_hold() -> None:
    assert redis_options({}) == RedisOptions()
    assert ipc_options({}) == IPCOptions()
    assert redis_options({}).hosts[0].label == "redis://localhost:6379/0"


def test_the_table_of_options_states_the_defaults_that_hold() -> None:
    for layer, judge in (("redis", redis_options), ("ipc", ipc_options)):
        written = {o.name: o.default for o in OPTIONS if layer in o.layers and o.fate == "accepted"}
        assert judge(written) == judge({})


def test_the_table_holds_each_name_once_for_a_layer() -> None:
    for layer in LAYERS:
        names = [option.name for option in OPTIONS if layer in option.layers]
        assert len(names) == len(set(names))


def test_given_values_arrive_as_given() -> None:
    config = {"prefix": "asgi:", "expiry": 0.5, "group_expiry": 10, "capacity": 7, "channel_capacity": {"a*": 3}}
    for judge in (redis_options, ipc_options):
        common = judge(config).common
        assert (common.prefix, common.expiry, common.group_expiry, common.capacity) == ("asgi:", 0.5, 10, 7)
        assert common.capacity_of("abc") == 3
    assert redis_options({"retry_time": 3}).retry_time == 3


DURATIONS = [
    (0, "zero"),
    (0.0, "zero"),
    (-5, "the negative -5"),
    (True, "the boolean True"),
    ("60", "the text '60'; write the number without quotes"),
    ("soon", "a text of 4 characters"),
    (float("nan"), "nan"),
    (float("inf"), "inf (infinity); the largest is"),
    (1e-9, "the smallest is 0.001"),
    (10**12, "the largest is 3155760000"),
    (10**5000, "more than 20 digits; the largest is"),
    (None, "None; leave 'expiry' out for its default"),
    ([60], "a list of 1"),
    (b"60", "2 bytes"),
    (Fraction(1, 2), "an object of type Fraction"),
]


@pytest.mark.parametrize(("value", "expected"), DURATIONS, ids=[what for _, what in DURATIONS])
def test_each_kind_of_wrong_duration_has_its_own_sentence(value: Any, expected: str) -> None:
    for option in ("expiry", "group_expiry"):
        said = sentence({option: value})
        assert said.startswith(f"Option {option!r} must be a number of seconds above zero, not ")
        assert expected.replace("'expiry'", f"'{option}'") in said


def test_the_retry_time_is_a_duration_of_at_most_a_minute() -> None:
    assert "the largest is 60" in sentence({"retry_time": 61})


NUMBERS = [
    (0, "zero"),
    (-1, "the negative -1"),
    (True, "the boolean True"),
    (100.0, "the fraction 100.0; write 100"),
    (1.5, "the fraction 1.5."),
    ("100", "the text '100'; write the number without quotes"),
    ("many", "a text of 4 characters"),
    (float("nan"), "nan"),
    (float("inf"), "infinity"),
    (2**63, "the largest is 9223372036854775807"),
    (None, "None; leave 'capacity' out"),
    ({}, "a dict"),
]


@pytest.mark.parametrize(("value", "expected"), NUMBERS, ids=[what for _, what in NUMBERS])
def test_each_kind_of_wrong_capacity_has_its_own_sentence(value: Any, expected: str) -> None:
    said = sentence({"capacity": value})
    assert said.startswith("Option 'capacity' must be a whole number of messages, at least 1, not ")
    assert expected in said


def test_no_two_kinds_of_wrong_number_share_a_sentence() -> None:
    for option, cases in (("expiry", DURATIONS[1:]), ("capacity", NUMBERS)):
        said = [sentence({option: value}) for value, _ in cases]
        assert len(set(said)) == len(said)


PREFIXES = [
    ("", "an empty text; leave 'prefix' out for its default"),
    ("x" * 101, "not one of 101"),
    ("a{b}", "without braces"),
    ("a b", "without spaces"),
    ("a\n", "without spaces"),
    ("a\x00", "can't be printed"),
    ("a\ud800", "can't be printed"),
    (b"\xff", "bytes that are not UTF-8"),
    (7, "not 7"),
    (None, "None; leave 'prefix' out"),
]


@pytest.mark.parametrize(("value", "expected"), PREFIXES, ids=[what for _, what in PREFIXES])
def test_each_kind_of_wrong_prefix_has_its_own_sentence(value: Any, expected: str) -> None:
    assert expected in sentence({"prefix": value})


def test_a_prefix_of_bytes_is_taken_as_utf8() -> None:
    assert redis_options({"prefix": b"asgi:"}).common.prefix == "asgi:"


def test_a_prefix_written_for_another_layer_is_taken_by_both() -> None:
    for prefix in ("asgi:", "site/1", "..", "ä", "a*", "site-1.example:"):
        for judge in (redis_options, ipc_options):
            assert judge({"prefix": prefix}).common.prefix == prefix


def test_the_first_pattern_in_the_order_given_decides_the_capacity() -> None:
    patterns = [("http.request", 200), (re.compile(r"^websocket.send\!.+"), 20), ("http.*", 5), ("http.response!*", 10)]
    for given in (patterns, tuple(patterns), OrderedDict(patterns), [list(pair) for pair in patterns]):
        common = redis_options({"channel_capacity": given, "capacity": 100}).common
        names = ["http.request", "websocket.send!x", "http.response!x", "http.requests", "other"]
        assert [common.capacity_of(name) for name in names] == [200, 20, 5, 5, 100]


def test_a_glob_covers_the_whole_name_and_an_expression_only_what_it_says() -> None:
    common = redis_options({"channel_capacity": {"thumb": 1, re.compile("chat"): 2, "[ab]?": 3}}).common
    assert [common.capacity_of(name) for name in ("thumb", "thumbs", "chatter", "ax", "cx")] == [1, 100, 2, 3, 100]


CAPACITIES = [
    ("a*=3", "a text of 4 characters"),
    ([1], "with 1 at position 0"),
    ([("a", 1), ("a", 1, 1)], "with a tuple of 3 at position 1"),
    ({b"a*": 1}, "a glob of bytes at position 0"),
    ({re.compile(b"a"): 1}, "a regular expression of bytes at position 0"),
    ({3: 1}, "3 as the pattern at position 0"),
    ({"": 1}, "a glob that is empty at position 0; '*' is every channel"),
    ({"a*": 1, "re:": 1}, "a regular expression that is empty at position 1; '*' is every channel"),
    ({"a*": 1, "re:^chat[": 1}, "a regular expression that can't be compiled at position 1; look at its character 6."),
    ({"re:(?P<a>x)(?P<a>x)": 1}, "a regular expression that can't be compiled at position 0; look at its character"),
    ({"a": -1}, "'channel_capacity[0]' must be a whole number of messages, at least 1, not the negative -1"),
    ({"a": "1"}, "write the number without quotes"),
    (5, "not 5"),
]


@pytest.mark.parametrize(("value", "expected"), CAPACITIES, ids=[what for _, what in CAPACITIES])
def test_each_kind_of_wrong_channel_capacity_has_its_own_sentence(value: Any, expected: str) -> None:
    assert expected in sentence({"channel_capacity": value})


@pytest.mark.parametrize(
    "text",
    [
        r'{"channel_capacity": {"re:websocket\\.send!.+": 20, "re:chat|thumb": 2, "[ab]?": 3}}',
        r"""{'channel_capacity': [(r're:websocket\.send!.+', 20), ('re:chat|thumb', 2), ('[ab]?', 3)]}""",
        r"""{channel_capacity: {'re:websocket\.send!.+': 20, 're:chat|thumb': 2, '[ab]?': 3}}""",
        r"""{channel_capacity: {re:websocket\.send!.+: 20, re:chat|thumb: 2, '[ab]?': 3}}""",
    ],
    ids=["json", "python", "yaml", "yaml without quotes"],
)
def test_a_text_says_by_re_and_a_colon_that_a_pattern_is_a_regular_expression(text: str) -> None:
    for judge in (redis_options, ipc_options):
        common = judge(parse_config_text(text)).common
        names = ["websocket.send!1", "websocket-send!1", "thumbs", "chat", "ax", "re:chat"]
        assert [common.capacity_of(name) for name in names] == [20, 100, 2, 2, 3, 100]


def test_no_channel_capacity_may_be_none_as_in_channels() -> None:
    assert redis_options({"channel_capacity": None}).common == CommonOptions()


def test_an_unknown_option_is_named_with_its_nearest_neighbour_and_all_that_is_accepted() -> None:
    said = sentence({"capcity": 3})
    assert "Unknown option 'capcity' for trunkline.RedisChannelLayer; did you mean 'capacity'? accepted are:" in said
    for name in ("hosts", "prefix", "expiry", "group_expiry", "capacity", "channel_capacity", "connection_kwargs"):
        assert name in said


def test_an_unknown_option_without_neighbours_gets_no_suggestion() -> None:
    assert "did you mean" not in sentence({"zzzzqqqq": 3})


def test_an_option_of_the_other_layer_says_whose_it_is() -> None:
    assert "'directory' belongs to trunkline.RedisLocalChannelLayer and trunkline.IPCChannelLayer, not" in sentence(
        {"directory": "/x"}
    )
    assert "'hosts' belongs to trunkline.RedisChannelLayer, trunkline.RedisSentinelChannelLayer and" in sentence(
        {"hosts": []}, ipc_options
    )


@pytest.mark.parametrize("config", [None, [], "hosts", 3, [("expiry", 3)]])
def test_a_config_that_is_no_dict_is_refused(config: Any) -> None:
    assert "must be a dict, not " in sentence(config)
    assert "must be a dict, not " in sentence(config, ipc_options)


def test_an_option_that_is_no_text_is_refused() -> None:
    assert "Unknown option (3 in place of a name)" in sentence({3: 4})


DIRECTORIES = [
    ("run/ipc", "a relative one"),
    ("~/ipc", "begins with '~'"),
    ("", "an empty text"),
    ("/a\0b", "control characters"),
    ("/a\ud800", "can't be encoded"),
    (b"/a", "bytes"),
    (3, "not 3"),
]


@pytest.mark.parametrize(("value", "expected"), DIRECTORIES, ids=[what for _, what in DIRECTORIES])
def test_each_kind_of_wrong_directory_has_its_own_sentence(value: Any, expected: str) -> None:
    assert expected in sentence({"directory": value}, ipc_options)


def test_a_directory_may_be_a_path_object() -> None:
    assert ipc_options({"directory": Path("/run/site")}).directory == "/run/site"


@pytest.mark.parametrize(("given", "bits"), [("0700", 0o700), ("770", 0o770), (0o777, 0o777), ("0o770", 0o770)])
def test_a_mode_is_an_octal_number_or_text(given: Any, bits: int) -> None:
    assert ipc_options({"mode": given}).mode == bits


MODES = [
    (700, "the decimal number 700; write the text '0700' or, in Python, 0o700"),
    (0o750, "not 0750; whoever may enter"),
    ("0750", "not 0750; whoever may enter"),
    (0o070, "not 070;"),
    ("rwx", "three octal digits"),
    ("0800", "three octal digits"),
    (True, "the boolean True"),
    (None, "None"),
    (448.0, "448.0"),
    (-1, "-1"),
]


@pytest.mark.parametrize(("value", "expected"), MODES, ids=[what for _, what in MODES])
def test_each_kind_of_wrong_mode_has_its_own_sentence(value: Any, expected: str) -> None:
    assert expected in sentence({"mode": value}, ipc_options)


def test_a_group_opens_the_directory_to_itself() -> None:
    assert ipc_options({"group": "www-data"}) == IPCOptions(group="www-data", mode=0o770)
    assert ipc_options({"group": 33, "mode": "0777"}) == IPCOptions(group=33, mode=0o777)


GROUPS = [
    ({"group": ""}, "an empty text"),
    ({"group": True}, "the boolean True"),
    ({"group": -1}, "numbers go from 0"),
    ({"group": 1.0}, "not 1.0"),
    ({"group": "g", "mode": "0700"}, "'0770' or '0777' where 'group' is given"),
]


@pytest.mark.parametrize(("config", "expected"), GROUPS, ids=[what for _, what in GROUPS])
def test_each_kind_of_wrong_group_has_its_own_sentence(config: Any, expected: str) -> None:
    assert expected in sentence(config, ipc_options)


def test_a_size_is_a_number_of_bytes_that_a_store_fits_in() -> None:
    assert ipc_options({"size": 2**20}).size == 2**20
    assert "the smaller 100" in sentence({"size": 100}, ipc_options)
    assert "the largest is 1099511627776" in sentence({"size": 2**41}, ipc_options)
    assert "a text of 4 characters" in sentence({"size": "64MB"}, ipc_options)


def test_options_are_frozen() -> None:
    for frozen in (redis_options({}), redis_options({}).hosts[0], ipc_options({}), CommonOptions()):
        for field in fields(frozen):
            with pytest.raises(FrozenInstanceError):
                setattr(frozen, field.name, None)
