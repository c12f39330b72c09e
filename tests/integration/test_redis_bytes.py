"""The bytes of an inbox on a real Redis: an estimate of what acknowledgements freed must not add up for ever."""

from __future__ import annotations

from typing import Any

import pytest

from support.servers import RedisServer
from trunkline.redis.keys import Keys
from trunkline.redis.scripts import script

pytestmark = pytest.mark.redis

SMALL, LARGE = "1" + "d" + "\x01c" + "s", "1" + "d" + "\x01c" + "l" * 10_000
BEFORE_EACH = 13  # bytes of the deadline


@pytest.mark.parametrize("name", ["direct", "group"])
def test_an_inbox_that_is_empty_holds_no_bytes(name: str, redis_server: RedisServer) -> None:
    keys = Keys("bytes")
    inbox, canary, counts = keys.key(0, "in", "me"), keys.canary(0), keys.key(0, "cnt", "me")
    with redis_server.client() as client:
        client.set(keys.key(0, "epoch"), "e:1:start")
        direct, group, ack = (client.script_load(script(each).text) for each in ("direct", "group", "ack"))

        def send(number: int, record: str) -> Any:
            call = ("e", "you", number, "0")
            if name == "direct":
                return client.evalsha(direct, 2, inbox, canary, *call, "me", 60_000, 100, 10**6, "c", 50, record)
            return client.evalsha(group, 2, keys.key(0, "g", "all"), canary, *call, 60_000, 100, 10**6, record)

        now = int(client.time()[0]) * 1000
        client.zadd(keys.key(0, "g", "all"), {"p:me": now + 60_000})
        client.zadd(keys.key(0, "procs"), {"me": now + 60_000})
        send(1, SMALL)
        send(2, LARGE)
        small, large = (entry for entry, _ in client.xrange(inbox))
        client.xdel(inbox, small)  # as a sender does with an expired head, which it counts down exactly
        client.hincrby(counts, "=bytes", -len(SMALL) - BEFORE_EACH)
        together = len(SMALL) + len(LARGE) + 2 * BEFORE_EACH
        channel = "c" if name == "direct" else ""
        assert client.evalsha(ack, 2, inbox, canary, "me", 1, channel, together, 2, small, large) == ["OK"]
        send(3, SMALL)
        assert int(client.hget(counts, "=bytes")) == len(SMALL) + BEFORE_EACH
