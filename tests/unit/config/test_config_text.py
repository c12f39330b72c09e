"""A ``CONFIG`` written as text, in every quoting that reaches a container."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from trunkline.config import parse_config_text, redis_options
from trunkline.errors import ConfigurationError

MEANT = {"hosts": [{"host": "redis", "port": 6379}]}

# Byte for byte what Tethys' documented Dockerfile, Compose env_file and `docker run --env-file` produce.
TETHYS = [
    r""""{'hosts':[{'host':\ 'redis',\ 'port':\ 6379}]}\"""".replace('\\"', '"'),
    """"{'hosts':[{'host': 'redis', 'port': 6379}]}\"""",
    r""""\"{'hosts':[{'host': 'redis', 'port': 6379}]}\""  # Hostname is the name of the service""",
]


def sentence(text: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_config_text(text)
    return str(caught.value)


def test_the_three_values_of_tethys_are_those_of_its_documentation() -> None:
    assert [value.encode().hex() for value in TETHYS] == [
        b"\"{'hosts':[{'host':\\ 'redis',\\ 'port':\\ 6379}]}\"".hex(),
        b"\"{'hosts':[{'host': 'redis', 'port': 6379}]}\"".hex(),
        b"\"\\\"{'hosts':[{'host': 'redis', 'port': 6379}]}\\\"\"  # Hostname is the name of the service".hex(),
    ]


@pytest.mark.parametrize("text", TETHYS, ids=["Dockerfile", "env_file", "--env-file"])
def test_the_values_of_tethys_parse_to_the_same_dict(text: str) -> None:
    assert parse_config_text(text) == MEANT
    assert redis_options(parse_config_text(text)).hosts[0].label == "redis://redis:6379/0"


@pytest.mark.parametrize(
    "text",
    [
        '{"hosts": [{"host": "redis", "port": 6379}]}',
        '{"hosts":[{"host":"redis","port":6379}]}',
        "{'hosts': [{'host': 'redis', 'port': 6379,}]}",
        "{hosts: [{host: redis, port: 6379}]}",
        "{ 'hosts': [ {host: 'redis', \"port\": 6379} ] }",
        "  \n{'hosts': [{'host': 'redis', 'port': 6379}]}\n ",
        "\ufeff{'hosts': [{'host': 'redis', 'port': 6379}]}",
        "{'hosts': [{'host': 'redis', 'port': 6379}]}  # a comment",
        "{hosts: [{host: redis, port: 6379}]}  # a comment",
        r"{'hosts':[{'host':\ 'redis',\ 'port':\ 6379}]}",
        '\'{"hosts": [{"host": "redis", "port": 6379}]}\'',
        '"{\\"hosts\\": [{\\"host\\": \\"redis\\", \\"port\\": 6379}]}"',
        '{\n  "hosts": [\n    {"host": "redis", "port": 6379}\n  ]\n}',
    ],
)
def test_other_ways_to_write_the_same_parse_to_the_same(text: str) -> None:
    assert parse_config_text(text) == MEANT


def test_a_python_literal_keeps_its_tuples() -> None:
    assert parse_config_text("{'hosts': [('redis', 6379)]}") == {"hosts": [("redis", 6379)]}


def test_json_words_in_a_python_literal_are_left_to_yaml() -> None:
    assert parse_config_text("{'hosts': null, 'x': true}") == {"hosts": None, "x": True}


def test_a_url_in_yaml_stays_one_text() -> None:
    assert parse_config_text("{hosts: [redis://redis:6379/0]}") == {"hosts": ["redis://redis:6379/0"]}


def test_a_backslash_and_a_space_inside_quotes_stay() -> None:
    text = r"{'hosts':[{'host':\ 'redis', 'password': 'a\ b'}]}"
    assert parse_config_text(text)["hosts"] == [{"host": "redis", "password": r"a\ b"}]


WRONG: list[tuple[Any, str]] = [
    ("", "is empty; expected a dict such as"),
    (" \n ", "is empty"),
    ("''", "holds nothing but quotes"),
    ("hunter2", 'must be a dict such as {"hosts": ["redis://redis:6379"]}, not one text of 7 characters'),
    ('"hunter2"', "not one text of 9 characters"),
    ("redis://:hunter2@redis", "a Redis URL belongs into REDIS_URL"),
    ("['redis']", "not a list of 1"),
    ("4711", "not a number"),
    ("null", "not None"),
    ("true", "not the boolean True"),
    ("{4711: 1}", "must be a dict with texts as keys, not a number"),
    ("{hunter2}", "(length 9) has a key without a value at position 1: expected ': ' (colon and space)"),
    ("{hosts: [{host:redis}]}", "has a key without a value at position 10"),
    ("hosts:\n- redis", "is YAML in block style; write it in flow style"),
    ("{a: &x 1, b: *x}", "an alias of YAML"),
    ("{'hosts': ['redis']", "length 19, position 19: expected '}' for the bracket at position 0"),
    ("{'hosts': ['redis'}", "length 19, position 18: expected ']' for the bracket at position 10"),
    ("{'hosts': ['redis]}", "position 19: expected the closing quote of the text that begins at position 11"),
    ("{'hosts': ['redis']}}", "position 20: expected the end"),
    ("{'hosts': ['redis' 'b' : 3]}", "expected a key, a value, ',' or ':'"),
    ("{d: 2020-99-99}", "expected a key, a value, ',' or ':'"),
    ("{d: !!python/object:os.system x}", "expected a key, a value, ',' or ':'"),
    ('\'{"hosts": ["redis"]\'', "position 19 of the 19 inside its quotes: expected '}'"),
    ("[1, 2", "position 0: expected '{'"),
    ("[" * 33 + "]" * 33, "more than 32 brackets inside each other"),
    ("{'a': " + "1" * 65536 + "}", "has 65543 characters; at most 65536 are read"),
    (None, "must be a text, not None"),
    (b"{}", "must be a text, not 2 bytes"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[what for _, what in WRONG])
def test_each_kind_of_wrong_text_has_its_own_sentence(text: Any, expected: str) -> None:
    said = sentence(text)
    assert expected in said
    assert "hunter2" not in said
    assert "4711" not in said


def test_the_source_begins_the_message() -> None:
    with pytest.raises(ConfigurationError, match=r"^CHANNEL_LAYERS_CONFIG is empty"):
        parse_config_text("", source="CHANNEL_LAYERS_CONFIG")


def test_the_dict_that_tethys_makes_of_backslashes_is_refused_with_the_line_to_write() -> None:
    mangled = {"hosts": [{"host": "\\ 'redis'", "\\ 'port':\\ 6379": None}]}
    expected = 'CHANNEL_LAYERS_CONFIG={"hosts":[{"host":"redis","port":6379}]}'
    for text in (json.dumps(mangled), repr(mangled), repr(json.dumps(mangled))):
        assert sentence(text).endswith(expected)
    assert parse_config_text(expected.partition("=")[2]) == MEANT


def test_no_warning_prints_pieces_of_the_text() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parse_config_text(r"{'a': 'hunter\d'}")
    assert caught == []
