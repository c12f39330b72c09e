"""Receiving from queues (normal channels) in one event loop: bells, numbered takes, and giving back.

A reader blocks on the channels' bells, never on the queues themselves. A take gives at most as many messages as
receivers wait, and the server keeps them under the take's number until the next one, so a reply that is cut off is
asked for again. What nobody waits for any more goes back to the front.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from trunkline.codec import Unreadable
from trunkline.errors import ConfigurationError
from trunkline.mailbox import Waiter, fail_one, wake_one
from trunkline.redis.connections import Wire
from trunkline.redis.greeting import PATIENCE, greet, load_scripts, mark_away
from trunkline.redis.held import Ticket
from trunkline.redis.process import Process, Server, new_id
from trunkline.redis.replies import Arg, NotNow, ServerAway, Unfit, UnknownScript
from trunkline.redis.scripts import script

LOOK_EVERY = 0.05  # seconds at most between two looks at a channel that is wanted, while others are busy
BLOCK_S = 5  # seconds blocked on bells; then a look without a bell, for one that a killed reader took with it


class Taken(NamedTuple):
    """A message that was taken from a server and not received yet.

    :ivar ticket: of a message that stays on the server until it is done.
    """

    server: Server
    shard: int
    data: bytes
    ticket: Ticket | None = None


class Take(NamedTuple):
    """A take that was asked for; the same again gives the same messages.

    :ivar holding: whether the messages stay on the server until they are done.
    """

    server: Server
    shard: int
    channel: str
    reader: str
    number: int
    most: int
    holding: bool = False

    @property
    def script(self) -> str:
        return "hold" if self.holding else "take"

    def command(self, process: Process) -> list[Arg]:
        command: list[Arg] = [
            b"EVALSHA", script(self.script).sha, 2, process.keys.key(self.shard, "q", self.channel),
            process.keys.canary(self.shard), process.epochs[self.shard], self.reader, self.number, self.most,
            self.channel,
        ]  # fmt: skip
        if self.holding:
            command.append(process.holdings.consumer)
        return command

    def items(self, process: Process, given: list[Any]) -> list[Taken]:
        """What a reply gives, behind its head."""
        if not self.holding:
            return [Taken(self.server, self.shard, data) for data in given if isinstance(data, bytes)]
        return [
            Taken(self.server, self.shard, data, process.holdings.ticket(self.channel, self.shard, entry, int(times)))
            for entry, times, data in zip(given[::3], given[1::3], given[2::3], strict=True)
        ]


# Puts messages of a channel back to the front of their lists; the future ends when they are there.
GiveBack = Callable[[str, list[Taken]], "list[tuple[int, concurrent.futures.Future[None]]]"]


class Queue:
    """One channel as one event loop receives from it.

    :param places: (server, virtual shard) of each list that holds messages of the channel.
    :param give_back: takes what has to go back to the front of a server's list.
    :cvar holding: whether its messages stay on the server until they are done; trunkline.redis.reliable has these.
    """

    holding = False

    def __init__(
        self,
        channel: str,
        places: Iterable[tuple[Server, int]],
        process: Process,
        give_back: GiveBack,
    ) -> None:
        self.channel = channel
        self.places = {server.position: shard for server, shard in places}
        self.items: deque[Taken] = deque()
        self.waiters: deque[Waiter] = deque()
        self.receivers = 0
        self.asking = 0
        self.lock = asyncio.Lock()
        self.returning: dict[int, set[concurrent.futures.Future[None]]] = {}
        self._process = process
        self._tally = process.counters.of(channel)
        self._give_back = give_back

    async def returned(self, position: int) -> None:
        """Wait until what goes back to a server is there: a take before that would pass it."""
        pending = self.returning.pop(position, set())
        if pending:
            await asyncio.wait({asyncio.wrap_future(done) for done in pending})

    def need(self) -> int:
        """How many more messages receivers wait for."""
        return self.receivers - len(self.items) - self.asking

    def fail(self, make: Callable[[], Exception]) -> None:
        """Let those who wait raise an error: they would wait for ever."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                fail_one(waiter, make())

    def put(self, taken: list[Taken]) -> None:
        """Hand out what was taken."""
        self.items.extend(taken)
        for _ in taken:
            wake_one(self.waiters)
        self.settle()

    def settle(self) -> None:
        """Give back what nobody waits for."""
        if len(self.items) > self.receivers:
            extra = [self.items.pop() for _ in range(len(self.items) - self.receivers)]
            for position, done in self._give_back(self.channel, extra[::-1]):
                self.returning.setdefault(position, set()).add(done)
        if self.items and self.waiters:
            wake_one(self.waiters)

    async def receive(self, want: Callable[[Queue], None]) -> bytes:
        """Wait for the next message's body; cancelling it gives the message to another receiver or back."""
        self.receivers += 1
        try:
            while True:
                while self.items:
                    item = self.items.popleft()
                    try:
                        record = self._process.record_from(self.channel, item.data)
                    except Unreadable as error:
                        self._process.skipped(error, f"channel {self.channel!r}")
                        continue
                    if item.server.local(record.deadline) > time.monotonic():
                        self._tally.received += 1
                        return record.body
                    self._tally.expired += 1
                waiter: Waiter = asyncio.get_running_loop().create_future()
                self.waiters.append(waiter)
                want(self)
                try:
                    await waiter
                finally:
                    if waiter in self.waiters:
                        self.waiters.remove(waiter)
        finally:
            self.receivers -= 1
            self.settle()


