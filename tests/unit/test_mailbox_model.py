"""The mailbox against a model that is simple enough to be right: deliveries, receivers, cancellation, expiry, members.

Channels, groups and times are few, so that what happens meets often. The event loop is turned by hand: a receiver that
was woken may be cancelled, or its channel swept or flushed, before it comes to run.
"""

from __future__ import annotations

import asyncio
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trunkline.codec import Shared
from trunkline.mailbox import Mailbox
from trunkline.stats import Counters

CAPACITY = 2
IDLE = 60.0
HEAD = "specific." + "a" * 24 + "!"
CHANNELS = ("1", "2")
GROUPS = ("red", "blue")

channels = st.sampled_from([HEAD + local for local in (*CHANNELS, *CHANNELS[:1] * 2)])  # most happens to one of them
groups = st.sampled_from([*GROUPS, *GROUPS[:1] * 2])
lives = st.sampled_from([5.0, 200.0])
few = st.integers(1, 3)


class MailboxMachine(RuleBasedStateMachine):
    """``unread`` and ``ends`` are the model: what each channel holds, and when each membership ends."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1000.0
        self.told: list[int] = []
        self.counters = Counters()
        self.box = Mailbox(
            capacity_of=lambda _channel: CAPACITY,
            idle=IDLE,
            clock=lambda: self.now,
            consumed=lambda _channel, token, _capacity: self.told.append(int(str(token))),
            counters=self.counters,
        )
        self.number = 0
        self.direct: set[int] = set()
        self.unread: dict[str, deque[tuple[float, int]]] = {HEAD + local: deque() for local in CHANNELS}
        self.ends: dict[str, dict[str, float]] = {group: {} for group in GROUPS}
        self.used: dict[str, float] = {}
        self.tasks: dict[asyncio.Task[None], str] = {}
        self.got: dict[str, list[int]] = {}

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.turn()
        assert not any(not task.done() for task in self.tasks)
        self.loop.close()

    # -- what happens

    @rule(channel=channels, life=lives)
    def a_direct_message_comes(self, channel: str, life: float) -> None:
        self.number += 1
        self.direct.add(self.number)
        self.unread[channel].append((self.now + life, self.number))
        self.used.setdefault(channel, self.now)
        self.box.deliver(channel, self.now + life, b"%d" % self.number, self.number)

    @rule(group=groups, life=lives, count=few)
    def group_messages_come(self, group: str, life: float, count: int) -> None:
        for _ in range(count):
            self.a_group_message_comes(group, life)

    def a_group_message_comes(self, group: str, life: float) -> None:
        self.number += 1
        dropped = 0
        for channel, end in self.ends[group].items():
            unread = self.unread[channel]
            if end <= self.now:
                continue
            if len(unread) >= CAPACITY:
                self.drop_expired(channel)
            if len(unread) >= CAPACITY:
                dropped += 1
            else:
                unread.append((self.now + life, self.number))
        assert self.box.deliver_group(group, self.now + life, b"%d" % self.number) == dropped

    @rule(group=groups, channel=channels, life=lives)
    def a_channel_joins(self, group: str, channel: str, life: float) -> None:
        self.used.setdefault(channel, self.now)
        self.box.join(group, channel, self.now + life)
        self.ends[group][channel] = self.now + life

    @rule(group=groups, channel=channels)
    def a_channel_leaves(self, group: str, channel: str) -> None:
        self.ends[group].pop(channel, None)
        left = self.box.leave(group, channel)
        assert left == (not self.box.holds(group))

    @rule(channel=channels, count=few, turn=st.booleans())
    def receivers_come(self, channel: str, count: int, turn: bool) -> None:
        for _ in range(count):
            self.tasks[self.loop.create_task(self.receive(channel))] = channel
        if turn:
            self.turn()

    @rule(channel=channels, index=st.integers(0, 2))
    def a_receiver_is_cancelled(self, channel: str, index: int) -> None:
        waiting = [task for task, name in self.tasks.items() if name == channel and not task.done()]
        for task in waiting[index : index + 1]:
            task.cancel()

    @rule(channel=channels, index=st.integers(0, 2), group=groups, how=st.sampled_from(["direct", "group", "both"]))
    def a_receiver_is_cancelled_after_its_wake_up(self, channel: str, index: int, group: str, how: str) -> None:
        self.turn()
        if how != "group":
            self.a_direct_message_comes(channel, 200.0)
        if how != "direct":
            self.a_group_message_comes(group, 200.0)
        self.a_receiver_is_cancelled(channel, index)

    @rule(group=groups, channel=channels)
    def a_membership_ends(self, group: str, channel: str) -> None:
        self.a_channel_joins(group, channel, 5.0)
        self.time_passes(10.0)

    @rule()
    def the_loop_turns(self) -> None:
        self.turn()

    @rule(seconds=st.sampled_from([0.001, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.turn()
        self.now += seconds

    @rule()
    def it_is_swept(self) -> None:
        self.turn()
        self.box.sweep()
        for group in GROUPS:
            self.ends[group] = {channel: end for channel, end in self.ends[group].items() if end > self.now}
        for channel in self.unread:
            expired = self.drop_expired(channel)
            if expired and not self.receivers(channel) and self.now - self.used.get(channel, self.now) > IDLE:
                for group in GROUPS:
                    self.ends[group].pop(channel, None)
        self.forget_closed()

    @rule()
    def it_is_flushed(self) -> None:
        self.turn()
        self.box.clear()
        for unread in self.unread.values():
            unread.clear()
        for ends in self.ends.values():
            ends.clear()
        self.forget_closed()

    def forget_closed(self) -> None:
        self.used = {channel: last for channel, last in self.used.items() if self.box.knows(channel)}

    # -- what has to hold

    @invariant()
    def what_was_received_was_next(self) -> None:
        for channel, numbers in self.got.items():
            unread = self.unread[channel]
            for number in numbers:
                while unread[0][1] != number:  # only what has expired is passed over
                    assert unread.popleft()[0] <= self.now
                assert unread.popleft()[0] > self.now
            numbers.clear()

    @invariant()
    def memberships_agree(self) -> None:
        mine = {group: max(ends.values()) for group, ends in self.ends.items() if ends}
        theirs = self.box.memberships()
        for group in GROUPS:  # what has ended may be forgotten, or not yet
            alive = {channel: end for channel, end in self.ends[group].items() if end > self.now}
            if alive:
                assert theirs[group] == mine[group] == max(alive.values())
            else:
                assert theirs.get(group, 0.0) <= self.now

    def receivers(self, channel: str) -> int:
        return sum(1 for task, name in self.tasks.items() if name == channel and not task.done())

    def drop_expired(self, channel: str) -> bool:
        unread = self.unread[channel]
        before = len(unread)
        while unread and unread[0][0] <= self.now:
            unread.popleft()
        return len(unread) < before

    def turn(self) -> None:
        """Let everything run that can; then nobody waits for what is there, and nothing was lost or told twice."""
        for _ in range(4 * len(self.tasks) + 4):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        self.what_was_received_was_next()
        for channel, unread in self.unread.items():
            assert not (self.receivers(channel) and any(deadline > self.now for deadline, _ in unread)), channel
        assert len(self.told) == len(set(self.told))
        held = {number for unread in self.unread.values() for deadline, number in unread if deadline > self.now}
        assert not held & set(self.told)
        assert len(held & self.direct) + len(self.told) <= len(self.direct)
        self.tasks = {task: channel for task, channel in self.tasks.items() if not task.done()}

    async def receive(self, channel: str) -> None:
        waited = False
        while True:
            self.used[channel] = self.now
            got = self.box.ask(channel, waited)
            if got is None:
                self.box.open(channel)
            elif isinstance(got, (bytes, Shared)):
                body = got if isinstance(got, bytes) else got.body
                self.got.setdefault(channel, []).append(int(body))
                return
            else:
                try:
                    await got
                except BaseException:
                    self.used[channel] = self.now
                    self.box.withdraw(channel, got)
                    raise
                waited = True


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
