"""``hosts`` in every form that asgi_redis and channels_redis take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url

from support.endpoints import endpoints, only_endpoint
from trunkline.config import Endpoint, redis_options
from trunkline.errors import ConfigurationError


def host(entry: Any, **config: Any) -> Endpoint:
    return only_endpoint(redis_options({"hosts": [entry], **config}))


def sentence(hosts: Any, **config: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        redis_options({"hosts": hosts, **config})
    return str(caught.value)


@pytest.mark.parametrize("hosts", [None, [], ()])
def test_no_hosts_are_the_local_server(hosts: Any) -> None:
    assert redis_options({"hosts": hosts}).hosts == (Endpoint(),)


FORMS: list[tuple[Any, str]] = [
    ("redis://localhost", "redis://localhost:6379/0"),
    ("redis://", "redis://localhost:6379/0"),
    ("redis://:6380", "redis://localhost:6380/0"),
    ("redis://cache:6380/3", "redis://cache:6380/3"),
    ("redis://cache/3/", "redis://cache:6379/3"),
    ("redis://cache?db=4", "redis://cache:6379/4"),
    ("redis://cache/3?db=4", "redis://cache:6379/4"),
    ("rediss://cache:6380", "rediss://cache:6380/0"),
    ("redis://[::1]:6380/1", "redis://[::1]:6380/1"),
    ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
    ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ("unix:/run/redis.sock", "unix:///run/redis.sock?db=0"),
    ("unix://:pw@/run/redis.sock", "unix:///run/redis.sock?db=0"),
    ("unix:///run/my%20redis.sock", "unix:///run/my redis.sock?db=0"),
    (("cache", 6380), "redis://cache:6380/0"),
    (["cache", "6380"], "redis://cache:6380/0"),
    (("10.0.0.1", 1), "redis://10.0.0.1:1/0"),
    (("::1", 65535), "redis://[::1]:65535/0"),
    (("[::1]", 6379), "redis://[::1]:6379/0"),
    ({"address": "redis://cache/2"}, "redis://cache:6379/2"),
    ({"address": ("cache", 6380), "db": 1}, "redis://cache:6380/1"),
    ({"address": "rediss://cache", "ssl_cert_reqs": None}, "rediss://cache:6379/0"),
    ({"host": "cache"}, "redis://cache:6379/0"),
    ({"port": 6380}, "redis://localhost:6380/0"),
    ({"db": "2"}, "redis://localhost:6379/2"),
    ({"host": "cache", "port": "6380", "db": 1, "ssl": True}, "rediss://cache:6380/1"),
    ({"host": "cache", "ssl": False}, "redis://cache:6379/0"),
    ({"unix_socket_path": "/run/redis.sock", "db": 1}, "unix:///run/redis.sock?db=1"),
    ({"path": Path("/run/redis.sock")}, "unix:///run/redis.sock?db=0"),
    ({"host": "cache", "connection_class": SSLConnection}, "rediss://cache:6379/0"),
    ({"host": "cache", "connection_class": Connection}, "redis://cache:6379/0"),
    ({"path": "/run/redis.sock", "connection_class": UnixDomainSocketConnection}, "unix:///run/redis.sock?db=0"),
    ("redis", "redis://redis:6379/0"),
    ("redis:6380", "redis://redis:6380/0"),
    ("redis-1.example.org", "redis://redis-1.example.org:6379/0"),
    ("127.0.0.1:6380", "redis://127.0.0.1:6380/0"),
    ("[::1]:6380", "redis://[::1]:6380/0"),
    (" redis://cache \n", "redis://cache:6379/0"),
]


@pytest.mark.parametrize(("entry", "label"), FORMS, ids=[str(entry) for entry, _ in FORMS])
def test_every_form_of_a_host_is_understood(entry: Any, label: str) -> None:
    assert host(entry).label == label


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:p%2Fw@cache:6380/3",
        "redis://:p%40w%3A@cache",
        "redis://user@cache",
        "redis://cache?password=pw&username=user&db=5",
        "rediss://a:b@cache?password=other&client_name=me&socket_connect_timeout=2.5&socket_read_size=1024",
        "redis://cache?socket_keepalive=no",
        "rediss://cache?ssl_cert_reqs=none&ssl_check_hostname=False&ssl_ca_certs=/a%20b.pem&ssl_min_version=771",
        "rediss://cache?ssl_include_verify_flags=VERIFY_X509_STRICT,VERIFY_X509_PARTIAL_CHAIN",
        "unix://user:pw@/run/redis.sock?db=2&client_name=me",
    ],
)
def test_a_url_is_understood_as_redis_py_understands_it(url: str) -> None:
    theirs = dict(parse_url(url))
    kind = theirs.pop("connection_class", Connection)
    ours = host(url)
    assert {"tcp": Connection, "tls": SSLConnection, "unix": UnixDomainSocketConnection}[ours.transport] is kind
    mine = {"db": ours.db, "username": ours.username, "password": ours.password, **ours.options}
    mine |= {"path": ours.path} if ours.transport == "unix" else {"host": ours.host, "port": ours.port}
    defaults = {"host": "localhost", "port": 6379, "db": 0, "username": None, "password": None}
    if ours.transport == "unix":
        del defaults["host"], defaults["port"]
    assert mine == {**defaults, **theirs}


def test_the_order_of_the_hosts_is_kept() -> None:
    names = [f"r{number}" for number in (3, 1, 2)]
    assert [e.host for e in endpoints(redis_options({"hosts": [(name, 6379) for name in names]}))] == names


def test_what_stands_in_a_url_wins_over_its_dict_and_that_over_the_shared_options() -> None:
    shared = {"password": "shared", "db": 9, "client_name": "shared"}
    endpoint = host({"address": "redis://:url@cache", "password": "dict", "db": 3}, connection_kwargs=shared)
    assert (endpoint.password, endpoint.db, endpoint.options["client_name"]) == ("url", 3, "shared")


def test_an_empty_password_is_none() -> None:
    assert host({"host": "cache", "password": ""}).password is None


LISTS: list[tuple[Any, str]] = [
    ("redis://cache", "must be a list, even of one server, not a single text: write hosts=['redis://redis:6379/0']"),
    (b"redis://cache", "must be a list, even of one server, not bytes"),
    ({"host": "cache"}, "not a dict: put the dict into square brackets"),
    ({}, "not a dict"),
    ({"redis://a"}, "not a set, because the order of the servers counts"),
    (6379, "must be a list of servers, not 6379"),
    (("cache", 6379), "not one (host, port) pair: write the pair inside a list"),
    (["cache", "6379"], "not one (host, port) pair"),
    ([("cache", 1 + n) for n in range(13)], "must name 1 to 12 servers, not 13"),
    (["redis://a/1", {"host": "a", "db": 1}], "hosts[1] is the same as hosts[0]"),
]


@pytest.mark.parametrize(("hosts", "expected"), LISTS, ids=[what for _, what in LISTS])
def test_each_kind_of_wrong_list_has_its_own_sentence(hosts: Any, expected: str) -> None:
    assert expected in sentence(hosts)


ENTRIES: list[tuple[Any, str]] = [
    (
        None,
        "'hosts[0]' must be a URL (redis://, rediss://, unix://), a (host, port) pair, a dict or a host's name, not N",
    ),
    (b"redis://a", "not bytes: write it without the b"),
    ("", "not an empty text"),
    ("my redis", "not another text; a URL begins with redis://"),
    ("6379", "is a number, not a host"),
    ("redis:99999", "out of range"),
    (("a",), "not a sequence of 1"),
    (("a", 1, "pw"), "not a sequence of 3; a password or a database goes into a URL or a dict"),
    (("a", 0), "out of range: it must be from 1 to 65535, not 0"),
    (("a", 65536), "out of range: it must be from 1 to 65535, not 65536"),
    (("a", True), "must be a number from 1 to 65535, not the boolean True"),
    (("a", "x"), "must be a number from 1 to 65535, not a text of 1 characters"),
    (("a", None), "must be a number from 1 to 65535, not None"),
    ((1, 2), "The host of hosts[0] must be a text, not 1"),
    ((b"a", 2), "must be a text, not bytes"),
    (("", 2), "not an empty text"),
    (("redis://a", 2), "not a URL; write the URL alone"),
    (("/run/a", 2), "not a path; write unix:///path"),
    (("a:1", 2), "its port stands beside it"),
    (("a b", 2), "characters that neither has"),
    ({}, "an empty dict"),
    ({"address": "redis://a", "host": "b"}, "says twice where its server is: 'address' and 'host'"),
    ({"address": "redis://a", "port": 1}, "says twice where its server is: 'address' and 'port'"),
    ({"path": "/a", "unix_socket_path": "/b"}, "says twice where its server is"),
    ({"address": 3}, "'hosts[0].address' must be a URL, not 3"),
    ({"url": "redis://a"}, "must name its URL 'address', not 'url'"),
    ({"host": "a", "path": "/x"}, "says twice"),
    ({"path": "x"}, "the absolute path of a socket"),
    ({"path": ""}, "not an empty text"),
    ({"host": "a", "connection_class": int}, "one of Connection, SSLConnection, UnixDomainSocketConnection"),
    ({"host": "a", "connection_class": UnixDomainSocketConnection}, "contradicts the rest"),
    ({"address": "redis://a", "connection_class": SSLConnection}, "contradicts the rest"),
    ({"host": "a", "db": -1}, "the negative -1"),
    ({"host": "a", "db": "x"}, "'hosts[0].db' must be a whole number"),
    (
        {"host": "a", "hots": "b"},
        "Unknown connection option 'hots' in hosts[0]; did you mean 'host'? accepted are: address, host,",
    ),
    ({"host": "a", "sll": True}, "did you mean 'ssl'?"),
    ({"host": "a", 3: True}, "Unknown connection option (3 in place of a name)"),
    ({"address": "redis://a", "ssl": True}, "contradicts itself"),
    ({"address": "rediss://a", "ssl": False}, "contradicts itself"),
    ({"path": "/a", "ssl": True}, "contradicts itself"),
    ({"host": "a", "ssl_ca_certs": "/x"}, "'ssl_ca_certs' in hosts[0] needs TLS"),
    ({"host": "a", "ssl": "true"}, "True or False, not a text of 4 characters; write it without quotes"),
]


@pytest.mark.parametrize(("entry", "expected"), ENTRIES, ids=[what for _, what in ENTRIES])
def test_each_kind_of_wrong_host_has_its_own_sentence(entry: Any, expected: str) -> None:
    assert expected in sentence([entry])


URLS: list[tuple[str, str]] = [
    ("http://a", "must begin with redis://, rediss:// or unix://, not with another scheme; Redis doesn't speak HTTP"),
    ("valkey://a", "for Valkey write redis://"),
    ("redis+sentinel://a", "a service of Sentinels is a dict: {'sentinels': [('sentinel', 26379)], 'master_name'"),
    ("redis+cluster://a", "asks for Redis Cluster, which is not in this version"),
    ("redis+socket:///a", "write unix://"),
    ("foo://a", "another scheme."),
    ("redis://a b", "has spaces or line breaks in it"),
    ("redis://a:pass/x", "a part where its host and port should be"),
    ("redis://:p#w@a", "a part where its host and port should be"),
    ("redis://a#b", "has a '#' in it"),
    ("redis://[::1", "a part where its host and port should be"),
    ("redis://a:99999", "a part where its host and port should be"),
    ("redis://a:0", "out of range"),
    ("redis://a/one", "must end with the number of a database"),
    ("redis://a?db=x", "'db' in the URL of hosts[0] must be a number"),
    ("redis://a?db", "a parameter without a value"),
    ("redis://a?x=%ff", "parameters that can't be read"),
    ("redis://a?db=1&db=2", "gives parameter 'db' twice"),
    ("redis://a?port=1", "must hold the port before its '?'"),
    ("redis://a?sokcet_keepalive=1", "did you mean 'socket_keepalive'?"),
    ("redis://a?ssl_ca_certs=/x", "needs TLS"),
    ("unix://run/redis.sock", "write unix:///path, three slashes"),
]


@pytest.mark.parametrize(("url", "expected"), URLS, ids=[url for url, _ in URLS])
def test_each_kind_of_wrong_url_has_its_own_sentence(url: str, expected: str) -> None:
    assert expected in sentence([url])


def test_a_mangled_dict_is_refused_with_the_line_to_write() -> None:
    mangled = {"hosts": [{"host": "\\ 'redis'", "\\ 'port':\\ 6379": None}]}
    said = sentence(mangled["hosts"])
    assert said.endswith('CHANNEL_LAYERS_CONFIG={"hosts":[{"host":"redis","port":6379}]}')


def test_the_line_to_write_keeps_what_was_meant_and_masks_what_may_be_secret() -> None:
    mangled = [{"host": "\\ 'redis'", "\\ 'port':\\ 6379": None, "\\ 'password':\\ 'hunter2'": None}]
    said = sentence(mangled, expiry=30)
    assert '{"hosts":[{"host":"redis","port":6379,"password":"***"}],"expiry":30}' in said
    assert "hunter2" not in said


def test_a_mangled_dict_beyond_repair_is_answered_with_an_example() -> None:
    assert sentence([{"\\ 'port:\\ 6379": None}]).endswith('={"hosts":[{"host":"redis","port":6379}]}')