class BellReader:
    """The blocked connection of one event loop to one server's bells.

    :param queues: the channels of this event loop, by name.
    :param nudge: wakes this reader when it is blocked on too few bells.
    :param abandoned: takes over a take whose reply this reader won't see.
    """

    def __init__(
        self,
        process: Process,
        server: Server,
        queues: dict[str, Queue],
        nudge: Callable[[Server, str], None],
        abandoned: Callable[[Take], None],
        heard: Callable[[Server, int, str], None],
        still_wanted: Callable[[Queue], None],
    ) -> None:
        self.process = process
        self.server = server
        self.reader = new_id()
        self.wire = Wire(server.target)
        self._queues = queues
        self._nudge = nudge
        self._abandoned = abandoned
        self._heard = heard
        self._still_wanted = still_wanted
        self._number = 0
        self._wanted = asyncio.Event()
        self._blocked_on: set[str] | None = None
        self._nudged = False
        self._looked: set[str] = set()
        self._hints: set[str] = set()
        self._unanswered: tuple[Take, Queue] | None = None
        self._looked_at = 0.0
        self._nudge_key = process.keys.key(process.ring.owned[server.position][0], "nudge", self.reader)

    def want(self, queue: Queue) -> None:
        """A receiver began to wait."""
        if queue.channel not in self._looked:
            self._looked.add(queue.channel)
            self._hints.add(queue.channel)
        self._wanted.set()
        if self._blocked_on is not None and queue.channel not in self._blocked_on and not self._nudged:
            self._nudged = True
            self._nudge(self.server, self.reader)

    async def run(self) -> None:
        """Read for ever, through outages."""
        pause = 0.02
        try:
            while True:
                queues = [
                    queue
                    for queue in self._queues.values()
                    if self.server.position in queue.places and queue.need() > 0
                ]
                if not queues and self._unanswered is None:
                    self._wanted.clear()
                    await self._wanted.wait()
                    continue
                try:
                    if not self.wire.connected:
                        await greet(self.process, self.server, self.wire)
                        self._hints.update(queue.channel for queue in queues)  # a bell may have been cut off
                    if self._unanswered is not None:
                        await self._ask(*self._unanswered)
                    # A busy channel must not keep this reader from the bells of the others.
                    if (now := time.monotonic()) - self._looked_at > LOOK_EVERY:
                        self._looked_at = now
                        self._hints.update(queue.channel for queue in queues)
                    hinted = [queue for queue in queues if queue.channel in self._hints]
                    if not queues:
                        continue
                    if hinted:
                        for queue in hinted:
                            await self._take(queue)
                        await asyncio.sleep(0)  # receivers come back before the next look
                    else:
                        await self._listen(queues)
                    pause = 0.02
                except (ServerAway, NotNow) as error:
                    mark_away(self.server, str(error))
                    if isinstance(error, Unfit):
                        for queue in queues:
                            queue.fail(partial(ConfigurationError, str(error)))
                    elif isinstance(error, NotNow):
                        warn = self.process.warn
                        warn("taking", "Receiving from %s failed and goes on when it can: %s", self.server.label, error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.5)
        finally:
            self._leave()
            await self.wire.close()

    def abandon(self) -> None:
        """Its event loop was closed without a word."""
        self.wire.abandon()
        self._leave()

    def _leave(self) -> None:
        """Hand over what this reader can't finish."""
        if self._unanswered is not None:
            self._abandoned(self._unanswered[0])
            self._unanswered = None
        for channel in self._blocked_on or ():  # a bell may have been on its way to us
            self._heard(self.server, self._queues[channel].places[self.server.position], channel)
        self._blocked_on = None

    async def _listen(self, queues: list[Queue]) -> None:
        process, position = self.process, self.server.position
        bells = {
            process.keys.key(queue.places[position], "bell", queue.channel).encode(): queue.channel for queue in queues
        }
        self._blocked_on = set(bells.values())
        try:
            command: list[Arg] = [b"BLPOP", *bells, self._nudge_key, BLOCK_S]
            (reply,) = await self.wire.call([command], BLOCK_S + PATIENCE, blocking=BLOCK_S)
        except ServerAway:
            self._hints.update(self._blocked_on)  # a bell may have been cut off
            self._blocked_on, self._nudged = None, False
            raise
        heard_of, self._blocked_on, self._nudged = self._blocked_on, None, False
        self._looked_at = time.monotonic()
        if isinstance(reply, Exception):
            raise NotNow(str(reply))
        if reply is None:
            self._hints.update(heard_of)
        elif reply[0] in bells:
            channel = bells[reply[0]]
            queue = self._queues[channel]
            if queue.need() > 0:
                self._hints.add(channel)
            else:
                self._heard(self.server, queue.places[position], channel)

    async def _take(self, queue: Queue) -> None:
        async with queue.lock:  # one receiver and three servers: one take at a time
            await queue.returned(self.server.position)
            most = queue.need()
            if most <= 0:
                self._hints.discard(queue.channel)
                self._heard(self.server, queue.places[self.server.position], queue.channel)
                return
            self._number += 1
            shard = queue.places[self.server.position]
            take = Take(self.server, shard, queue.channel, self.reader, self._number, most, queue.holding)
            self._unanswered = (take, queue)
            queue.asking += most
            got = 0
            try:
                got = await self._ask(take, queue)
            finally:
                queue.asking -= most
                if got < most and queue.need() > 0:
                    self._still_wanted(queue)  # readers of other servers held back for this take

    async def _ask(self, take: Take, queue: Queue) -> int:
        """Ask for a take and hand out what it gives; returns how many messages that were.

        While its server is away the take stays unanswered, and nobody waits for it: receivers may be served by other
        servers meanwhile, and what they don't need any more goes back.

        :raises ServerAway, NotNow: ask again later.
        """
        left, taken = await ask_take(self.process, self.wire, take)
        self._unanswered = None
        if not left:
            self._hints.discard(queue.channel)
        queue.put(taken)
        return len(taken)


async def ask_take(process: Process, wire: Wire, take: Take) -> tuple[bool, list[Taken]]:
    """Ask for a take once; returns whether more is left, and the messages.

    :raises ServerAway, NotNow: ask again.
    """
    while True:
        if not wire.connected:
            await greet(process, take.server, wire)
        (reply,) = await wire.call([take.command(process)], PATIENCE)
        if isinstance(reply, UnknownScript):
            await load_scripts(wire, {take.script})
        elif isinstance(reply, Exception):
            raise NotNow(str(reply))
        elif reply[0] == b"OK":
            process.counters.of(take.channel).expired += int(reply[1])
            return bool(reply[2]), take.items(process, reply[3:])
        elif reply[0] == b"EPOCH":
            if not reply[1] or not process.adopt(take.shard, reply[1].decode()):
                await wire.close()  # greeting again makes an epoch, or waits for the end of a flush
                await asyncio.sleep(0.05)
        else:  # LATE: a later number was used, so these messages were seen
            return False, []
