"""One event loop's connections: its sending pipes, its bell readers, and the inbox readers where it is their home."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple, Protocol

from trunkline.codec import DIRECT, Record
from trunkline.errors import ChannelFull, LayerUnavailable
from trunkline.names import address_of
from trunkline.redis.calls import Lane, Operation, Outcome
from trunkline.redis.inbox import InboxReader
from trunkline.redis.pipeline import Pipe
from trunkline.redis.process import INBOX_BYTES, Process, Server
from trunkline.redis.queue import BellReader, Queue, Take, Taken
from trunkline.redis.reliable import HoldQueue, one_way
from trunkline.redis.replies import Arg

REMEMBERED = 10_000  # channels, and script calls, whose parts are kept ready


class _Place(NamedTuple):
    """Where messages of a channel go.

    :ivar share: of the channel's capacity.
    """

    server: Server
    lane: Lane
    pipe: Pipe
    share: int


class Way(NamedTuple):
    """How a channel is sent to.

    :ivar direct: whether one process owns it.
    """

    direct: bool
    capacity: int
    places: tuple[_Place, ...]


class ColdPath(Protocol):
    """What outlives this event loop: it takes over what the loop can't finish. Callable from any thread."""

    def give_back(self, channel: str, taken: list[Taken]) -> list[tuple[int, concurrent.futures.Future[None]]]: ...
    def finish_take(self, take: Take) -> None: ...
    def ring(self, server: Server, shard: int, channel: str) -> None: ...


