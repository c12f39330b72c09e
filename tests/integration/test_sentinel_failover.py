"""Counted: a primary dies, hangs or is replaced under traffic, and what was promised of failovers holds."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from support.processes import Peers
from support.sentinels import Sentinels
from support.servers import RedisServer
from support.traffic import Path, Traffic
from trunkline import RedisSentinelChannelLayer
from trunkline.conformance.waiting import numbered, receive, within

pytestmark = [pytest.mark.redis, pytest.mark.slow]

LAYER = "trunkline.RedisSentinelChannelLayer"
RATE = 500.0  # messages a second
PROMISED_S = 5.0  # from the promotion to traffic
SLOW_MACHINE = 3.0  # times as long is granted to a busy machine
WINDOW_S = 2.0  # seconds before the end of a primary in which what was acknowledged may not have been replicated
CONFIRMED_S = 30.0  # the same where a replica has to confirm: it must have found the new primary first
SWITCH_S = 60.0  # Sentinels sometimes need a second election


@pytest.fixture
def sentinels(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    with Sentinels("one", "two", **getattr(request, "param", {})) as started:
        yield started


Make = Callable[..., RedisSentinelChannelLayer]


@pytest_asyncio.fixture
async def make_layer(sentinels: Sentinels) -> AsyncIterator[Make]:
    made: list[RedisSentinelChannelLayer] = []
    prefix = f"t{uuid.uuid4().hex[:8]}"

    def make(**options: Any) -> RedisSentinelChannelLayer:
        config = {"hosts": sentinels.hosts, "services": ["one", "two"], "prefix": prefix, "capacity": 10_000}
        made.append(RedisSentinelChannelLayer(**{**config, "retry_time": 30, **options}))
        return made[-1]

    yield make
    for layer in made:
        await within(layer.close(), 15, what="the end of close()")


class Scene:
    """A sender, readers whose channels and groups lie on both services, and traffic over all of them."""

    def __init__(self, make: Make, options: dict[str, Any]) -> None:
        self._make = make
        self._options = options
        self.sender = make(**options)
        self.readers: list[RedisSentinelChannelLayer] = []
        self.channels: dict[str, tuple[RedisSentinelChannelLayer, str]] = {}  # service -> a channel that lives there
        self.groups: dict[str, str] = {}  # service -> a group that lives there
        self.boxes: dict[str, str] = {}  # service -> a channel of nobody's that lives there
        self.members: dict[str, tuple[RedisSentinelChannelLayer, str]] = {}  # group -> its member

    async def set_up(self) -> None:
        while len(self.channels) < 2:  # all channels of a process lie on one service
            self.readers.append(self._make(**self._options))
            channel = await self.readers[-1].new_channel()
            self.channels.setdefault(self._service(channel), (self.readers[-1], channel))
        number = 0
        while len(self.groups) < 2 or len(self.boxes) < 2:
            self.groups.setdefault(self._service(f"group{number}"), f"group{number}")
            self.boxes.setdefault(self._service(f"box{number}!of-nobody"), f"box{number}!of-nobody")
            number += 1
        reader = self.readers[0]
        for group in self.groups.values():
            self.members[group] = reader, await reader.new_channel()
            await reader.group_add(group, self.members[group][1])

    def _service(self, name: str) -> str:
        process = self.readers[0]._run().process
        return process.server_of(process.ring.shard(name)).label.rpartition("/")[2]

    def traffic(self) -> Traffic:
        def direct(channel: str) -> Any:
            return lambda message: self.sender.send(channel, message)

        def to_group(group: str) -> Any:
            return lambda message: self.sender.group_send(group, message)

        paths = [Path(f"direct {name}", direct(end), (end,)) for name, (_, end) in self.channels.items()]
        for name, group in self.groups.items():
            paths.append(Path(f"group {name}", to_group(group), (self.members[group][1],)))
        paths.append(Path("normal", direct("work"), ("work",)))
        for name, end in self.boxes.items():
            paths.append(Path(f"kept {name}", direct(end), (end,), kept=True))
        queues = [(self.readers[0], end) for end in ("work", *self.boxes.values())]
        return Traffic(paths, [*self.channels.values(), *self.members.values(), *queues], RATE)

    def newcomer(self, service: str) -> Path:
        """A process that begins to send to a channel of the service now, with nothing in its memory."""
        layer, (_, end) = self._make(**self._options), self.channels[service]
        return Path(f"newcomer {service}", lambda message: layer.send(end, message), (end,))


@pytest_asyncio.fixture
async def scene(make_layer: Make, request: pytest.FixtureRequest) -> Scene:
    scene = Scene(make_layer, getattr(request, "param", {}))
    await scene.set_up()
    return scene


async def until_switched(sentinels: Sentinels, name: str, act: Callable[[], object]) -> tuple[float, float]:
    """Do what makes the Sentinels promote a replica; returns when it was done, and when they told."""
    with sentinels.watch(name) as switch:
        act()
        acted = time.monotonic()
        while not switch.look():
            assert time.monotonic() < acted + SWITCH_S, "the Sentinels promoted nobody"
            await asyncio.sleep(0.01)
        return acted, switch.at


def check(traffic: Traffic, service: str, acted: float, switched: float, *, lossless: bool = False) -> str:
    """Every message was delivered once, or its send raised, or it was acknowledged inside the replication window."""
    told = []
    for path in traffic.paths:
        lost, repeats = path.lost, sum(path.repeats.values())
        back = path.first_after(switched)
        told.append(
            f"{path.name}: {len(path.acknowledged)} acknowledged, {len(path.raised)} raised, {len(lost)} lost, "
            f"{repeats} repeated, {back:.2f} s after the promotion"
        )
        assert path.acknowledged, path.name
        if not lossless:  # the outage is shorter than the retry time
            assert not path.raised, f"{path.name}: {next(iter(path.raised.values()))!r}"
        assert path.kept or back < (CONFIRMED_S if lossless else PROMISED_S * SLOW_MACHINE), told[-1]
        away = "normal" if path.name == "normal" else path.name.split()[1]
        if lossless or away not in ("normal", service):
            assert not lost, told[-1]
        outside = [number for number, at in lost.items() if not acted - WINDOW_S < at < acted + 0.5]
        assert not outside, f"{told[-1]}: {len(outside)} of them outside the replication window"
        if path.name != "normal":  # its takes are not waited for: the last ones before the end may repeat
            assert not repeats, told[-1]
    return "\n".join(told)


async def everybody_hears(scene: Scene) -> None:
    for group in scene.groups.values():
        await scene.sender.group_send(group, numbered(-1))
        assert await receive(*scene.members[group]) == numbered(-1)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("sentinels", "scene"),
    # Who waits for a replica needs a second one: after the failover the first is the primary.
    [
        pytest.param({}, {}, id="asynchronous"),
        pytest.param({"replicas": 2}, {"wait_replicas": 1}, id="wait_replicas"),
    ],
    indirect=True,
)
async def test_a_primary_is_killed_under_traffic(
    sentinels: Sentinels, scene: Scene, peers: Peers, request: pytest.FixtureRequest
) -> None:
    peer = await peers.start(LAYER, {"hosts": sentinels.hosts, "prefix": scene.sender.prefix})
    theirs = await peer.new_channel()
    await peer.group_add("others", theirs)
    async with scene.traffic() as traffic:
        await asyncio.sleep(1.5)
        acted, switched = await until_switched(sentinels, "one", sentinels.primary("one").kill)
        await asyncio.sleep(3.0)
        await traffic.finish(1.0, 40.0)
    lossless = scene.sender.options.wait_replicas > 0
    told = check(traffic, "one", acted, switched, lossless=lossless)
    print(f"\n{request.node.name}: promoted after {switched - acted:.2f} s\n{told}")
    # Groups are intact, and nobody was declared dead.
    await everybody_hears(scene)
    await scene.sender.group_send("others", numbered(7))
    assert await peer.receive(theirs) == numbered(7)
    with sentinels.primary("one").client() as client:
        for key in client.scan_iter(f"tl1:{scene.sender.prefix}:*procs"):
            assert client.zcard(key) == len(scene.readers) + 1  # and the peer; the sender has no channels


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sentinels", [{"down_after_ms": 300}], indirect=True
)  # sooner than a connection's patience ends
async def test_a_primary_that_hung_and_wakes_up_after_the_failover_swallows_nothing(
    sentinels: Sentinels, scene: Scene, request: pytest.FixtureRequest
) -> None:
    hung = sentinels.primary("one")
    try:
        async with scene.traffic() as traffic:
            await asyncio.sleep(1.0)
            acted, switched = await until_switched(sentinels, "one", hung.pause)
            hung.resume()  # it believes to be the primary until the Sentinels reach it, for seconds
            traffic.add(scene.newcomer("one"))
            await asyncio.sleep(4.0)
            assert role_of(hung) == "master", "this test shows nothing where the old primary is demoted so soon"
            await traffic.finish(1.0, 40.0)
    finally:
        hung.resume()
    told = check(traffic, "one", acted, switched)
    print(f"\n{request.node.name}: promoted after {switched - acted:.2f} s\n{told}")
    await everybody_hears(scene)


@pytest.mark.asyncio
async def test_a_failover_on_demand_leaves_nothing_to_the_old_primary(
    sentinels: Sentinels, scene: Scene, request: pytest.FixtureRequest
) -> None:
    async with scene.traffic() as traffic:
        await asyncio.sleep(1.0)
        acted, switched = await until_switched(sentinels, "two", lambda: sentinels.fail_over("two"))
        traffic.add(scene.newcomer("two"))
        await asyncio.sleep(2.0)
        await traffic.finish(1.0, 40.0)
    told = check(traffic, "two", acted, switched)
    print(f"\n{request.node.name}: promoted after {switched - acted:.2f} s\n{told}")
    await everybody_hears(scene)


def role_of(server: RedisServer) -> str:
    with server.client() as client:
        return str(client.info("replication")["role"])
