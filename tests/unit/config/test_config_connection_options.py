"""``connection_kwargs`` and the connection options of single hosts."""

from __future__ import annotations

import inspect
import ssl
from typing import Any

import pytest
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection

from support.endpoints import endpoints, only_endpoint
from trunkline.config import CONNECTION_OPTIONS, redis_options
from trunkline.config.connection import VERIFY_FLAGS
from trunkline.errors import ConfigurationError


class Provider:
    def get_credentials(self) -> tuple[str]:
        return ("token-4711",)


EXAMPLES: dict[str, Any] = {
    "credential_provider": Provider(),
    "client_name": "site",
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "socket_keepalive_options": {4: 30},
    "socket_read_size": 65536,
    "ssl_keyfile": "/k.pem",
    "ssl_certfile": "/c.pem",
    "ssl_password": "hunter2",
    "ssl_cert_reqs": "optional",
    "ssl_ca_certs": "/ca.pem",
    "ssl_ca_path": "/ca",
    "ssl_ca_data": "PEM",
    "ssl_check_hostname": False,
    "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    "ssl_ciphers": "HIGH",
    "ssl_include_verify_flags": [ssl.VerifyFlags.VERIFY_X509_STRICT],
    "ssl_exclude_verify_flags": ["VERIFY_X509_PARTIAL_CHAIN"],
}


