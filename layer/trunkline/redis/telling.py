"""Telling servers which groups this process is in, and since when a server knows.

What an event loop has to tell about one virtual shard travels as one call with joins and one with leaves. A server's
virtual shards make two halves. The calls of a half travel as one pipeline, and what comes up until they are answered
goes with its next one. So the server works on one half while answers of the other are handed out, and no call is small.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from trunkline.mailbox import Waiter, wake
from trunkline.redis.calls import Lane
from trunkline.redis.engine import Engine
from trunkline.redis.outgoing import MOST_OPERATIONS
from trunkline.redis.process import Membership, Process
from trunkline.redis.replies import Arg
from trunkline.redis.ring import VIRTUAL_SHARDS

HALVES = 2  # of a server's virtual shards: one is answered while the other is told; more would make small calls
REFRESH = 0.1  # of group_expiry: how old the server's entry of this process may get before a join renews it


class Telling:
    """A join or leave of this process on its way to the server, by an event loop.

    :ivar waiter: of who began it, in this loop; done when it is over.
    :ivar others: who else wants to know that it is over, in any loop.
    :ivar since: monotonic seconds when it was begun.
    :ivar outcome: whether the server certainly knows it now, or why it failed; ``None`` while it is on its way.
    """

    __slots__ = ("group", "loop", "others", "outcome", "since", "waiter")

    def __init__(self, group: str, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self.group = group
        self.loop = loop
        self.waiter: Waiter = loop.create_future()
        self.others: list[Waiter] | None = None
        self.since = now
        self.outcome: bool | Exception | None = None

    def follow(self, loop: asyncio.AbstractEventLoop) -> Waiter:
        """A further waiter, in any loop."""
        waiter: Waiter = loop.create_future()
        if self.others is None:
            self.others = []
        self.others.append(waiter)
        return waiter

    def certain(self) -> bool:
        """Whether the server certainly knows it now; for who began it, when it is over.

        :raises Exception: why it failed; each caller gets an error of its own.
        """
        outcome = self.outcome
        if isinstance(outcome, Exception):
            raise type(outcome)(*outcome.args) from outcome
        return outcome is True


class _Outbox:
    """What one engine has to tell.

    :ivar waiting: by virtual shard, joins and leaves apart; so are ``lanes``.
    :ivar under_way: by half, how many calls are not answered yet.
    :ivar due: whether what waits and can go does so soon.
    """

    __slots__ = ("due", "engine", "lanes", "under_way", "waiting")

    def __init__(self, engine: Engine, halves: int) -> None:
        self.engine = engine
        self.lanes: dict[int, Lane] = {}
        self.waiting: dict[int, list[Telling]] = {}
        self.under_way = [0] * halves
        self.due = False


class _Batch:
    """The outcome of a call that carries tellings; see ``Outcome``.

    :ivar epoch: with ``losses``, which life of the server's knowledge about this process it was when the call was made.
    """

    __slots__ = ("_over", "_told", "epoch", "losses", "outbox", "tellings", "where")

    def __init__(
        self,
        told: Callable[[_Batch, Exception | None], None],
        outbox: _Outbox,
        where: int,
        tellings: list[Telling],
        epoch: str,
        losses: int,
    ) -> None:
        self._told = told
        self.outbox = outbox
        self.where = where
        self.tellings = tellings
        self.epoch = epoch
        self.losses = losses
        self._over = False

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return self._over

    def set_result(self, _answer: str, /) -> None:
        self._over = True
        self._told(self, None)

    def set_exception(self, error: Exception, /) -> None:
        self._over = True
        self._told(self, error)


class Tellings:
    """The tellings of one process; guarded by the process' lock. Joins and leaves of one group never pass each other.

    :ivar busy: the telling of each group that is on its way.
    :param doubt: told of each group of which a server may not know what it should; called with the lock held.
    """

    def __init__(self, process: Process, doubt: Callable[[str], None]) -> None:
        self.busy: dict[str, Telling] = {}
        self._process = process
        self._doubt = doubt
        self._outboxes: dict[Engine, _Outbox] = {}
        self._losses = [0] * VIRTUAL_SHARDS
        self._halves = [0] * VIRTUAL_SHARDS  # none has shards of two servers: one that is away holds up its own only
        for server, shards in enumerate(process.ring.owned):
            for turn, shard in enumerate(shards):
                self._halves[shard] = server * HALVES + turn % HALVES

    def lost(self, shard: int) -> None:
        """A server has lost what it knew on a virtual shard: what is on its way there may have come before or after."""
        self._losses[shard] += 1

    def begin(self, engine: Engine, group: str, held: bool, now: float) -> Telling:
        """Tell a server, in a later turn of the engine's loop, that this process is in a group, or is not any more.

        For a caller that holds the lock and knows that the group is not ``busy``.

        :param now: monotonic seconds.
        """
        where = self._process.ring.group_shard(group) * 2 + held
        outbox = self._outboxes.get(engine)
        if outbox is None:
            outbox = self._outboxes[engine] = _Outbox(engine, self._process.ring.servers * HALVES)
        waiting = outbox.waiting.get(where)
        if waiting is None:
            if not outbox.due and not outbox.under_way[self._halves[where // 2]]:
                engine.loop.call_soon(self._go, outbox)
                outbox.due = True
            waiting = outbox.waiting[where] = []
        telling = self.busy[group] = Telling(group, engine.loop, now)
        waiting.append(telling)
        return telling

    def forget(self, engine: Engine) -> None:
        """The engine has stopped."""
        self._outboxes.pop(engine, None)

    def give_up(self, telling: Telling) -> None:
        """Its event loop is no more: the server may know it or not."""
        if self.busy.get(telling.group) is telling:
            del self.busy[telling.group]
            self._process.memberships[telling.group] = Membership()

    def life_of_entries(self) -> int:
        """Milliseconds; a tenth longer than a membership, as the entry is renewed that rarely."""
        return int(self._process.common.group_expiry * (1 + REFRESH) * 1000)

    def _go(self, outbox: _Outbox) -> None:
        process, engine = self._process, outbox.engine
        with process.lock:
            outbox.due = False
            free: dict[int, list[int]] = {}
            for where in outbox.waiting:
                half = self._halves[where // 2]
                if not outbox.under_way[half]:
                    free.setdefault(half, []).append(where)
            halves = [[self._batch(outbox, where) for where in some] for some in free.values()]
        for batches in halves:
            weight = 0  # given with the last call, so that none leaves before all of the half are there
            for batch in batches:
                weight += len(batch.tellings)
                try:
                    lane = outbox.lanes.get(batch.where) or self._lane(outbox, batch.where)
                    groups = tuple([telling.group for telling in batch.tellings])
                    engine.tell(lane, groups, batch, batch.tellings[0].since, weight if batch is batches[-1] else 0)
                except Exception as error:
                    batch.set_exception(error)

    def _lane(self, outbox: _Outbox, where: int) -> Lane:
        shard, held = divmod(where, 2)
        owner = self._process.id
        head: tuple[Arg, ...] = (owner, self.life_of_entries()) if held else (owner,)
        lane = outbox.lanes[where] = outbox.engine.lane("enter" if held else "exit", shard, "of", owner, head)
        return lane

    def _batch(self, outbox: _Outbox, where: int) -> _Batch:
        tellings, shard = outbox.waiting.pop(where), where // 2
        outbox.under_way[self._halves[shard]] += 1
        if len(tellings) > MOST_OPERATIONS:
            tellings, outbox.waiting[where] = tellings[:MOST_OPERATIONS], tellings[MOST_OPERATIONS:]
        return _Batch(self._told, outbox, where, tellings, self._process.epochs[shard], self._losses[shard])

    def _told(self, batch: _Batch, error: Exception | None) -> None:
        outbox, half, running = batch.outbox, self._halves[batch.where // 2], asyncio._get_running_loop()
        with self._process.lock:
            try:
                self._note(batch, error)
            finally:
                outbox.under_way[half] -= 1
                here = outbox.engine.loop is running
                for telling in batch.tellings:
                    waiter = telling.waiter
                    if not here:
                        wake(waiter, running)
                    elif not waiter.done():  # as ``wake``, for what is usual
                        waiter.set_result(None)
                    if telling.others is not None:
                        for waiter in telling.others:
                            wake(waiter, running)
                if outbox.waiting and not outbox.due and not outbox.under_way[half]:
                    outbox.due = True
                    # Not in the next turn, but behind what those who were just woken have to tell in it.
                    self._soon(outbox)

    def _note(self, batch: _Batch, error: Exception | None) -> None:
        """What the server knows now of each group of the batch, or may not know."""
        process, busy = self._process, self.busy
        shard, held = divmod(batch.where, 2)
        epoch = process.epochs[shard]
        certain = error is None and self._losses[shard] == batch.losses and batch.epoch in ("", epoch)
        known = Membership(epoch, time.monotonic() + REFRESH * process.common.group_expiry, shard)
        memberships, given_up = process.memberships, error or False
        outcome = given_up or certain or not held
        for telling in batch.tellings:
            group = telling.group
            if busy.get(group) is telling:
                del busy[group]
                telling.outcome = ended = outcome
            else:
                telling.outcome = ended = given_up
            if ended is not True:
                memberships[group] = Membership()
                self._doubt(group)
            elif held:
                memberships[group] = known
            else:
                memberships.pop(group, None)

    def _soon(self, outbox: _Outbox) -> None:
        loop = outbox.engine.loop
        try:
            loop.call_soon(loop.call_soon, self._go, outbox)
        except RuntimeError:  # the event loop was closed without a word, and all who waited with it
            pass
