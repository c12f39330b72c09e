"""The ``trunkline`` command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trunkline import __version__
from trunkline.cli import describe, main


def test_the_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"trunkline {__version__}\n"


def test_config_shows_every_option_and_no_secret() -> None:
    text = "\n".join(
        describe(
            {
                "REDIS_URL": "redis://:hunter2@cache:6379/1,rediss://other:6380",
                "CHANNEL_LAYERS_CONFIG": '{"capacity": 500, "channel_capacity": {"re:^http": 7}, "prefix": "site"}',
            }
        )
    )
    assert "hunter2" not in text
    assert "hosts[0]: redis://cache:6379/1 password=***" in text
    assert "hosts[1]: rediss://other:6380/0" in text
    for line in ("backend: trunkline.RedisChannelLayer", "capacity: 500", "prefix: site", "retry_time: 10.0"):
        assert line in text.splitlines()
    assert "channel_capacity: re:^http = 7" in text


def test_config_of_the_machine_local_layer_shows_its_directory() -> None:
    lines = list(describe({"CHANNEL_LAYERS_BACKEND": "trunkline.IPCChannelLayer", "TRUNKLINE_IPC_DIR": "/run/x"}))
    assert {"backend: trunkline.IPCChannelLayer", "directory: /run/x", "mode: 0700"} <= set(lines)


def test_the_options_of_another_package_s_layer_are_named_without_values() -> None:
    environ = {
        "CHANNEL_LAYERS_BACKEND": "example.layers.Layer",
        "CHANNEL_LAYERS_CONFIG": '{"url": "proto://:hunter2@host"}',
    }
    text = "\n".join(describe(environ))
    assert "url" in text
    assert "hunter2" not in text


def test_a_wrong_environment_is_one_sentence_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANNEL_LAYERS_CONFIG", '{"capacity": -1}')
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    assert main(["config"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trunkline: ")
    assert "capacity" in captured.err
    assert captured.err.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environ = {**os.environ, "CHANNEL_LAYERS_BACKEND": "trunkline.IPCChannelLayer"}
    command = [sys.executable, "-m", "trunkline", "config"]
    ended = subprocess.run(command, env=environ, stdout=writing, stderr=subprocess.PIPE, timeout=30)
    os.close(writing)
    assert ended.stderr == b""


def test_config_shows_services_and_no_secret_of_sentinels_or_primaries() -> None:
    environ = {
        "CHANNEL_LAYERS_BACKEND": "trunkline.RedisSentinelChannelLayer",
        "CHANNEL_LAYERS_CONFIG": """{
            "hosts": [["s1", 26379], ["s2", 26379]], "services": ["main"], "sentinel_refresh_interval": 7,
            "sentinel_kwargs": {"password": "hunter2"}, "connection_kwargs": {"password": "hunter3", "db": 1}
        }""",
    }
    text = "\n".join(describe(environ))
    assert "hosts[0]: sentinel://s1:26379,s2:26379/main" in text
    assert "refreshed after 7 s" in text
    assert "password=***" in text
    assert "hunter" not in text


def test_config_shows_both_halves_of_the_local_layer() -> None:
    environ = {
        "CHANNEL_LAYERS_BACKEND": "trunkline.RedisLocalChannelLayer",
        "CHANNEL_LAYERS_CONFIG": '{"hosts": [["s1", 26379]], "services": []}',
        "TRUNKLINE_IPC_DIR": "/run/x",
    }
    text = "\n".join(describe(environ))
    assert "hosts: all services of sentinel://s1:26379/" in text
    assert "directory: /run/x" in text
    assert text.count("capacity: ") == 2  # once, and channel_capacity
