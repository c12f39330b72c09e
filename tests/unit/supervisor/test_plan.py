"""supervisord's configuration as a function of the environment."""

from __future__ import annotations

import configparser
from typing import Any

import pytest

from trunkline.errors import ConfigurationError
from trunkline.serve.deployment import Pool, pools_from
from trunkline_supervisor.plan import Plan, plan_from

BASE = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}


def plan(**environ: str) -> Plan:
    return plan_from({**BASE, **environ})


def config(state: str = "/run/state", **environ: str) -> dict[str, dict[str, str]]:
    """The sections as supervisord's own parser sees them."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    parser.read_string(plan(**environ).config(state, python="/usr/bin/python3"))
    return {name: dict(parser.items(name)) for name in parser.sections()}


def test_with_nothing_but_the_settings_one_daphne_listens_on_the_loopback_address() -> None:
    sections = config()
    assert list(sections) == ["supervisord", "fcgi-program:daphne", "eventlistener:fatal"]
    daphne = sections["fcgi-program:daphne"]
    assert daphne["socket"] == "tcp://127.0.0.1:8000"
    assert daphne["command"] == "/usr/bin/python3 -m daphne --fd 0 mysite.asgi:application"
    assert daphne["numprocs"] == "1"


def test_several_daphne_processes_share_one_socket_and_have_names_of_their_own() -> None:
    daphne = config(ASGI_PROCESSES="4", TRUNKLINE_BIND="0.0.0.0", TRUNKLINE_PORT="80")["fcgi-program:daphne"]
    assert daphne["socket"] == "tcp://0.0.0.0:80"
    assert daphne["numprocs"] == "4"
    assert daphne["process_name"] == "%(program_name)s_%(process_num)d"


def test_each_pool_is_a_program() -> None:
    sections = config(TRUNKLINE_WORKER_CHANNELS="pictures*2=thumbnail resize; mail")
    assert sections["program:worker-pictures"]["command"] == "/usr/bin/python3 -m django runworker thumbnail resize"
    assert sections["program:worker-pictures"]["numprocs"] == "2"
    assert sections["program:worker-mail"]["numprocs"] == "1"


@pytest.mark.parametrize(("drain", "seconds"), [("", "40"), ("0", "10"), ("90", "100"), ("0.5", "11")])
def test_the_time_to_stop_follows_from_the_drain_time(drain: str, seconds: str) -> None:
    sections = config(TRUNKLINE_DRAIN_TIMEOUT=drain, TRUNKLINE_WORKER_CHANNELS="mail")
    for name in ("fcgi-program:daphne", "program:worker-mail"):
        assert (sections[name]["stopsignal"], sections[name]["stopwaitsecs"]) == ("TERM", seconds)


def test_logs_go_to_the_standard_output() -> None:
    sections = config(TRUNKLINE_WORKER_CHANNELS="mail")
    for name in ("fcgi-program:daphne", "program:worker-mail"):
        assert sections[name]["stdout_logfile"] == "/dev/fd/1"
        assert sections[name]["stdout_logfile_maxbytes"] == "0"
        assert sections[name]["redirect_stderr"] == "true"
    assert plan().environment("/run/state")["PYTHONUNBUFFERED"] == "1"


def test_a_local_redis_is_reached_by_a_private_socket_alone() -> None:
    sections = config(TRUNKLINE_LOCAL_REDIS="1")
    assert "--port 0 --unixsocket /run/state/redis.sock --unixsocketperm 700" in sections["program:redis"]["command"]
    assert int(sections["program:redis"]["priority"]) < int(sections["fcgi-program:daphne"]["priority"])
    environment = plan(TRUNKLINE_LOCAL_REDIS="1").environment("/run/state")
    assert environment["REDIS_URL"] == "unix:///run/state/redis.sock?db=0"


def test_only_root_is_named() -> None:
    assert "user" not in config()["supervisord"]
    assert "user = root\n" in plan().config("/run/state", root=True)


def test_a_longest_connection_is_told_to_daphne() -> None:
    assert "--websocket_timeout 3600 " in config(TRUNKLINE_WEBSOCKET_TIMEOUT="3600")["fcgi-program:daphne"]["command"]


def test_supervisorctl_gets_a_socket_where_it_is_asked_for() -> None:
    sections = config(TRUNKLINE_SUPERVISOR_SOCKET="/run/me/control.sock")
    assert sections["unix_http_server"]["file"] == "/run/me/control.sock"
    assert sections["supervisorctl"]["serverurl"] == "unix:///run/me/control.sock"


def test_a_percent_sign_in_a_path_survives_supervisord_s_expansion() -> None:
    assert "50%%/bin/python" in plan().config("/run/state", python="/srv/50%/bin/python")


def test_a_path_that_supervisord_would_cut_at_a_comment_sign_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="plainer path"):
        plan().config("/run/a ;b")


@pytest.mark.parametrize(
    ("text", "pools"),
    [
        ("", ()),
        (" ; \n ", ()),
        ("thumbnail", (Pool("thumbnail", 1, ("thumbnail",)),)),
        ("a, b  c,a", (Pool("a", 1, ("a", "b", "c")),)),
        ("*3=a", (Pool("a", 3, ("a",)),)),
        ("slow=video;\n quick * 2 = mail,sms", (Pool("slow", 1, ("video",)), Pool("quick", 2, ("mail", "sms")))),
        ("custom!box", (Pool("custom-box", 1, ("custom!box",)),)),
    ],
)
def test_pools_are_read(text: str, pools: tuple[Pool, ...]) -> None:
    assert pools_from(text) == pools


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"DJANGO_SETTINGS_MODULE": ""}, "DJANGO_SETTINGS_MODULE is empty; it takes a module such as mysite.settings."),
    ({"DJANGO_SETTINGS_MODULE": "my site"}, "DJANGO_SETTINGS_MODULE is 'my site'; it takes a module such as"),
    (
        {"ASGI_APPLICATION": "mysite.asgi.application"},
        "ASGI_APPLICATION is 'mysite.asgi.application'; it takes module:",
    ),
    ({"ASGI_APPLICATION": "m:a; [evil]"}, "ASGI_APPLICATION is 'm:a; [evil]'; it takes module:attribute"),
    ({"ASGI_PROCESSES": "0"}, "ASGI_PROCESSES is '0'; it takes a whole number from 1 to 256."),
    ({"ASGI_PROCESSES": "2.5"}, "ASGI_PROCESSES is '2.5'; it takes a whole number from 1 to 256."),
    ({"ASGI_PROCESSES": "²"}, "ASGI_PROCESSES is '²'; it takes a whole number from 1 to 256."),
    ({"TRUNKLINE_PORT": "65536"}, "TRUNKLINE_PORT is '65536'; it takes a whole number from 1 to 65535."),
    ({"TRUNKLINE_BIND": "::1"}, "TRUNKLINE_BIND is '::1'; it takes an IPv4 address"),
    ({"TRUNKLINE_BIND": "256.1.1.1"}, "TRUNKLINE_BIND is '256.1.1.1'; it takes an IPv4 address or a host name."),
    ({"TRUNKLINE_BIND": "a b"}, "TRUNKLINE_BIND is 'a b'; it takes an IPv4 address or a host name."),
    ({"TRUNKLINE_DRAIN_TIMEOUT": "x"}, "TRUNKLINE_DRAIN_TIMEOUT must be a number of seconds from 0 to 86400"),
    ({"TRUNKLINE_WEBSOCKET_TIMEOUT": "-1"}, "TRUNKLINE_WEBSOCKET_TIMEOUT is '-1'; it takes a whole number from 1 to"),
    ({"TRUNKLINE_MODE": "split"}, "TRUNKLINE_MODE=split is not in this version"),
    ({"TRUNKLINE_MODE": "both"}, "TRUNKLINE_MODE is 'both'; it takes in-process."),
    ({"TRUNKLINE_LOCAL_REDIS": "maybe"}, "TRUNKLINE_LOCAL_REDIS is 'maybe'; it takes 1 or 0."),
    ({"TRUNKLINE_LOCAL_REDIS": "1", "REDIS_URL": "redis://x"}, "TRUNKLINE_LOCAL_REDIS and REDIS_URL are both set"),
    ({"TRUNKLINE_SUPERVISOR_SOCKET": "run/x"}, "TRUNKLINE_SUPERVISOR_SOCKET is 'run/x'; it takes an absolute path"),
    ({"TRUNKLINE_SUPERVISOR_SOCKET": "/" + "x" * 107}, "of at most 107 bytes for its socket."),
    ({"TRUNKLINE_WORKER_DELIVERY": "twice"}, "TRUNKLINE_WORKER_DELIVERY is 'twice'; it takes at-most-once or at-least"),
    ({"TRUNKLINE_WORKER_CHANNELS": "a=b=c"}, "TRUNKLINE_WORKER_CHANNELS is 'a=b=c'; it takes at most one '='"),
    ({"TRUNKLINE_WORKER_CHANNELS": "a="}, "TRUNKLINE_WORKER_CHANNELS is 'a='; it takes at least one channel"),
    ({"TRUNKLINE_WORKER_CHANNELS": "a*x=b"}, "TRUNKLINE_WORKER_CHANNELS is 'a*x=b'; it takes a number of processes"),
    ({"TRUNKLINE_WORKER_CHANNELS": "a*0=b"}, "TRUNKLINE_WORKER_CHANNELS is 'a*0=b'; it takes 1 to 256 processes"),
    ({"TRUNKLINE_WORKER_CHANNELS": "thumbnail*2"}, "A number of processes needs a '=' behind it: *2=thumbnail."),
    ({"TRUNKLINE_WORKER_CHANNELS": "ü"}, "TRUNKLINE_WORKER_CHANNELS: A channel name must be a string"),
    ({"TRUNKLINE_WORKER_CHANNELS": "a;a"}, "TRUNKLINE_WORKER_CHANNELS is 'a'; it takes another name for the second"),
    ({"TRUNKLINE_WORKER_CHANNELS": "[x]=a"}, "TRUNKLINE_WORKER_CHANNELS is '[x]'; it takes a pool's name"),
]


@pytest.mark.parametrize(("environ", "sentence"), WRONG, ids=[sentence[:60] for _, sentence in WRONG])
def test_a_wrong_value_is_one_sentence(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        plan(**environ)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_state_directory_that_is_too_deep_for_a_socket_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at most 107 bytes"):
        plan(TRUNKLINE_LOCAL_REDIS="1").config("/" + "x" * 100)
