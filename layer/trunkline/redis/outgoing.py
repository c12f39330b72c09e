"""What waits for one server, and the commands of the pipelines that carry it; no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from trunkline.redis import replicas
from trunkline.redis.calls import ALONE, Acks, Call, Flight, Operation
from trunkline.redis.process import Process, Server, Token, new_id
from trunkline.redis.replies import Arg
from trunkline.redis.ring import VIRTUAL_SHARDS
from trunkline.redis.scripts import script

MOST_BYTES = 8 * 1024 * 1024  # bodies in one pipeline
MOST_OPERATIONS = 2_000  # operations in one pipeline


class Outgoing:
    """Operations that wait, the calls that they become, and the numbers under which the server knows these.

    Operations wait in ``_pending``. What a pipeline brought back undone is left in ``_calls``: a call that has a number
    there was sent and not answered, and goes out again under its number, before all that have none yet.

    :ivar sender: whom the numbers belong to.
    """

    def __init__(self, process: Process, server: Server) -> None:
        self.process = process
        self.server = server
        self.sender = new_id()
        self._replicas = process.options.wait_replicas
        self._pending: list[Operation] = []
        self._weight = 0  # of what was added since calls were formed last
        self._calls: list[Call] = []
        self._numbers = [0] * VIRTUAL_SHARDS
        self._open: list[deque[int]] = [deque() for _ in range(VIRTUAL_SHARDS)]  # numbers under way
        self._asked = False

    def _form_calls(self) -> None:
        """Make calls of what waits. One that the server asked to wait takes later ones of its kind along, in order."""
        self._weight = 0
        if not self._pending:
            return
        calls = {call.lane: call for call in self._calls if not call.number}
        size = count = 0
        rest: list[Operation] = []
        for index, operation in enumerate(self._pending):
            if operation.outcome.cancelled():
                continue
            size += operation.size
            if (size > MOST_BYTES and count) or count >= MOST_OPERATIONS:
                rest += self._pending[index:]
                break
            call = calls.get(operation.lane)
            if call is None:
                call = calls[operation.lane] = Call(operation.lane)
                self._calls.append(call)
            elif len(call.operations) >= MOST_OPERATIONS:  # it waits; the server's Lua can't take any number
                rest.append(operation)
                continue
            call.operations.append(operation)
            count += 1
        self._pending = rest
        self._weight = len(rest)

    def _due_calls(self, now: float) -> list[Call]:
        """What may go now, and passes nothing that it must not pass, while that waits or may be refused once more.

        What is in doubt goes alone, in order on each virtual shard: after a higher number the server would refuse it.
        """
        doubtful = [call for call in self._calls if call.doubtful]
        due: list[Call] = []
        shut: set[object] = set()
        for call in doubtful or self._calls:
            place = call.lane.shard if doubtful else (call.lane.key, call.lane.head)
            if place in shut:
                continue
            if call.not_before <= now:
                due.append(call)
            if call.not_before > now or not doubtful:
                shut.add(place)
        if not doubtful:
            due.sort(key=lambda call: call.refusal != "")  # the others are chained behind what is refused once more
        return due

    def _number_behind(self, calls: list[Call]) -> None:
        """Give numbers to new calls that go behind those under way."""
        for call in calls:
            shard = call.lane.shard
            self._numbers[shard] = call.number = self._numbers[shard] + 1
            before = self._open[shard]
            call.chain = b"%d:%d" % (before[0], before[-1]) if before else ALONE
            before.append(call.number)

    def _came_back(self, flight: Flight) -> None:
        """The calls of the first pipeline are not under way any more."""
        for call in flight.calls:
            self._open[call.lane.shard].popleft()

    def _none_is_open(self) -> None:
        for numbers in self._open:
            numbers.clear()

    def _number(self, calls: Iterable[Call]) -> list[Call]:
        """In the order in which they go: first what was sent before, then what has no number yet and now gets one."""
        sent = [call for call in calls if call.number]
        for call in calls:
            if not call.number:
                shard = call.lane.shard
                self._numbers[shard] = call.number = self._numbers[shard] + 1
                sent.append(call)
        chains: dict[int, tuple[int, int]] = {}  # of each virtual shard: the lowest number, and the one before
        for call in sent:
            shard = call.lane.shard
            floor, before = chains.get(shard, (call.number, 0))
            call.chain = b"%d:%d" % (floor, before) if before else ALONE
            chains[shard] = floor, call.number
        return sent

    def _commands(self, flight: Flight) -> list[list[Arg]]:
        commands: list[list[Arg]] = []
        for call in flight.calls:
            lane = call.lane
            command = [*lane.prefix, self.process.epochs[lane.shard], self.sender, call.number, call.chain]
            command += lane.head
            for operation in call.operations:
                command += operation.own
            commands.append(command)
        commands = flight.ordered(commands, [self._ack_command(*each) for each in flight.acks])
        if self._replicas and any(call.lane.replicated for call in flight.calls):
            flight.waits = True
            commands.append(replicas.first(self.process.options))
        return commands

    def _take_acks(self) -> Acks:
        self._asked = False
        process, inboxes = self.process, self.process.inboxes
        shards = process.ring.owned[self.server.position]
        return [(shard, acks) for shard in shards if inboxes[shard].acks and (acks := process.take_acks(shard))]

    def _ack_command(self, shard: int, acks: dict[str, list[Token]]) -> list[Arg]:
        args: list[Arg] = [self.process.id, len(acks)]
        ids: list[Arg] = []
        for channel, tokens in acks.items():
            if len(tokens) == 1:
                _, entry, size = tokens[0]
                args += (channel, size, 1)
                ids.append(entry)
            else:
                args += (channel, sum([token.size for token in tokens]), len(tokens))
                ids += [token.entry for token in tokens]
        keys = self.process.keys
        where = keys.key(shard, "in", self.process.id), keys.canary(shard)
        return [b"EVALSHA", script("ack").sha, 2, *where, *args, *ids]

    def _queue_again(self, acks: Acks) -> None:
        with self.process.lock:
            for shard, tokens in acks:
                for channel, some in tokens.items():
                    self.process.inboxes[shard].acks.setdefault(channel, [])[:0] = some