def sentence(**connection_kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        redis_options({"hosts": ["rediss://a"], "connection_kwargs": connection_kwargs})
    return str(caught.value)


def test_every_accepted_option_has_an_example_here() -> None:
    parts = {"db", "username", "password", "ssl"}  # fields of an endpoint
    assert {option.name for option in CONNECTION_OPTIONS if option.fate == "accepted"} == {*EXAMPLES, *parts}


def test_every_accepted_option_reaches_the_endpoint_and_is_known_to_redis_py() -> None:
    endpoint = only_endpoint(redis_options({"hosts": ["rediss://a"], "connection_kwargs": EXAMPLES}))
    passed_on: dict[str, Any] = {**endpoint.options}
    assert set(passed_on) == set(EXAMPLES)
    connection = SSLConnection(host=endpoint.host, port=endpoint.port, **passed_on)
    assert connection.client_name == "site"


def test_options_of_a_socket_file_are_known_to_redis_py() -> None:
    shared = {"client_name": "site", "socket_connect_timeout": 2, "socket_keepalive": True, "socket_read_size": 1024}
    options = redis_options({"hosts": ["unix:///run/redis.sock"], "connection_kwargs": shared})
    passed_on: dict[str, Any] = {**only_endpoint(options).options}
    assert "socket_keepalive" not in passed_on
    assert options.notes == ("Connection option 'socket_keepalive' has no effect on a unix socket.",)
    assert UnixDomainSocketConnection(path="/run/redis.sock", **passed_on).client_name == "site"


def test_every_argument_of_redis_py_has_an_answer() -> None:
    known = {option.name for option in CONNECTION_OPTIONS} | {"host", "port", "path"}
    internal = {
        "self",
        "kwargs",
        "maint_notifications_pool_handler",
        "maintenance_state",
        "maintenance_notification_hash",
        "orig_host_address",
        "orig_socket_timeout",
        "orig_socket_connect_timeout",
        "oss_cluster_maint_notifications_handler",
        "himport_registry",
    }
    for kind in (AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection):
        assert set(inspect.signature(kind.__init__).parameters) - known - internal == set(), kind


@pytest.mark.parametrize(
    "name",
    [option.name for option in CONNECTION_OPTIONS if option.fate == "noted"],
)
def test_an_option_that_the_layer_pins_is_noted_once_and_not_passed_on(name: str) -> None:
    config = {"hosts": ["redis://a", {"address": "redis://b", name: 5}], "connection_kwargs": {name: 5}}
    options = redis_options(config)
    assert len(options.notes) == 1
    assert f"Connection option {name!r} has no effect: " in options.notes[0]
    assert all(not endpoint.options for endpoint in endpoints(options))


def test_a_pinned_option_in_a_url_is_noted_too() -> None:
    options = redis_options({"hosts": ["redis://a?socket_timeout=5&protocol=3"]})
    assert [note.split("'")[1] for note in options.notes] == ["socket_timeout", "protocol"]


@pytest.mark.parametrize("name", [option.name for option in CONNECTION_OPTIONS if option.fate in ("answered", "later")])
def test_an_option_that_is_refused_says_why(name: str) -> None:
    said = sentence(**{name: "hunter2"})
    assert f"Connection option {name!r} in 'connection_kwargs' is not " in said
    assert "hunter2" not in said
    assert redis_options({"connection_kwargs": {name: None}}).notes == ()


def test_shared_options_of_tls_go_to_the_hosts_that_use_it() -> None:
    config = {
        "hosts": ["redis://a", "rediss://b", {"host": "c", "ssl": True}],
        "connection_kwargs": {"ssl_ciphers": "x"},
    }
    assert [dict(endpoint.options) for endpoint in endpoints(redis_options(config))] == [
        {},
        {"ssl_ciphers": "x"},
        {"ssl_ciphers": "x"},
    ]


def test_shared_options_of_tls_without_any_host_that_uses_it_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no host uses TLS: write rediss://"):
        redis_options({"hosts": ["redis://a"], "connection_kwargs": {"ssl_ciphers": "x"}})


def test_shared_ssl_makes_every_pair_and_dict_use_tls_whatever_the_order_of_the_options() -> None:
    for shared in ({"ssl": True, "ssl_ciphers": "x"}, {"ssl_ciphers": "x", "ssl": True}):
        two = endpoints(redis_options({"hosts": [("a", 1), {"host": "b"}], "connection_kwargs": shared}))
        assert [endpoint.transport for endpoint in two] == ["tls", "tls"]
        assert all(endpoint.options["ssl_ciphers"] == "x" for endpoint in two)


def test_shared_ssl_is_never_lost_on_a_plain_url() -> None:
    with pytest.raises(ConfigurationError, match="write rediss://"):
        redis_options({"hosts": ["redis://a"], "connection_kwargs": {"ssl": True}})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"host": "a"}, "'host' in 'connection_kwargs' belongs to one server: write it into 'hosts'"),
    ({"sockt_keepalive": 1}, "Unknown connection option 'sockt_keepalive' in 'connection_kwargs'; did you mean"),
    ({"socket_connect_timeout": 0}, "seconds above zero, not zero"),
    ({"socket_connect_timeout": "5"}, "write the number without quotes"),
    ({"socket_keepalive": "yes"}, "must be True or False, not a text"),
    ({"socket_keepalive_options": [1]}, "a dict from numbers to numbers, not a list of 1"),
    ({"socket_keepalive_options": {"a": 1}}, "whole numbers only, not a text"),
    ({"socket_read_size": 1.5}, "the fraction 1.5"),
    ({"client_name": "a b"}, "without spaces, which Redis refuses"),
    ({"client_name": ""}, "an empty text"),
    ({"client_name": "a\n"}, "control characters"),
    ({"ssl_cert_reqs": "maybe"}, "must be 'required', 'optional' or 'none'"),
    ({"ssl_cert_reqs": True}, "must be 'required', 'optional' or 'none', not the boolean True"),
    ({"ssl_min_version": 1.2}, "must be 771 (TLS 1.2) or 772 (TLS 1.3), not 1.2"),
    ({"ssl_ca_data": 3}, "a text (PEM) or bytes (DER)"),
    ({"ssl_include_verify_flags": "STRICT"}, "must be a list of flags"),
    ({"ssl_include_verify_flags": ["STRICT"]}, "must be a list of VERIFY_DEFAULT"),
    ({"password": 471100}, "must be a text, not a number; write it in quotes"),
    ({"password": b"\xff"}, "bytes that are not UTF-8"),
    ({"password": "\ud800"}, "can be encoded as UTF-8"),
    ({"credential_provider": 3}, "an object with get_credentials()"),
    ({"credential_provider": Provider(), "password": "x"}, "not both"),
    ({"ssl_context": object()}, "write 'ssl_ca_certs'"),
]


@pytest.mark.parametrize(("options", "expected"), WRONG, ids=[what for _, what in WRONG])
def test_each_kind_of_wrong_connection_option_has_its_own_sentence(options: dict[str, Any], expected: str) -> None:
    assert expected in sentence(**options)


@pytest.mark.parametrize("value", [3, "a", [("a", 1)], True])
def test_connection_options_that_are_no_dict_are_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="'connection_kwargs' must be a dict of connection options, not "):
        redis_options({"connection_kwargs": value})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, "none"),
        ("none", "none"),
        ("CERT_NONE", "none"),
        ("CERT_REQUIRED", "required"),
        (ssl.CERT_NONE, "none"),
        (ssl.CERT_OPTIONAL, "optional"),
        (2, "required"),
    ],
)
def test_the_check_of_certificates_is_understood_in_the_words_of_redis_py_celery_and_ssl(
    given: Any, meant: str
) -> None:
    endpoint = only_endpoint(redis_options({"hosts": [{"address": "rediss://a", "ssl_cert_reqs": given}]}))
    assert endpoint.options["ssl_cert_reqs"] == meant


def test_the_flags_of_certificates_are_the_numbers_of_the_ssl_module() -> None:
    for name, number in VERIFY_FLAGS.items():
        assert getattr(ssl.VerifyFlags, name, number) == number
