"""What the environment says about a deployment's processes, and the arguments that follow from it."""

from __future__ import annotations

import pytest

from trunkline.errors import ConfigurationError
from trunkline.serve.deployment import deployment_from, pool_of
from trunkline.serve.graph import GRAPH, daphne_arguments, worker_arguments


@pytest.mark.parametrize(
    ("environ", "application", "settings"),
    [
        ({"DJANGO_SETTINGS_MODULE": "mysite.settings"}, "mysite.asgi:application", "mysite.settings"),
        ({"ASGI_APPLICATION": "mysite.asgi:application"}, "mysite.asgi:application", "mysite.settings"),
        ({"ASGI_APPLICATION": "a.b.asgi:app"}, "a.b.asgi:app", "a.b.settings"),
        (
            {"ASGI_APPLICATION": "routing:app", "DJANGO_SETTINGS_MODULE": "conf.production"},
            "routing:app",
            "conf.production",
        ),
    ],
)
def test_application_and_settings_are_found_beside_each_other(
    environ: dict[str, str], application: str, settings: str
) -> None:
    deployment = deployment_from(environ)
    assert (deployment.application, deployment.settings) == (application, settings)


def test_an_application_that_says_nothing_of_its_settings_needs_them() -> None:
    with pytest.raises(ConfigurationError, match="DJANGO_SETTINGS_MODULE is empty; it takes a module"):
        deployment_from({"ASGI_APPLICATION": "routing:application"})


def test_daphne_listens_where_it_is_told_or_on_the_socket_that_it_inherits() -> None:
    deployment = deployment_from(
        {
            "ASGI_APPLICATION": "mysite.asgi:application",
            "TRUNKLINE_BIND": "0.0.0.0",
            "TRUNKLINE_PORT": "80",
            "TRUNKLINE_PROXY_HEADERS": "1",
            "TRUNKLINE_WEBSOCKET_TIMEOUT": "60",
        }
    )
    options = ["--websocket_timeout", "60", "--proxy-headers", "mysite.asgi:application"]
    assert daphne_arguments(deployment) == ["-b", "0.0.0.0", "-p", "80", *options]
    assert daphne_arguments(deployment, inherited_socket=True) == ["--fd", "0", *options]


def test_a_worker_serves_the_only_pool_or_the_one_that_is_named() -> None:
    assert worker_arguments(pool_of({"TRUNKLINE_WORKER_CHANNELS": "a b"})) == ["runworker", "a", "b"]
    environ = {"TRUNKLINE_WORKER_CHANNELS": "pictures*3=thumbnail; mail", "TRUNKLINE_WORKER_POOL": "mail"}
    assert pool_of(environ).channels == ("mail",)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "TRUNKLINE_WORKER_CHANNELS is empty; a worker needs a channel, such as thumbnail."),
        (
            {"TRUNKLINE_WORKER_CHANNELS": "a; b"},
            "TRUNKLINE_WORKER_CHANNELS has several pools: TRUNKLINE_WORKER_POOL takes a, b.",
        ),
        (
            {"TRUNKLINE_WORKER_CHANNELS": "a; b", "TRUNKLINE_WORKER_POOL": "c"},
            "TRUNKLINE_WORKER_POOL is 'c'; it takes a pool of TRUNKLINE_WORKER_CHANNELS: a, b.",
        ),
    ],
)
def test_a_worker_that_does_not_know_its_pool_says_so(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        pool_of(environ)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("grace", ["39", "x", "-1"])
def test_a_stop_grace_that_would_cut_the_drain_is_refused(grace: str) -> None:
    environ = {"ASGI_APPLICATION": "mysite.asgi:application", "TRUNKLINE_STOP_GRACE": grace}
    with pytest.raises(ConfigurationError, match=f"TRUNKLINE_STOP_GRACE is '{grace}'; it takes at least 40 seconds"):
        deployment_from(environ)
    deployment_from({**environ, "TRUNKLINE_STOP_GRACE": "40"})
    deployment_from({**environ, "TRUNKLINE_STOP_GRACE": "15", "TRUNKLINE_DRAIN_TIMEOUT": "5"})


def test_the_graph_is_in_order_and_names_each_process_once() -> None:
    names = [process.name for process in GRAPH]
    assert len(set(names)) == len(names)
    for position, process in enumerate(GRAPH):
        assert set(process.after) <= {"redis", *names[:position]}
        assert len(set(process.variables)) == len(process.variables)
