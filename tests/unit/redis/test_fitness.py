"""What a server tells of itself decides whether the layer uses it."""

from __future__ import annotations

import pytest

from trunkline.redis.fitness import judge_server

FINE = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n"


def test_an_ordinary_server_is_used_without_a_word() -> None:
    assert judge_server("redis://cache:6379/0", FINE) == ("", "")


def test_a_server_that_tells_nothing_is_used() -> None:
    assert judge_server("redis://cache:6379/0", "") == ("", "")


@pytest.mark.parametrize("version", ["5.0.0", "5.0.6", "6.2.14", "8.0.2", "10.1"])
def test_versions_from_5_on_are_used(version: str) -> None:
    assert judge_server("redis://cache:6379/0", FINE.replace("7.0.15", version)) == ("", "")


@pytest.mark.parametrize("version", ["2.8.24", "3.2.13", "4.0.14"])
def test_an_older_version_is_refused_by_name(version: str) -> None:
    refusal, _ = judge_server("redis://cache:6379/0", FINE.replace("7.0.15", version))
    assert refusal == f"redis://cache:6379/0 is Redis {version}, and the layer needs Redis 5.0 or newer, or Valkey."


def test_valkey_is_judged_by_the_version_of_redis_that_it_is_compatible_with() -> None:
    told = FINE.replace("redis_version:7.0.15", "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1")
    assert judge_server("redis://cache:6379/0", told) == ("", "")


@pytest.mark.parametrize(("mode", "word"), [("cluster", "cluster mode"), ("sentinel", "is a Sentinel")])
def test_a_server_of_another_mode_is_refused(mode: str, word: str) -> None:
    refusal, warning = judge_server("redis://cache:6379/0", FINE.replace("standalone", mode))
    assert word in refusal
    assert refusal.startswith("redis://cache:6379/0 ")
    assert not warning


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_policy_that_evicts_is_warned_of(policy: str) -> None:
    refusal, warning = judge_server("redis://cache:6379/0", FINE.replace("noeviction", policy))
    assert not refusal
    assert policy in warning
    assert "set it to noeviction" in warning
