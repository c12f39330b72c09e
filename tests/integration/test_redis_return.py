"""Counted: Redis goes away for seconds and comes back; two hundred members in two processes hear their group again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.processes import Peer, Peers
from support.servers import RedisServer
from trunkline import LayerUnavailable, RedisChannelLayer
from trunkline.conformance.waiting import numbered, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
MEMBERS = 100  # of each process
BACK_WITHIN_S = 6.0  # two seconds, on a machine that is three times as busy as it should be


class Members:
    """Members of one group, half of them in this process; each waits for a message."""

    def __init__(self, layer: RedisChannelLayer, peer: Peer) -> None:
        self.layer = layer
        self.peer = peer
        self.ours: list[str] = []
        self.theirs: list[str] = []
        self.waiting: list[asyncio.Future[Any]] = []

    async def join(self) -> None:
        for _ in range(MEMBERS):
            self.ours.append(await self.layer.new_channel())
            self.theirs.append(await self.peer.new_channel())
        ours = [self.layer.group_add("room", name) for name in self.ours]
        theirs = [self.peer.group_add("room", name) for name in self.theirs]
        await within(asyncio.gather(*ours, *theirs), 20, "the joins")

    async def wait(self) -> None:
        self.waiting = [asyncio.ensure_future(self.layer.receive(name)) for name in self.ours]
        self.waiting += [await self.peer.begin("receive", name) for name in self.theirs]
        await asyncio.sleep(0.2)

    async def heard(self, number: int, deadline_s: float) -> None:
        """All of them get this message as their next one."""
        await asyncio.wait(self.waiting, timeout=deadline_s)
        deaf = [task for task in self.waiting if not task.done()]
        assert not deaf, f"{len(deaf)} of {len(self.waiting)} members heard nothing within {deadline_s:g} s"
        assert [task.result() for task in self.waiting] == [numbered(number)] * len(self.waiting)

    def close(self) -> None:
        for task in self.waiting:
            task.cancel()


@pytest.fixture
def durable(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A server that has its data again after a stop."""
    return start_redis(appendonly="yes", appendfsync="always")


@pytest_asyncio.fixture
async def members(durable: RedisServer, peers: Peers) -> AsyncIterator[Members]:
    config = {"hosts": [durable.url], "prefix": "return"}
    layer = RedisChannelLayer(**config)
    members = Members(layer, await peers.start(LAYER, config))
    await members.join()
    yield members
    members.close()
    await within(layer.close(), 15, "the end of close()")


@pytest_asyncio.fixture
async def make_sender(durable: RedisServer) -> AsyncIterator[Callable[[float], Awaitable[RedisChannelLayer]]]:
    """A function that makes a layer that sends only, and has done so before."""
    made: list[RedisChannelLayer] = []

    async def make(retry_time: float) -> RedisChannelLayer:
        made.append(RedisChannelLayer(hosts=[durable.url], prefix="return", retry_time=retry_time))
        await made[-1].send("orders", numbered(0))
        return made[-1]

    yield make
    for layer in made:
        await within(layer.close(), 15, "the end of close()")


async def until_accepted(send: Callable[[], Awaitable[None]], deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            return await within(send(), deadline_s)
        except LayerUnavailable:
            assert time.monotonic() < end, f"{deadline_s:g} s after its return the server is still called away"
            await asyncio.sleep(0.05)


async def both_stay_in_the_group(server: RedisServer, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with server.client() as client:
            (key,) = client.scan_iter("*:g:room", count=1000)
            assert client.zcard(key) == 2, "a live process was taken out of its group"
        await asyncio.sleep(0.05)


async def everybody_still_hears(server: RedisServer, members: Members, number: int) -> None:
    """Both processes stay in the group, and so do all members."""
    await both_stay_in_the_group(server, 1.0)
    await members.wait()
    await members.layer.group_send("room", numbered(number))
    await members.heard(number, BACK_WITHIN_S)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_sends_wait_through_five_seconds_and_every_member_hears_the_group(
    durable: RedisServer, members: Members, make_sender: Callable[[float], Awaitable[RedisChannelLayer]]
) -> None:
    sender = await make_sender(30)
    await members.wait()
    orders = [asyncio.ensure_future(members.layer.receive("orders")) for _ in range(2)]
    await asyncio.to_thread(durable.stop)
    await asyncio.sleep(0.5)
    sends = [sender.group_send("room", numbered(1)), sender.send("orders", numbered(1))]
    sending = [asyncio.ensure_future(send) for send in sends]
    await asyncio.sleep(4.5)
    ended = [task for task in [*sending, *members.waiting, orders[1]] if task.done()]
    assert not ended, f"an outage is a pause, but these ended: {ended}"
    await asyncio.to_thread(durable.start)
    await within(asyncio.gather(*sending), BACK_WITHIN_S, "the sends that waited")
    await members.heard(1, BACK_WITHIN_S)
    assert await within(asyncio.gather(*orders)) == [numbered(0), numbered(1)]
    await everybody_still_hears(durable, members, 2)


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("comes_back", ["with its data", "empty"])
async def test_sends_fail_clearly_in_an_outage_longer_than_a_heartbeats_life_and_every_member_hears_the_group(
    comes_back: str,
    durable: RedisServer,
    members: Members,
    make_sender: Callable[[float], Awaitable[RedisChannelLayer]],
) -> None:
    sender = await make_sender(2)
    await members.wait()
    await asyncio.to_thread(durable.stop)
    stopped = time.monotonic()
    for send in (sender.group_send("room", numbered(1)), sender.send("orders", numbered(1))):
        with pytest.raises(LayerUnavailable, match=str(durable.port)):
            await within(send, 6, "the failure of a send")
    await asyncio.sleep(max(0.0, stopped + 7 - time.monotonic()))  # the others would be dead after 5 s
    with pytest.raises(LayerUnavailable):
        await within(sender.group_send("room", numbered(1)), 1, "the failure at once")
    ended = [task for task in members.waiting if task.done()]
    assert not ended, f"consumers saw the outage: {ended}"
    if comes_back == "empty":
        durable.forget()
    else:
        # The only sign of life that it gave is older than a heartbeat's life, and it is too busy to give another one.
        members.peer.child.signal(signal.SIGSTOP)
    await asyncio.to_thread(durable.start)
    returned = time.monotonic()
    await until_accepted(lambda: sender.group_send("room", numbered(2)), BACK_WITHIN_S)
    if comes_back != "empty":
        await both_stay_in_the_group(durable, 1.5)
        members.peer.child.signal(signal.SIGCONT)
    await members.heard(2, BACK_WITHIN_S)
    print(f"all of them heard it {time.monotonic() - returned:.2f} s after the server's return")
    await everybody_still_hears(durable, members, 3)
