"""Receivers that wait for what any process may receive, or for any own channel of a head; by name."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from trunkline.mailbox import Waiter, wake_one


class Waiting:
    """Who waits for what: names without an owner, and heads of own ones (``"prefix!"``). Not thread-safe."""

    def __init__(self) -> None:
        self._waiters: dict[str, deque[Waiter]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._waiters

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._waiters))

    def add(self, name: str, waiter: Waiter, *, first: bool = False) -> None:
        """Let ``waiter`` wait for ``name``; ``first`` keeps the place of one that was woken for nothing."""
        queue = self._waiters.get(name)
        if queue is None:
            self._waiters[name] = deque((waiter,))
        elif first:
            queue.appendleft(waiter)
        else:
            queue.append(waiter)

    def wake(self, name: str) -> bool:
        """Wake the first that waits for ``name``; returns whether there was one."""
        queue = self._waiters.get(name)
        if queue is None:
            return False
        woken = wake_one(queue)
        if not queue:
            del self._waiters[name]
        return woken

    def wake_all(self) -> None:
        """Wake the first that waits for each name; each goes on to wake the next if there is more."""
        for name in self:
            self.wake(name)

    def withdraw(self, name: str, waiter: Waiter) -> bool:
        """A receiver gave up; returns whether it had not been woken yet."""
        queue = self._waiters.get(name)
        if queue is None or waiter not in queue:
            return False
        queue.remove(waiter)
        if not queue:
            del self._waiters[name]
        return True

    def loops(self, name: str) -> set[asyncio.AbstractEventLoop]:
        """The event loops in which somebody waits for ``name``."""
        queue = self._waiters.get(name)
        return {waiter.get_loop() for waiter in queue if not waiter.done()} if queue else set()


def wake_here(waiter: Waiter) -> None:
    """Wake one receiver, in its own loop."""
    if not waiter.done():
        waiter.set_result(None)
