"""The hosts of a judged configuration that names servers and no Sentinels."""

from __future__ import annotations

from trunkline.config import Endpoint, RedisOptions


def endpoints(options: RedisOptions) -> list[Endpoint]:
    """Its servers, in the order given."""
    found = []
    for host in options.hosts:
        assert isinstance(host, Endpoint), host
        found.append(host)
    return found


def only_endpoint(options: RedisOptions) -> Endpoint:
    """Its server, of which there is one."""
    (endpoint,) = endpoints(options)
    return endpoint