class Engine:
    """See the module. Used in its own loop only."""

    def __init__(self, process: Process, loop: asyncio.AbstractEventLoop, cold: ColdPath) -> None:
        self.process = process
        self.loop = loop
        self._cold = cold
        self._pipes: dict[int, Pipe] = {}
        self._lanes: dict[tuple[str, str, tuple[Arg, ...]], Lane] = {}
        self.ways: dict[str, Way] = {}
        self._queues: dict[str, Queue] = {}
        self._bells: dict[int, BellReader] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox_tasks: list[asyncio.Task[None]] = []
        self._inbox_readers: list[InboxReader] = []
        self._turns = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        self.stopped = False

    def __repr__(self) -> str:
        return f"<Engine {len(self._pipes)} pipes, {len(self._queues)} queues, {len(self._tasks)} tasks>"

    # -- sending

    def pipe(self, server: Server) -> Pipe:
        """The pipe to ``server``, made when it is first needed."""
        pipe = self._pipes.get(server.position)
        if pipe is None:
            pipe = self._pipes[server.position] = Pipe(self.process, server, self.next_turn)
        return pipe

    def call(
        self,
        script: str,
        shard: int,
        kind: str,
        name: str,
        head: tuple[Arg, ...],
        own: tuple[Arg, ...] = (),
        *,
        size: int = 0,
        held: bool = False,
    ) -> asyncio.Future[str]:
        """Queue one script operation; see ``Lane`` and ``Operation``.

        :raises LayerUnavailable: at once or in the future, when the server is away for longer than the retry time.
        """
        return self.pipe(self.process.server_of(shard)).add(self.lane(script, shard, kind, name, head), own, size, held)

    def tell(self, lane: Lane, groups: tuple[str, ...], outcome: Outcome, since: float, weight: int) -> None:
        """Queue a script operation about groups of this process.

        :param since: monotonic seconds when the first of them was to be told.
        :param weight: as ``Pipe.put``.
        :raises LayerUnavailable: at once or in the outcome, as ``call``; and when the engine has stopped.
        """
        if self.stopped:
            raise LayerUnavailable("The layer was closed before its groups could be told to the server.")
        pipe = self.pipe(self.process.server_of(lane.shard))
        pipe.put(Operation(lane, groups, outcome, 0, False, since), weight)

    def lane(self, script: str, shard: int, kind: str, name: str, head: tuple[Arg, ...]) -> Lane:
        """What calls of a script about one key have in common; made once."""
        key = self.process.keys.key(shard, kind, name)
        lane = self._lanes.get((script, key, head))
        if lane is None:
            if len(self._lanes) >= REMEMBERED:
                self._lanes.clear()
                self.ways.clear()
            lane = self._lanes[script, key, head] = Lane(self.process, script, shard, key, head)
        return lane

    def post(self, channel: str, way: Way, body: bytes) -> Awaitable[str]:
        """Put a message to a channel that one process owns on its way; what comes back is for ``judge``."""
        record = self.process.records.pack(DIRECT, channel, body)
        place = way.places[0]
        return place.pipe.add(place.lane, (channel, way.capacity, record), len(record))

    def judge(self, channel: str, way: Way, letter: str) -> None:
        """:raises ChannelFull: if the message was refused."""
        if letter != "k":
            raise self._full(channel, way.capacity, letter)

    async def carry(self, channel: str, body: bytes) -> None:
        """Send to a channel whose name is legal."""
        way = self.ways.get(channel)
        if way is None:
            way = self._find_way(channel)
        if way.direct:
            self.judge(channel, way, await self.post(channel, way, body))
            return
        record = self.process.records.pack(DIRECT, channel, body)
        places = way.places
        if len(places) > 1:
            start = self._turns % len(places)  # a server that is away is passed over
            places = tuple(sorted(places[start:] + places[:start], key=lambda each: each.server.away_since is not None))
        asked = False
        for place in places:
            if len(places) > 1 and place.server.away_since is not None and place is not places[0]:
                break
            if not place.share:
                continue
            asked = True
            if await place.pipe.add(place.lane, (record,), len(record)) == "k":
                return
        if not asked:
            raise LayerUnavailable(
                f"The servers that hold channel {channel!r}, whose capacity is {way.capacity}, are away; it was not "
                "sent."
            )
        raise ChannelFull(channel, way.capacity)

    def _full(self, channel: str, capacity: int, letter: str) -> ChannelFull:
        if letter == "f":
            return ChannelFull(channel, capacity)
        return ChannelFull(
            channel,
            capacity,
            f"Channel {channel!r} is full: the inbox of the process that reads it holds its "
            f"{self.process.inbox_most} messages or {INBOX_BYTES >> 20} MiB; read faster, or send less.",
        )

    def _find_way(self, channel: str) -> Way:
        process, address = self.process, address_of(channel)
        capacity, life = process.common.capacity_of(channel), int(process.common.expiry * 1000)
        if len(self.ways) >= REMEMBERED:
            self.ways.clear()
        if address is not None and address.process is not None:
            shard, owner = process.ring.shard(channel), address.process
            server = process.server_of(shard)
            lane = self.lane("direct", shard, "in", owner, (owner, life, process.inbox_most, INBOX_BYTES))
            way = Way(True, capacity, (_Place(server, lane, self.pipe(server), capacity),))
        else:
            where = self.places(channel)
            places = []
            for index, (server, shard) in enumerate(where):
                share = capacity // len(where) + (1 if index < capacity % len(where) else 0)
                lane = self.lane("push", shard, "q", channel, (channel, life, share, "end"))
                places.append(_Place(server, lane, self.pipe(server), share))
            way = Way(False, capacity, tuple(places))
        self.ways[channel] = way
        return way

    def places(self, channel: str) -> list[tuple[Server, int]]:
        """Where messages of a queue lie: on each server for a normal channel, on one for an unowned ``!`` name."""
        ring, servers = self.process.ring, self.process.servers
        if "!" in channel:
            shard = ring.shard(channel)
            return [(servers[ring.owners[shard]], shard)]
        return [(server, ring.queue_shard(channel, server.position)) for server in servers]

    async def together(self, sends: Iterable[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
        """Do several sends at once; the error of each that fails."""
        return await asyncio.gather(*sends, return_exceptions=True)

    def acknowledge(self, urgent: bool) -> None:
        """Send acknowledgements soon: at once where ``urgent``, else within 20 ms."""
        if urgent:
            self._send_acks()
        elif self._ack_timer is None:
            self._ack_timer = self.loop.call_later(0.02, self._send_acks)

    def _send_acks(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self.stopped:
            return
        for server in self.process.servers:
            if any(self.process.inboxes[shard].acks for shard in self.process.ring.owned[server.position]):
                self.pipe(server).wake()

    def next_turn(self) -> None:
        """The next batch for a channel that lies on several servers goes to the next one."""
        self._turns += 1

    # -- receiving

    async def receive_queue(self, channel: str) -> bytes:
        """Receive from a channel that any process may receive from."""
        queue = self._queues.get(channel)
        if queue is None:
            queue = self._queues[channel] = Queue(channel, self.places(channel), self.process, self._cold.give_back)
        return await queue.receive(self._want)

    async def receive_held(self, channel: str) -> Taken:
        """Receive from a channel that any process may receive from; the message stays on its server until it is done.

        :raises RuntimeError: if this event loop receives from the channel at most once.
        """
        queue = self._queues.get(channel)
        if queue is None:
            queue = self._queues[channel] = HoldQueue(channel, self.places(channel), self.process, self._cold.give_back)
        if not isinstance(queue, HoldQueue):
            raise RuntimeError(one_way(channel))
        return await queue.receive_held(self._want)

    def _want(self, queue: Queue) -> None:
        for position in queue.places:
            bells = self._bells.get(position)
            if bells is None:
                bells = self._bells[position] = BellReader(
                    self.process,
                    self.process.servers[position],
                    self._queues,
                    self._nudge,
                    self._cold.finish_take,
                    self._cold.ring,
                    self._want,
                )
                self._own(bells.run(), f"trunkline bells {position}")
            bells.want(queue)

    def _nudge(self, server: Server, reader: str) -> None:
        shard = self.process.ring.owned[server.position][0]
        future = self.call("nudge", shard, "nudge", reader, (), held=True)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def read_inboxes(self, current: Callable[[], bool], control: Callable[[Record], None]) -> None:
        """Become the reader of the process' inboxes."""
        self.stop_inboxes()
        for server in self.process.servers:
            reader = InboxReader(self.process, server, current, control)
            self._inbox_readers.append(reader)
            self._inbox_tasks.append(self._own(reader.run(), f"trunkline inbox {server.position}"))

    def stop_inboxes(self) -> None:
        """Stop reading the process' inboxes: another event loop does."""
        for task in self._inbox_tasks:
            task.cancel()
        self._inbox_tasks.clear()
        self._inbox_readers.clear()

    # -- the end

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Give back what was taken, send what waits, close the connections. The engine is not used again."""
        if self.stopped:
            return
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5.0)
        for queue in self._queues.values():
            if queue.items:
                self._cold.give_back(queue.channel, list(queue.items))
                queue.items.clear()
        self._send_acks()
        self.stopped = True
        await asyncio.gather(*(pipe.close() for pipe in self._pipes.values()), return_exceptions=True)

    def abandon(self) -> None:
        """Its loop was closed without a word: drop its connections, so that the servers forget its blocked reads."""
        self.stopped = True
        for pipe in self._pipes.values():
            pipe.abandon()
        for reader in self._inbox_readers:
            reader.wire.abandon()
        for bells in self._bells.values():
            bells.abandon()
        for queue in self._queues.values():
            if queue.items:
                items = list(queue.items)
                queue.items.clear()  # whoever still holds the queue must not give them back again
                self._cold.give_back(queue.channel, items)


Work = Callable[[Engine], Coroutine[Any, Any, None]]  # what an engine's loop is asked to do
