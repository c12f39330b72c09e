"""Counted: the adjacent earlier release beside this one, on one server and prefix, as in the middle of a deployment.

The earlier release is taken out of the project's own history and runs in processes of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import tarfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.counting import Ledger
from support.processes import Child, Peer, PeerError, Peers
from support.requirements import need
from support.servers import RedisServer
from trunkline.conformance.peers import pack
from trunkline.conformance.waiting import Tasks, eventually, within

pytestmark = pytest.mark.redis

LAYER = "trunkline.RedisChannelLayer"
ROOT = Path(__file__).parents[2]
# The last commit before 0.1.0's second half. A release that talks to its predecessor names that one's tag here.
EARLIER = "893c89e2c17c5d6f40ca710f79755913e0066480"
MESSAGES = 150
CAPACITY = 300


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to import the earlier release from."""
    asked = subprocess.run(["git", "cat-file", "-e", f"{EARLIER}^{{commit}}"], cwd=ROOT, capture_output=True)
    need(f"commit {EARLIER} of the project's history", asked.returncode == 0, "git fetch --unshallow")
    place = tmp_path_factory.mktemp("earlier")
    subprocess.run(["git", "archive", "--output", place / "layer.tar", EARLIER, "layer"], cwd=ROOT, check=True)
    with tarfile.open(place / "layer.tar") as archive:
        archive.extractall(place, filter="data")
    return place / "layer"


@pytest.fixture
def config(shared_redis: list[RedisServer]) -> dict[str, Any]:
    return {
        "hosts": [shared_redis[0].url],
        "prefix": uuid.uuid4().hex,
        "capacity": 5_000,
        "channel_capacity": {"small.*": CAPACITY},
    }


class Pair:
    """A process of the earlier release and one of this."""

    def __init__(self, old: Peer, new: Peer) -> None:
        self.old = old
        self.new = new

    def __iter__(self) -> Iterator[tuple[Peer, Peer]]:
        """Both ways."""
        return iter([(self.old, self.new), (self.new, self.old)])


StartEarlier = Callable[[dict[str, Any]], Awaitable[Peer]]


@pytest_asyncio.fixture
async def start_earlier(earlier: Path) -> AsyncIterator[StartEarlier]:
    """A function that starts a process of the earlier release."""
    started: list[Peer] = []

    async def start(config: dict[str, Any]) -> Peer:
        arguments = {"path": LAYER, "config": pack(config)}
        child = await Child.start("support.versions:tell_and_serve", arguments, path=[str(earlier)])
        where = await child.hear(30)
        started.append(Peer(child))
        assert where.startswith(str(earlier)), f"that is not the earlier release but {where}"
        return started[-1]

    yield start
    for peer in started:
        await peer.close()


@pytest_asyncio.fixture
async def pair(config: dict[str, Any], start_earlier: StartEarlier, peers: Peers) -> Pair:
    return Pair(*await asyncio.gather(start_earlier(config), peers.start(LAYER, config)))


async def send_all(peer: Peer, client: str, channel: str, group: str = "") -> None:
    """Send numbered messages, directly or to a group."""
    for number in range(MESSAGES):
        message = {"type": "test.numbered", "client": client, "number": number}
        await (peer.group_send(group, message) if group else peer.send(channel, message))


async def take(peer: Peer, channel: str, count: int, ledger: Ledger) -> None:
    for _ in range(count):
        ledger.take(channel, await peer.receive(channel, 20))


@pytest.mark.asyncio
async def test_direct_and_group_messages_pass_between_the_releases(pair: Pair) -> None:
    ledger, sending = Ledger(), []
    names = {peer: await peer.new_channel() for peer in (pair.old, pair.new)}
    for one, other in pair:
        await one.group_add("joined-by-itself", names[one])
        await one.group_add("joined-by-the-other", names[other])
    async with Tasks() as tasks:
        for one, other in pair:
            client = "earlier" if one is pair.old else "this"
            sending.append(tasks.start(send_all(one, client, names[other])))
            ledger.count(names[other], client, MESSAGES)
            for group in ("joined-by-itself", "joined-by-the-other"):
                sending.append(tasks.start(send_all(one, f"{client} to {group}", "", group)))
                for name in names.values():
                    ledger.count(name, f"{client} to {group}", MESSAGES)
        receiving = [tasks.start(take(peer, name, 5 * MESSAGES, ledger)) for peer, name in names.items()]
        await within(asyncio.gather(*sending, *receiving), 60, "the end of the exchange")
    ledger.check(in_order=names.values(), at_least=MESSAGES)
    for one, other in pair:  # a doubled message would come before these
        await one.send(names[other], {"number": -1})
        assert (await other.receive(names[other]))["number"] == -1


