"""`manage.py runworker --delivery at-least-once`: what fails, dies or is cut off is done again, and counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.runworker import START_DEADLINE_S, WorkerProcess
from support.servers import RedisServer
from trunkline import RedisChannelLayer
from trunkline.layers.deliveries import DeadLetter

pytestmark = pytest.mark.redis

AT_LEAST_ONCE = ("--delivery", "at-least-once")
GIVEN_AGAIN_S = 60.0  # what a dead worker had, on a busy machine

StartWorker = Callable[..., WorkerProcess]


def dead_letters(config: dict[str, Any]) -> list[DeadLetter]:
    async def read() -> list[DeadLetter]:
        layer = RedisChannelLayer(**config)
        try:
            return await layer.dead_letters()
        finally:
            await layer.close()

    return asyncio.run(read())


def test_a_message_whose_handler_failed_is_handled_again_and_one_without_a_type_is_a_dead_letter(
    worker: StartWorker,
) -> None:
    process = worker("careful", TRUNKLINE_WORKER_DELIVERY="at-least-once").ready()
    assert "listens on careful, at least once." in process.output
    process.send("careful", payload="without a type")
    process.send("careful", type="job", n=1, failures=2)
    process.send("careful", type="job", n=2)
    process.until(lambda: "ended 1 3" in process.notes, "third delivery")
    assert process.notes == ["begun 1 1", "begun 2 1", "ended 2 1", "begun 1 2", "begun 1 3", "ended 1 3"]
    assert process.output.count("Traceback") == 2
    [letter] = dead_letters(process.config)
    assert (letter.message, letter.reason) == ({"payload": "without a type"}, "it has no type")
    assert process.stop()[0] == 0


def test_a_handler_that_was_cut_off_at_the_stop_is_done_again_by_the_next_worker(worker: StartWorker) -> None:
    first = worker("careful", *AT_LEAST_ONCE, TRUNKLINE_DRAIN_TIMEOUT="0.3").ready()
    first.send("careful", type="job", n=1, seconds=3)
    first.send("careful", type="job", n=2)
    first.until(lambda: "begun 1 1" in first.notes, "begun job")
    assert first.stop()[0] == 1
    assert first.notes == ["begun 1 1"]
    second = worker("careful", *AT_LEAST_ONCE).ready()
    second.until(lambda: {"ended 1 2", "ended 2 1"} <= {*second.notes}, "second delivery")
    assert second.stop()[0] == 0
    assert sorted(second.notes) == ["begun 1 2", "begun 2 1", "ended 1 2", "ended 2 1"]


def test_a_stop_lets_the_running_handler_finish_and_nothing_is_repeated(
    worker: StartWorker, shared_redis: list[RedisServer]
) -> None:
    first = worker("careful", *AT_LEAST_ONCE).ready()
    first.send("careful", type="job", n=1, seconds=1)
    first.until(lambda: "begun 1 1" in first.notes, "begun job")
    assert first.stop()[0] == 0
    assert first.notes == ["begun 1 1", "ended 1 1"]
    with shared_redis[0].client() as client:
        assert not any(client.xlen(key) for key in client.scan_iter(f"tl1:{first.config['prefix']}:*:held:*", 1000))
    second = worker("careful", *AT_LEAST_ONCE).ready()
    second.send("careful", type="job", n=2)
    second.until(lambda: "ended 2 1" in second.notes, "next job")
    assert second.notes == ["begun 2 1", "ended 2 1"]


def stop_in_a_handler(victim: WorkerProcess) -> None:
    """SIGSTOP at a moment when a handler has begun and not ended."""
    end = time.monotonic() + GIVEN_AGAIN_S
    while True:
        victim.process.send_signal(signal.SIGSTOP)
        os.waitpid(victim.process.pid, os.WUNTRACED)
        if victim.notes and victim.notes[-1].startswith("begun"):
            return
        assert time.monotonic() < end, "its handlers are never stopped in the middle"
        victim.process.send_signal(signal.SIGCONT)
        time.sleep(0.003)


@pytest.mark.slow
def test_workers_killed_at_random_lose_nothing_and_every_repeat_is_counted(worker: StartWorker) -> None:
    messages, kills, in_handlers, chance = 1000, 6, 3, random.Random(3)
    workers = [worker("careful", *AT_LEAST_ONCE) for _ in range(3)]
    gone: list[WorkerProcess] = []

    async def send() -> None:
        layer = RedisChannelLayer(**workers[0].config, capacity=messages, expiry=600)
        try:
            await asyncio.gather(
                *(layer.send("careful", {"type": "job", "n": n, "seconds": 0.01}) for n in range(messages))
            )
        finally:
            await layer.close()

    def ended() -> int:
        return sum(note.startswith("ended") for each in (*workers, *gone) for note in each.notes)

    def until_ended(count: int) -> None:
        end = time.monotonic() + GIVEN_AGAIN_S
        while ended() < count:
            assert time.monotonic() < end, f"{ended()} of {count} messages handled; {workers[0].output[-3000:]}"
            time.sleep(0.02)

    for each in workers:
        each.ready()
    asyncio.run(send())
    for kill in range(kills):
        until_ended((kill + 1) * messages // (kills + 2))
        victim = chance.choice([each for each in workers if each.notes])  # not one that is just starting
        workers.remove(victim)
        if kill < in_handlers:
            stop_in_a_handler(victim)
        victim.kill()
        gone.append(victim)
        workers.append(worker("careful", *AT_LEAST_ONCE))
    until_ended(messages)
    assert all(each.ready().stop()[0] == 0 for each in workers)

    begun: dict[int, list[int]] = defaultdict(list)
    handled: dict[int, list[int]] = defaultdict(list)
    for each in (*gone, *workers):
        for word, n, deliveries in (note.split() for note in each.notes):
            (begun if word == "begun" else handled)[int(n)].append(int(deliveries))
    lost = set(range(messages)) - handled.keys()
    assert not lost, f"{len(lost)} of {messages} messages were lost"
    repeated = {n: sorted(counts) for n, counts in begun.items() if len(counts) > 1}
    assert len(repeated) >= in_handlers
    # A killed worker had one message at most; nothing else may come again, and nobody counts a delivery twice.
    assert sum(len(counts) - 1 for counts in repeated.values()) <= kills
    assert all(len(set(counts)) == len(counts) and counts[0] == 1 for counts in repeated.values()), repeated
    unseen = sum(max(counts) - len(counts) for counts in begun.values())  # taken, and killed before it began
    assert unseen + sum(len(counts) - 1 for counts in repeated.values()) <= kills
    assert dead_letters(workers[0].config) == []
    print(f"{messages} messages, {kills} workers killed, 0 lost, {len(repeated)} repeated: {repeated}")


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        (["careful"], {"TRUNKLINE_WORKER_DELIVERY": "twice"}, "TRUNKLINE_WORKER_DELIVERY is 'twice'; it takes at-most"),
        (
            [*AT_LEAST_ONCE, "careful"],
            {"CHANNEL_LAYERS_BACKEND": "trunkline.IPCChannelLayer", "CHANNEL_LAYERS_CONFIG": "{}"},
            "needs a channel layer that keeps messages until they are done, as trunkline.RedisChannelLayer does; "
            "trunkline.layers.ipc.IPCChannelLayer does not.",
        ),
    ],
)
def test_a_wrong_call_is_one_sentence(
    worker: StartWorker, tmp_path: Path, arguments: list[str], environ: dict[str, str], sentence: str
) -> None:
    process = worker(*arguments, **environ, TRUNKLINE_IPC_DIR=str(tmp_path / "ipc"))
    assert process.process.wait(START_DEADLINE_S) == 1
    assert process.output.startswith("CommandError: ")
    assert sentence in process.output
    assert process.output.count("\n") == 1
