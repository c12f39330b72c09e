"""What an event loop can't finish itself goes back to the servers by another one: messages, takes, bells."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from functools import partial
from typing import Protocol

from trunkline.redis.connections import Wire
from trunkline.redis.engine import Engine, Work
from trunkline.redis.process import Process, Server
from trunkline.redis.queue import Take, Taken, ask_take
from trunkline.redis.reliable import give_back_unseen
from trunkline.redis.replies import NotNow, ServerAway

TAKE_KEPT = 600.0  # seconds for which a server keeps what a take gave; TAKEN_LIFE in the scripts


class Background(Protocol):
    """Does work in an event loop that lives as long as it takes."""

    def __call__(self, work: Work, *, late: bool = False) -> concurrent.futures.Future[None]: ...


class HandBack:
    """See the module. Callable from any thread.

    :param background: does what has to be done.
    """

    def __init__(self, process: Process, background: Background) -> None:
        self.process = process
        self.background = background

    def give_back(self, channel: str, taken: list[Taken]) -> list[tuple[int, concurrent.futures.Future[None]]]:
        """Put messages back to the front of their queues, in order; a future for each server, by position."""
        if any(item.ticket for item in taken):
            return give_back_unseen(self.background, taken)
        places: dict[tuple[int, int], list[Taken]] = {}
        for item in taken:
            places.setdefault((item.server.position, item.shard), []).append(item)
        return [
            (position, self.background(partial(_put_front, shard=shard, channel=channel, items=items), late=True))
            for (position, shard), items in places.items()
        ]

    def finish_take(self, take: Take) -> None:
        """Ask again for a take whose reply a closing loop did not see, and put the messages back.

        It goes on for as long as the server is away, and then for as long as the server may know the answer.
        """

        async def finish(engine: Engine) -> None:
            wire = Wire(take.server.target)
            until, pause = None, 0.05
            try:
                while until is None or time.monotonic() < until:
                    try:
                        _, taken = await ask_take(self.process, wire, take)
                    except (ServerAway, NotNow) as error:
                        if isinstance(error, ServerAway):
                            until = None
                        elif until is None:
                            until = time.monotonic() + TAKE_KEPT
                        await asyncio.sleep(pause)
                        pause = min(pause * 2, 1.0)
                        continue
                    if taken:
                        self.give_back(take.channel, taken)
                    return
            finally:
                await wire.close()

        self.background(finish, late=True)

    def ring(self, server: Server, shard: int, channel: str) -> None:
        """Ring a bell again that was heard in vain."""
        self.background(lambda engine: _ring(engine, shard, channel), late=True)


async def _put_front(engine: Engine, shard: int, channel: str, items: list[Taken]) -> None:
    head = (channel, int(engine.process.common.expiry * 1000), 0, "front")
    # The last one given is the first to be taken, also where several give-backs travel in one call.
    pushes = [
        engine.call("push", shard, "q", channel, head, (item.data,), size=len(item.data), held=True)
        for item in reversed(items)
    ]
    await asyncio.gather(*pushes)


async def _ring(engine: Engine, shard: int, channel: str) -> None:
    await engine.call("ring", shard, "q", channel, (channel,), held=True)