@pytest.mark.asyncio
async def test_a_normal_channel_is_shared_by_the_releases(pair: Pair) -> None:
    ledger, sending = Ledger(), []
    async with Tasks() as tasks:
        for number, peer in enumerate((pair.old, pair.new)):
            for _ in range(4):
                tasks.start(_drain(peer, "orders", ledger))
            sending.append(tasks.start(send_all(peer, f"{number}", "orders")))
            ledger.count("orders", f"{number}", MESSAGES)
        await within(asyncio.gather(*sending), 30, "the end of the sends")

        async def complete() -> None:
            assert not ledger.missing

        await eventually(complete, 20)
        await asyncio.sleep(0.3)  # a doubled message would come now
    ledger.check(at_least=MESSAGES)


async def _drain(peer: Peer, channel: str, ledger: Ledger) -> None:
    while True:
        ledger.take(channel, await peer.receive(channel, 60))


@pytest.mark.asyncio
async def test_both_releases_count_the_same_capacity_and_leave_groups_for_each_other(
    pair: Pair,
) -> None:
    for one, other in pair:
        name = await other.call("new_channel", "small")
        for number in range(CAPACITY):
            await one.send(name, {"number": number})
        with pytest.raises(PeerError, match="ChannelFull"):
            await one.send(name, {"number": CAPACITY})
        for number in range(CAPACITY):
            assert (await other.receive(name))["number"] == number

        async def has_room(one: Peer = one, name: str = name) -> None:
            await one.send(name, {"number": -1})  # PeerError, while it is full, is an AssertionError

        await eventually(has_room)
        assert (await other.receive(name))["number"] == -1

        await one.group_add("room", name)
        await other.group_send("room", {"number": 1})
        assert (await other.receive(name))["number"] == 1
        await one.group_discard("room", name)
        await one.group_send("room", {"number": 2})
        await one.send(name, {"number": 3})
        assert (await other.receive(name))["number"] == 3, "it is still a member"


@pytest.mark.asyncio
async def test_a_flush_of_either_release_empties_both(pair: Pair) -> None:
    for one, other in pair:
        name = await other.new_channel()
        await other.group_add("room", name)
        for channel in (name, "orders"):
            await one.send(channel, {"number": 1})
        await one.call("flush", deadline_s=15)
        await one.group_send("room", {"number": 2})
        for channel in (name, "orders"):
            await one.send(channel, {"number": 3})
            assert (await other.receive(channel))["number"] == 3


@pytest.mark.slow
@pytest.mark.asyncio
async def test_each_release_takes_a_killed_process_of_the_other_out_of_its_groups(
    shared_redis: list[RedisServer], config: dict[str, Any], start_earlier: StartEarlier, peers: Peers
) -> None:
    configs = [{**config, "prefix": uuid.uuid4().hex} for _ in range(2)]
    olds = [await start_earlier(each) for each in configs]
    news = [await peers.start(LAYER, each) for each in configs]
    left: list[tuple[Peer, str]] = []
    for one, other, each in zip([olds[0], news[1]], [news[0], olds[1]], configs, strict=True):
        name = await one.new_channel()
        await one.group_add("room", name)
        await other.new_channel()  # now this process beats
        one.child.kill()
        await one.child.ended()
        left.append((other, each["prefix"]))

    def groups() -> list[str]:
        with shared_redis[0].client() as client:
            keys = [key for _, prefix in left for key in client.scan_iter(f"tl1:{prefix}:*:g:room", count=1000)]
            return [key for key in keys if client.zcard(key)]

    assert len(groups()) == 2

    async def gone() -> None:
        assert groups() == []

    await eventually(gone, 12)
