"""Secrets print as ``***`` and never stand in a message."""

from __future__ import annotations

import dataclasses
import traceback
from typing import Any

import pytest

from support.endpoints import only_endpoint
from trunkline.config import Endpoint, ipc_options, redis_options
from trunkline.errors import ConfigurationError

SECRET = "hunter2-9f1c"


class Provider:
    def get_credentials(self) -> tuple[str]:
        return (SECRET,)

    def __repr__(self) -> str:
        return f"Provider({SECRET})"


@pytest.mark.parametrize(
    "config",
    [
        {"hosts": [f"redis://:{SECRET}@a"]},
        {"hosts": [f"redis://{SECRET}@a"]},
        {"hosts": [f"redis://a?password={SECRET}"]},
        {"hosts": [{"host": "a", "password": SECRET}]},
        {"hosts": [{"address": "rediss://a", "ssl_password": SECRET, "ssl_ca_data": SECRET}]},
        {"hosts": ["unix:///a"], "connection_kwargs": {"password": SECRET}},
        {"connection_kwargs": {"credential_provider": Provider()}},
        {"symmetric_encryption_keys": [SECRET]},
    ],
)
def test_no_repr_shows_a_secret(config: dict[str, Any]) -> None:
    options = redis_options(config)
    endpoint = only_endpoint(options)
    for shown in (repr(options), str(options), repr(endpoint), f"{endpoint}", repr(endpoint.options), endpoint.label):
        assert SECRET not in shown
    assert "***" in repr(options)


def test_an_endpoint_shows_masks_for_plain_mappings_too() -> None:
    endpoint = Endpoint(password=SECRET, options={"ssl_password": SECRET, "client_name": "me"})
    assert repr(endpoint) == (
        "<Endpoint redis://localhost:6379/0 password=*** options={'ssl_password': ***, 'client_name': 'me'}>"
    )


def test_a_user_name_is_shown_only_beside_a_password() -> None:
    assert repr(Endpoint(username="me", password=SECRET)) == (
        "<Endpoint redis://localhost:6379/0 username=me password=***>"
    )
    assert repr(Endpoint(username=SECRET)) == "<Endpoint redis://localhost:6379/0 username=***>"


def test_the_secret_itself_is_there_to_be_used() -> None:
    assert only_endpoint(redis_options({"hosts": [f"redis://:{SECRET}@a"]})).password == SECRET


def test_endpoints_can_be_compared_hashed_and_replaced() -> None:
    one, other = (only_endpoint(redis_options({"hosts": [f"redis://:{SECRET}@a?client_name=x"]})) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert dataclasses.replace(one, db=3) != one


@pytest.mark.parametrize(
    "hosts",
    [
        f"redis://:{SECRET}@a",
        f"redis://:{SECRET}@a:99999",
        f"redis://:{SECRET}@a/x",
        f"redis://:{SECRET}@a:port",
        f"redis://:/{SECRET}@a",
        f"redis://:#{SECRET}@a",
        f"redis://:?{SECRET}@a",
        f"redis://:1?{SECRET}@a",
        f"redis://:1?x={SECRET}@a",
        f"redis://:1?{SECRET}=x@a",
        f"redis://:1/{SECRET}@a",
        f"redis://[{SECRET}@a",
        f"redis://:{SECRET}\u2100@a",
        f"redis://:{SECRET} @a",
        f"redis://a?db={SECRET}",
        f"redis://a?ssl_min_version={SECRET}",
        f"redis://a?{SECRET}",
        f"{SECRET}://a",
        f"http://:{SECRET}@a",
        f"unix://{SECRET}/a",
        f"a:{SECRET}",
        f"{SECRET}@a",
        {"host": SECRET + "@a"},
        {"host": "a", "port": SECRET},
        {"host": "a", "db": SECRET},
        {"host": "a", "password": [SECRET]},
        {"host": "a", "password": {SECRET: SECRET}},
        {"address": f"redis://:{SECRET}@a", "host": "b"},
        {"host": "a", "password": SECRET, "hots": SECRET},
        {"host": "a", "ssl": SECRET},
        {"host": "a", "ssl": True, "ssl_cert_reqs": SECRET},
        {"host": "a", "socket_connect_timeout": SECRET},
        {"host": "a", "client_name": f"a {SECRET}"},
        {"sentinels": [SECRET], "sentinel_kwargs": {"password": SECRET}},
        {"host": "\\ 'redis'", "\\ 'password':\\ '" + SECRET + "'": None},
        {"host": "\\ '" + SECRET + "@", "\\ 'port':\\ " + SECRET: None},
        (SECRET + "@a", 1),
        ("a", SECRET),
        ("a", 1, SECRET),
        SECRET.encode(),
    ],
    ids=str,
)
def test_no_message_about_hosts_holds_a_secret(hosts: Any) -> None:
    given = hosts if isinstance(hosts, str) and hosts == f"redis://:{SECRET}@a" else [hosts]
    with pytest.raises(ConfigurationError) as caught:
        redis_options({"hosts": given})
    # The whole chain: a cause or a context would be printed with the traceback.
    printed = "".join(traceback.format_exception_only(caught.value))
    assert SECRET not in printed
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    "config",
    [
        {"symmetric_encryption_keys": [[SECRET]]},
        {"symmetric_encryption_keys": SECRET},
        {"password": SECRET},
        {"connection_kwargs": {"password": [SECRET]}},
        {"connection_kwargs": SECRET},
        {"connection_kwargs": {"redis_connect_func": SECRET}},
        {"capacity": SECRET},
        {"expiry": SECRET},
        {"prefix": SECRET + "{"},
        {"channel_capacity": {SECRET: -1}},
        {"channel_capacity": {SECRET: SECRET}},
        {"serializer_format": SECRET},
        {"hosts": {"password": SECRET}},
        {SECRET + "@": 1},
    ],
    ids=str,
)
def test_no_message_about_other_options_holds_a_secret(config: Any) -> None:
    for judge in (redis_options, ipc_options):
        with pytest.raises(ConfigurationError) as caught:
            judge(config)
        assert SECRET not in str(caught.value)
