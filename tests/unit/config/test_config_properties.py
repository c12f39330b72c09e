"""No text and no mapping fails in any other way than by one sentence, and no sentence holds a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.endpoints import endpoints, only_endpoint
from trunkline.config import (
    CONNECTION_OPTIONS,
    OPTIONS,
    VARIABLES,
    ipc_options,
    parse_config_text,
    redis_options,
)
from trunkline.env import channel_layers_from_env
from trunkline.errors import ConfigurationError

SECRET = "hunter2-9f1c"

often = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

pieces = st.text(alphabet="{}[]()'\"\\ :,#ab1", max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from([SECRET, f"redis://:{SECRET}@a", f"redis://a?{SECRET}", object(), re.compile("a")]),
)
names = st.sampled_from(sorted({o.name for o in OPTIONS} | {c.name for c in CONNECTION_OPTIONS} | {"port", "address"}))
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(names, scalars.filter(lambda v: v is not SECRET)), inner, max_size=4),
    ),
    max_leaves=12,
)

userinfo = st.text(alphabet="ab:@/?#%[]. ,=&\\'\"{}é", max_size=12)
urls = st.one_of(
    st.builds("redis://{}".format, userinfo),
    st.builds((f"redis://{{}}{SECRET}{{}}").format, userinfo, userinfo),
    st.builds((f"{{}}://:{SECRET}@{{}}").format, st.sampled_from(["redis", "rediss", "unix", "x"]), userinfo),
)
configs = st.dictionaries(names, anything, max_size=4)
configs_with_hosts = st.builds(
    lambda config, hosts: {**config, "hosts": hosts},
    st.just({}),
    st.lists(st.one_of(urls, anything, st.dictionaries(names, anything, max_size=3)), max_size=4),
)
texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="{}[]()'\"\\ :,#ab1-&*!%@|>?~<=.\n\t", max_size=40),
    st.builds("{}".format, configs),
    st.builds(('"{}"').format, configs),
)


def refusal(judge: Callable[[Any], object], given: Any) -> str:
    """The sentence by which ``given`` is refused; empty if it is accepted. Anything else that is raised is a defect."""
    try:
        judge(given)
    except ConfigurationError as error:
        return str(error)
    return ""


def judged(judge: Callable[[Any], object], given: Any) -> None:
    said = refusal(judge, given)
    assert SECRET not in said
    assert "\n" not in said


@often
@given(config=st.one_of(configs, configs_with_hosts, anything))
def test_no_mapping_fails_in_any_other_way(config: Any) -> None:
    judged(redis_options, config)
    judged(ipc_options, config)


@often
@given(url=urls)
def test_no_url_fails_in_any_other_way_or_shows_its_secret(url: str) -> None:
    said = refusal(redis_options, {"hosts": [url]})
    assert SECRET not in said
    if not said:
        options = redis_options({"hosts": [url]})
        endpoint = only_endpoint(options)
        assert 1 <= endpoint.port <= 65535 or endpoint.transport == "unix"
        if SECRET in (endpoint.password or ""):
            assert SECRET not in repr(options)


@often
@given(password=st.text(min_size=1, alphabet=st.characters(codec="utf-8")), user=st.text(max_size=5))
def test_every_password_survives_its_way_through_a_url_and_a_dict(password: str, user: str) -> None:
    from urllib.parse import quote

    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@a"
    for host in (url, {"host": "a", "password": password}):
        assert only_endpoint(redis_options({"hosts": [host]})).password == password
    config: Any = channel_layers_from_env({"REDIS_URL": f"{url},redis://b"})["default"]["CONFIG"]
    assert endpoints(redis_options(config))[0].password == password


@often
@given(text=texts)
def test_no_text_fails_in_any_other_way(text: str) -> None:
    said = refusal(parse_config_text, text)
    assert "\n" not in said
    assert said or isinstance(parse_config_text(text), dict)


@often
@given(
    before=st.text(alphabet="{}[]()'\"\\ :,#ab1", max_size=8), after=st.text(alphabet="{}[]()'\"\\ :,#ab1", max_size=8)
)
def test_a_text_that_does_not_parse_is_never_shown(before: str, after: str) -> None:
    assert SECRET not in refusal(parse_config_text, before + SECRET + after)


@often
@given(
    environ=st.dictionaries(
        st.sampled_from([variable.name for variable in VARIABLES if not variable.name.endswith("_FILE")]),
        st.one_of(
            texts, urls, st.sampled_from(["", "trunkline.RedisChannelLayer", "trunkline.IPCChannelLayer", "a.B"])
        ),
    ),
    container=st.booleans(),
)
def test_no_environment_fails_in_any_other_way(environ: dict[str, str], container: bool) -> None:
    judged(lambda given: channel_layers_from_env(given, container=lambda: container), environ)


@often
@given(path=st.text(max_size=30))
def test_no_path_of_a_file_fails_in_any_other_way(path: str) -> None:
    for name in ("CHANNEL_LAYERS_CONFIG_FILE", "REDIS_PASSWORD_FILE"):
        judged(channel_layers_from_env, {name: f"/nowhere/{path}", "REDIS_URL": "redis://a"})


@often
@given(value=configs_with_hosts)
def test_a_judgement_is_the_same_twice(value: Any) -> None:
    try:
        first = redis_options(value)
    except ConfigurationError:
        with pytest.raises(ConfigurationError):
            redis_options(value)
    else:
        assert redis_options(value) == first
