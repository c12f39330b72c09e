"""Programs of sends, receives, joins and flushes, made up by hypothesis, against a model: our layers do what it says.

A failure prints the program. Where the environment says ``CI=true`` the programs are always the same.
"""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.model import Channel, Model
from support.servers import RedisServer
from trunkline import ChannelFull, IPCChannelLayer, RedisChannelLayer
from trunkline.base import ChannelLayer
from trunkline.conformance.waiting import within
from trunkline.redis import liveness

T = TypeVar("T")

CAPACITY = 4
PATIENCE_S = 10.0  # a message that comes at all has come by then, also on a busy machine
QUIET_S = 0.05
MOST_CHANNELS = 9
LAYERS = ("A", "B")  # two layer objects, so two processes as far as they know
READERS = {"alpha": "A", "beta": "B", "gamma": "AB"}  # normal channels; the order holds where one layer reads

programs = settings(
    deadline=None,
    stateful_step_count=50,
    derandomize=os.environ.get("CI", "").lower() == "true",
    database=None,
    # A program that fails mostly waits for something that does not come: shrinking it would take for ever.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

layers = st.sampled_from(LAYERS)
readers = st.integers(0, 1)
picks = st.integers(0, 255)
few = st.lists(picks, min_size=1, max_size=3)
groups = st.sampled_from(["room", "hall"])
moments = st.sampled_from([0, 0.0002, 0.0005, 0.002, 0.006])  # seconds until a receive is cancelled


failed: list[list[str]] = []  # the programs that failed; hypothesis shows none that passes when it is run again

Step = TypeVar("Step", bound=Callable[..., None])


def told(step: Step) -> Step:
    """A step of a program, which is kept if the step fails."""

    @functools.wraps(step)
    def run(self: Programs, **arguments: Any) -> None:
        self.program.append(f"{step.__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})")
        try:
            step(self, **arguments)
        except BaseException:
            failed.append(self.program)
            raise

    return run  # type: ignore[return-value]


class Programs(RuleBasedStateMachine):
    """One program. Every step awaits what it starts, but for receives that wait."""

    def __init__(self, make: Callable[[], ChannelLayer]) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = Model(CAPACITY)
        self.owners = dict(READERS)
        self.waiting: dict[str, list[asyncio.Task[Any]]] = defaultdict(list)
        self.flushes = 0
        self.program: list[str] = []
        self.layers: dict[str, ChannelLayer] = {}
        for name in LAYERS:
            self.layers[name] = make()
        for channel, readers in READERS.items():
            self._add(channel, readers)

    def _add(self, channel: str, readers: str) -> None:
        self.owners[channel] = readers
        self.model.channels[channel] = Channel(ordered=len(readers) == 1)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result = self.loop.run_until_complete(coroutine)
        for channel, tasks in self.waiting.items():
            for task in [task for task in tasks if task.done()]:  # it failed, or an optional message came
                tasks.remove(task)
                self._take(channel, task.result())
        return result

    def _pick(self, pick: int, names: Iterable[str]) -> str:
        """One of ``names``, or of all channels where there are none. What is drawn must not depend on timing."""
        chosen = sorted(names) or sorted(self.model.channels)
        self.program.append(f"    # {chosen[pick % len(chosen)]}")
        return chosen[pick % len(chosen)]

    def _held(self) -> list[str]:
        return [name for name, held in self.model.channels.items() if held.count(certain=True)]

    # -- names

    @initialize()
    @told
    def begin(self) -> None:
        for layer in LAYERS:
            for _ in range(2):
                self._add(self.run(self.layers[layer].new_channel(layer)), layer)
            self._join(layer, "room", [0, 1, 2, 3, 4])
            self._join(layer, "hall", [0, 2, 5])

    @precondition(lambda self: len(self.model.channels) < MOST_CHANNELS)
    @rule(layer=layers)
    @told
    def new_channel(self, layer: str) -> None:
        self._add(self.run(self.layers[layer].new_channel(layer)), layer)

    # -- sending

    @rule(layer=layers, pick=picks, count=st.sampled_from([1, 1, 2, CAPACITY + 1]))
    @told
    def send(self, layer: str, pick: int, count: int) -> None:
        channel = self._pick(pick, [])
        for _ in range(count):
            self.run(self._send(layer, channel))

    async def _send(self, layer: str, channel: str) -> None:
        number, must, may = self.model.next(), self.model.must_refuse(channel), self.model.may_refuse(channel)
        end = self.loop.time() + PATIENCE_S
        while True:
            try:
                await within(self.layers[layer].send(channel, {"path": [layer, ""], "number": number}), PATIENCE_S)
            except ChannelFull:
                if may:
                    return
                # What was received a moment ago need not be counted down yet.
                assert self.loop.time() < end, f"{channel} is called full with {self.model.channels[channel].unread}"
                await asyncio.sleep(0.005)
            else:
                assert not must, f"{channel} took more than its capacity"
                break
        self.model.send(channel, layer, number)
        await self._settle(channel)

    @rule(layer=layers, pick=picks, count=st.sampled_from([1, 1, 2, CAPACITY + 1]))
    @told
    def group_send(self, layer: str, pick: int, count: int) -> None:
        joined = sorted(group for group, members in self.model.groups.items() if members) or ["nobody"]
        for _ in range(count):
            self.run(self._group_send(layer, joined[pick % len(joined)]))

    async def _group_send(self, layer: str, group: str) -> None:
        number = self.model.next()
        await within(self.layers[layer].group_send(group, {"path": [layer, group], "number": number}), PATIENCE_S)
        self.model.group_send(group, layer, number)
        for channel in self.model.groups[group]:
            await self._settle(channel)

    async def _settle(self, channel: str) -> None:
        """Who waits gets what comes."""
        tasks = self.waiting[channel]
        while tasks and self.model.channels[channel].count(certain=True):
            done, _ = await asyncio.wait(tasks, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            assert done, f"nobody of {len(tasks)} who wait got {self.model.channels[channel].unread} of {channel}"
            for task in done:
                tasks.remove(task)
                self._take(channel, task.result())

    # -- memberships

    @rule(layer=layers, group=groups, some=few)
    @told
    def group_add(self, layer: str, group: str, some: list[int]) -> None:
        self._join(layer, group, some)

    def _join(self, layer: str, group: str, some: list[int]) -> None:
        for pick in some:
            channel = self._pick(pick, [])
            self.run(within(self.layers[layer].group_add(group, channel), PATIENCE_S))
            self.model.groups[group].add(channel)

    @rule(layer=layers, group=groups, pick=picks)
    @told
    def group_discard(self, layer: str, group: str, pick: int) -> None:
        channel = self._pick(pick, self.model.groups[group])
        self.run(within(self.layers[layer].group_discard(group, channel), PATIENCE_S))
        self.model.groups[group].discard(channel)

    # -- receiving

    def _take(self, channel: str, message: dict[str, Any]) -> None:
        sender, group = message["path"]
        self.model.channels[channel].take((sender, group), message["number"])

    def _reader(self, channel: str, number: int = 0) -> ChannelLayer:
        owners = self.owners[channel]
        return self.layers[owners[number % len(owners)]]

    @rule(pick=picks, reader=readers, count=st.integers(1, CAPACITY))
    @told
    def receive(self, pick: int, reader: int, count: int) -> None:
        channel = self._pick(pick, self._held())
        for _ in range(min(count, self.model.channels[channel].count(certain=True))):
            self._take(channel, self.run(within(self._reader(channel, reader).receive(channel), PATIENCE_S)))

    @rule(pick=picks, reader=readers)
    @told
    def receive_nothing(self, pick: int, reader: int) -> None:
        """What was sent before and is not in the model must not come."""
        channel = self._pick(pick, set(self.model.channels) - set(self._held()))
        if not self.model.channels[channel].count() and not self.waiting[channel]:
            self.run(self._cancelled_receive(channel, reader, 0.01))

    @rule(layer=layers)
    @told
    def receive_by_the_prefix(self, layer: str) -> None:
        own = [name for name, readers in self.owners.items() if readers == layer and "!" in name]
        if not any(self.model.channels[name].count(certain=True) for name in own):
            return
        receiving = self.layers[layer].receive_named(own[0].partition("!")[0] + "!")
        channel, message = self.run(within(receiving, PATIENCE_S))
        assert channel in own
        self._take(channel, message)

    @rule(pick=picks, reader=readers, after_s=moments, count=st.integers(1, 3))
    @told
    def receive_and_cancel(self, pick: int, reader: int, after_s: float, count: int) -> None:
        channel = self._pick(pick, self._held())
        for _ in range(count):
            if not self.waiting[channel]:
                self.run(self._cancelled_receive(channel, reader, after_s))

    async def _cancelled_receive(self, channel: str, reader: int, after_s: float) -> None:
        task = asyncio.ensure_future(self._reader(channel, reader).receive(channel))
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE_S)
        if not task.cancelled():
            self._take(channel, task.result())
        elif self.model.channels[channel].count() and "!" not in channel:
            self.model.channels[channel].disturbed = True

    @rule(pick=picks, reader=readers)
    @told
    def wait_for_a_message(self, pick: int, reader: int) -> None:
        channel = self._pick(pick, set(self.model.channels) - set(self._held()))
        if self.model.channels[channel].count() or len(self.waiting[channel]) >= 3:
            return
        self.waiting[channel].append(self.loop.create_task(self._reader(channel, reader).receive(channel)))
        self.run(asyncio.sleep(0.001))

    @rule(pick=picks)
    @told
    def give_up_waiting(self, pick: int) -> None:
        waiting = sorted(name for name, tasks in self.waiting.items() if tasks)
        if waiting:
            channel = self._pick(pick, waiting)
            tasks = self.waiting[channel]
            self.run(self._give_up(channel, tasks.pop(pick % len(tasks))))

    async def _give_up(self, channel: str, task: asyncio.Task[Any]) -> None:
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE_S)
        if not task.cancelled():
            self._take(channel, task.result())  # an optional message

    # -- all at once

    @precondition(lambda self: self.flushes < 2)
    @rule(layer=layers, group=groups, some=few)
    @told
    def flush(self, layer: str, group: str, some: list[int]) -> None:
        """Nothing is left, and groups can be joined and used again."""
        self.flushes += 1
        self.run(within(self.layers[layer].flush(), PATIENCE_S))
        self.model.flush()
        self._join(layer, group, some)
        self.run(self._group_send(layer, group))

    @told
    def teardown(self) -> None:
        try:
            self.run(self._drain())
        finally:
            for layer in self.layers.values():
                self.run(within(layer.close(), PATIENCE_S, "the end of close()"))
            self.loop.close()

    async def _drain(self) -> None:
        """What must come comes, and then nothing more."""
        for channel, tasks in self.waiting.items():
            while tasks:
                await self._give_up(channel, tasks.pop())
        for channel, held in self.model.channels.items():
            while held.count(certain=True):
                self._take(channel, await within(self._reader(channel).receive(channel), PATIENCE_S))
        silent = {asyncio.ensure_future(self._reader(name).receive(name)): name for name in self.model.channels}
        while silent:
            done, _ = await asyncio.wait(silent, timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                self._take(silent.pop(task), task.result())
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)


def run_programs(machine: Callable[[], Programs], count: int) -> None:
    failed.clear()
    try:
        # Any function that makes a machine will do, says its docstring.
        run_state_machine_as_test(machine, settings=settings(programs, max_examples=count))  # type: ignore[arg-type]
    finally:
        if failed:
            print("The first program that failed:", *failed[0], sep="\n  ")


@pytest.mark.redis
@pytest.mark.slow
def test_programs_on_the_redis_layer(shared_redis: list[RedisServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT_EVERY", 0.05)  # a flush returns when the others have noticed it

    def machine() -> Programs:
        options = {"hosts": [shared_redis[0].url], "prefix": uuid.uuid4().hex, "capacity": CAPACITY}
        return Programs(functools.partial(RedisChannelLayer, **options))

    run_programs(machine, 50)


@pytest.mark.slow
def test_programs_on_the_machine_local_layer() -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="trunkline-test-", dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True
    ) as directory:

        def machine() -> Programs:
            options = {"directory": f"{directory}/layer", "prefix": f"t{uuid.uuid4().hex[:8]}", "capacity": CAPACITY}
            return Programs(functools.partial(IPCChannelLayer, **options))

        run_programs(machine, 70)
