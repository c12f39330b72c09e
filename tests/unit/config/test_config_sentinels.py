"""Sentinels and their services, in the ``hosts`` of three layers."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.config import Endpoint, SentinelService, local_options, redis_options, sentinel_options
from trunkline.errors import ConfigurationError


def sentence(config: Any, judge: Any = sentinel_options) -> str:
    with pytest.raises(ConfigurationError) as caught:
        judge(config)
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


def services(**config: Any) -> list[SentinelService]:
    return [host for host in sentinel_options(config).hosts if isinstance(host, SentinelService)]


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        (("s1", 26380), "redis://s1:26380/0"),
        (["s1", "26380"], "redis://s1:26380/0"),
        ({"host": "s1", "port": 26380}, "redis://s1:26380/0"),
        ({"host": "s1"}, "redis://s1:26379/0"),
        ("redis://s1", "redis://s1:26379/0"),
        ("redis://:pw@s1:1234", "redis://s1:1234/0"),
        ("rediss://s1", "rediss://s1:26379/0"),
        ({"address": "redis://s1"}, "redis://s1:26379/0"),
    ],
)
def test_every_form_of_a_sentinel_is_understood(entry: Any, label: str) -> None:
    (service,) = services(hosts=[entry], services=["main"])
    assert [sentinel.label for sentinel in service.sentinels] == [label]


@pytest.mark.parametrize("hosts", [None, []])
def test_no_hosts_are_the_sentinel_of_this_machine(hosts: Any) -> None:
    (service,) = services(hosts=hosts, services=["main"])
    assert service.label == "sentinel://localhost:26379/main"


def test_each_service_is_a_shard_in_the_order_given() -> None:
    found = services(hosts=[("s1", 1), ("s2", 2)], services=["b", "a"], sentinel_refresh_interval=9)
    assert [service.label for service in found] == ["sentinel://s1:1,s2:2/b", "sentinel://s1:1,s2:2/a"]
    assert {service.refresh_interval for service in found} == {9}


@pytest.mark.parametrize("named", [None, [], ()])
def test_no_services_are_all_that_the_sentinels_will_name(named: Any) -> None:
    options = sentinel_options({"hosts": [("s1", 1)], "services": named})
    assert options.hosts == ()
    assert options.discover is not None
    assert options.discover.label == "sentinel://s1:1/"


def test_sentinels_and_primaries_have_options_of_their_own() -> None:
    (service,) = services(
        hosts=[("s1", 1)],
        services=["main"],
        connection_kwargs={"password": "of the primary", "db": 3, "ssl": True, "ssl_ca_certs": "/primary.pem"},
        sentinel_kwargs={"password": "of the sentinel", "username": "me", "ssl": True, "ssl_ca_certs": "/sentinel.pem"},
    )
    (sentinel,) = service.sentinels
    assert (service.primary.transport, service.primary.db, service.primary.password) == ("tls", 3, "of the primary")
    assert dict(service.primary.options) == {"ssl_ca_certs": "/primary.pem"}
    assert (sentinel.transport, sentinel.username, sentinel.password) == ("tls", "me", "of the sentinel")
    assert dict(sentinel.options) == {"ssl_ca_certs": "/sentinel.pem"}


def test_a_channels_redis_dict_gives_the_sockets_options_to_both_unless_the_sentinels_have_their_own() -> None:
    entry = {"sentinels": [("s1", 1)], "master_name": "m", "socket_connect_timeout": 2, "password": "pw"}
    (service,) = redis_options({"hosts": [entry]}).hosts
    assert isinstance(service, SentinelService)
    assert dict(service.sentinels[0].options) == {"socket_connect_timeout": 2}
    assert service.sentinels[0].password is None
    (service,) = redis_options({"hosts": [{**entry, "sentinel_kwargs": {"password": "other"}}]}).hosts
    assert isinstance(service, SentinelService)
    assert (dict(service.sentinels[0].options), service.sentinels[0].password) == ({}, "other")
    assert service.primary.password == "pw"


def test_services_mix_with_plain_hosts_and_share_their_options() -> None:
    entry = {"sentinels": [("s1", 1)], "master_name": "m"}
    plain, service = redis_options({"hosts": ["redis://a", entry], "connection_kwargs": {"password": "pw"}}).hosts
    assert isinstance(plain, Endpoint)
    assert isinstance(service, SentinelService)
    assert (plain.password, service.primary.password, service.sentinels[0].password) == ("pw", "pw", None)


def test_the_local_layer_takes_hosts_for_sentinels_where_services_are_given() -> None:
    (host,) = local_options({"hosts": [("a", 1)]}).redis.hosts
    assert host.label == "redis://a:1/0"
    (host,) = local_options({"hosts": [("a", 1)], "services": ["m"]}).redis.hosts
    assert host.label == "sentinel://a:1/m"
    assert local_options({"hosts": [("a", 1)], "services": []}).redis.discover is not None
    options = local_options({"directory": "/x", "wait_replicas": 1, "capacity": 7})
    assert (options.ipc.directory, options.redis.wait_replicas) == ("/x", 1)
    assert options.ipc.common.capacity == options.redis.common.capacity == 7
    assert "only where 'services' is given" in sentence({"sentinel_kwargs": {"password": "hunter2"}}, local_options)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"hosts": "redis://:hunter2@s1"}, "Option 'hosts' must be a list of Sentinels, even of one, not a single text"),
    ({"hosts": {"host": "s1"}}, "Option 'hosts' must be a list of Sentinels, even of one, not a dict"),
    ({"hosts": ("s1", 26379)}, "not one (host, port) pair: write [('sentinel', 26379)]"),
    (
        {"hosts": ["s1"]},
        "Option 'hosts[0]' must be a (host, port) pair, a dict or a URL (redis://, rediss://) of a Sen",
    ),
    ({"hosts": ["s1:26379"]}, "not another text: write ('sentinel', 26379)"),
    ({"hosts": [("s1", 1), ("s1", "1")]}, "must name each Sentinel once, but hosts[1] comes twice"),
    ({"hosts": ["redis://s1/2"]}, "Option 'hosts[0]' must be the host and port of a Sentinel, without a database"),
    ({"hosts": ["unix:///run/s"]}, "without a socket's path"),
    ({"hosts": [{"sentinels": [("s1", 1)], "master_name": "m"}]}, "not a dict of a service"),
    ({"hosts": [("s1", 1)] * 101}, "1 to 100 Sentinels, not 101"),
    ({"services": "main"}, "Option 'services' must be a list of the names of services, not a single text"),
    ({"services": {"main": 1}}, "Option 'services' must be a list of the names of services, not a dict"),
    ({"services": [3]}, "Option 'services[0]' must be the name of a service as the Sentinels know it, not"),
    ({"services": ["a b"]}, "letters, digits, full stops, hyphens and underscores"),
    ({"services": ["a", "a"]}, "must name each service once, but 'a' comes twice"),
    ({"services": [f"s{n}" for n in range(13)]}, "at most 12 services, not 13"),
    ({"sentinel_refresh_interval": -1}, "Option 'sentinel_refresh_interval' must be"),
    ({"sentinel_refresh_interval": "often"}, "Option 'sentinel_refresh_interval' must be"),
    ({"sentinel_kwargs": "hunter2"}, "Option 'sentinel_kwargs' must be a dict of connection options"),
    ({"sentinel_kwargs": {"pasword": "hunter2"}}, "Unknown connection option 'pasword' in 'sentinel_kwargs'; did you"),
    ({"sentinel_kwargs": {"ssl_ca_certs": "/x"}}, "needs TLS"),
    ({"connection_kwargs": {"ssl_ca_certs": "/x"}}, "the servers don't use TLS: add 'ssl': True"),
    ({"master_name": "m"}, "write 'services', a list of names"),
    ({"wait_replicas": -1}, "Option 'wait_replicas' must be a whole number of replicas, at least 0"),
    ({"wait_replicas": 1.5}, "Option 'wait_replicas' must be a whole number of replicas"),
]


@pytest.mark.parametrize(("config", "expected"), WRONG, ids=[what for _, what in WRONG])
def test_each_kind_of_mistake_has_its_own_sentence(config: dict[str, Any], expected: str) -> None:
    assert expected in sentence(config)


ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"sentinels": [("s1", 1)]}, "names Sentinels, but not their service: add 'master_name'"),
    ({"master_name": "m"}, "names a service of Redis Sentinel, but no Sentinels: add 'sentinels'"),
    ({"sentinels": [("s1", 1)], "master_name": "m", "service_name": "n"}, "says twice which service it is"),
    ({"sentinels": [("s1", 1)], "master_name": "m", "host": "a"}, "the Sentinels tell it, so leave 'host' out"),
    ({"sentinels": [("s1", 1)], "master_name": "m", "is_master": False}, "a channel layer writes, replicas don't"),
    ({"sentinels": ["s1"], "master_name": "m"}, "Option 'hosts[0].sentinels[0]' must be a (host, port) pair"),
    ({"sentinels": [("s1", 1)], "master_name": "m", "pasword": "hunter2"}, "Unknown connection option 'pasword'"),
]


@pytest.mark.parametrize(("entry", "expected"), ENTRIES, ids=[what for _, what in ENTRIES])
def test_each_kind_of_wrong_service_has_its_own_sentence(entry: dict[str, Any], expected: str) -> None:
    assert expected in sentence({"hosts": [entry]}, redis_options)


def test_a_service_is_named_once() -> None:
    entry = {"sentinels": [("s1", 1)], "master_name": "m"}
    assert "hosts[1] is the same as hosts[0]" in sentence({"hosts": [entry, dict(entry)]}, redis_options)


@pytest.mark.parametrize("name", ["services", "sentinel_kwargs", "sentinel_refresh_interval"])
def test_the_plain_layer_says_where_an_option_of_sentinels_goes(name: str) -> None:
    assert "RedisSentinelChannelLayer" in sentence({name: ["x"]}, redis_options)
