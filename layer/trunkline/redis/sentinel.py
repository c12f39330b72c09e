"""Primaries behind Sentinels: asking for their addresses, making sure of them in doubt, and noticing that they moved.

Of several answers the one with the highest configuration epoch counts, so a Sentinel that lags behind misleads nobody.
When the address changes, all connections to another one are broken at once: an old primary that still lives, or wakes
up again, must not go on acknowledging what will be lost with it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from trunkline.config import Endpoint, SentinelService
from trunkline.redis.connections import Wire
from trunkline.redis.endpoints import Fixed, Follower, Target
from trunkline.redis.replies import Arg, ServerAway

ASK_WITHIN = 3.0  # seconds for the first Sentinel's answer, connecting included
STRAGGLERS = 0.3  # seconds that the others have from then on
ASK_EVERY = 0.2  # seconds between two questions for one service; in an outage every connection asks
CERTAIN_WITHIN = 3.0  # seconds to wait for the end of a failover before what was asked counts as unanswered
LOOK_AGAIN = 0.05  # seconds between two looks at a failover under way


class Answer(NamedTuple):
    """What the Sentinels say of a service.

    :ivar epoch: of the configuration; a later one replaces an earlier one.
    :ivar moving: whether a failover is under way.
    """

    host: str
    port: int
    epoch: int
    moving: bool


async def ask(sentinels: Iterable[Endpoint], command: Sequence[Arg]) -> list[Any]:
    """Ask all Sentinels side by side; returns the replies of those that answered in time, error replies included.

    :raises ServerAway: if none did.
    """
    asking = [asyncio.ensure_future(_ask_one(sentinel, command)) for sentinel in sentinels]
    until, answered = time.monotonic() + ASK_WITHIN, False
    pending = set(asking)
    try:
        while pending and (rest := until - time.monotonic()) > 0:
            done, pending = await asyncio.wait(pending, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
            if not answered and any(task.exception() is None for task in done):
                answered = True
                until = min(until, time.monotonic() + STRAGGLERS)
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
    replies, problems = [], []
    for task in asking:
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            problems.append(f"no answer within {ASK_WITHIN:g} s")
        elif error is None:
            replies.append(task.result())
        elif isinstance(error, ServerAway):
            problems.append(str(error))
        else:
            raise error
    if not replies:
        raise ServerAway(f"no Sentinel answered ({'; '.join(dict.fromkeys(problems))})")
    return replies


async def _ask_one(sentinel: Endpoint, command: Sequence[Arg]) -> Any:
    wire = Wire(Fixed(sentinel))
    try:
        await wire.connect()
        (reply,) = await wire.call([command], ASK_WITHIN)
        return reply
    finally:
        await wire.close()


async def service_names(sentinels: Iterable[Endpoint]) -> tuple[str, ...]:
    """The names of all services that any of the Sentinels knows, sorted: the same list in every process.

    :raises ServerAway: if no Sentinel answers, or none knows a service.
    """
    replies = await ask(sentinels, [b"SENTINEL", b"MASTERS"])
    names = {_table(master)["name"] for reply in replies if isinstance(reply, list) for master in reply}
    if not names:
        problem = next((str(reply) for reply in replies if isinstance(reply, Exception)), "they look after none")
        raise ServerAway(f"the Sentinels named no service ({problem})")
    return tuple(sorted(names))


def _table(flat: list[bytes]) -> dict[str, str]:
    texts = [text.decode(errors="replace") for text in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


@dataclass(eq=False)
class _Question:
    """A question under way in some event loop, for whoever needs its answer.

    :ivar began: monotonic seconds.
    """

    began: float
    answer: concurrent.futures.Future[Answer | ServerAway] = field(default_factory=concurrent.futures.Future)


class Primary:
    """The primary of one service, as a target of connections."""

    guarded = True

    def __init__(self, service: SentinelService) -> None:
        self.service = service
        self.label = service.label
        self._lock = threading.Lock()
        self._known: Endpoint | None = None  # for new connections, until ``_until``
        self._until = 0.0
        self._last: Endpoint | None = None  # what was known last, also when it has to be asked for anew
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._question: _Question | None = None
        self._answered = 0.0
        self._doubted = 0.0
        self._cleared = 0.0

    def __repr__(self) -> str:
        return f"<Primary {self.label} at {self._last and self._last.label}>"

    async def find(self, follower: Follower) -> Endpoint:
        with self._lock:
            self._followers.add(follower)
            if self._known is not None and time.monotonic() < self._until:
                return self._known
        try:
            endpoint = self._adopt(await self._ask(0.0))
        except ServerAway:
            if self._last is None:
                raise
            return self._last  # without Sentinels the last one is the best guess, and its role is asked for
        with self._lock:
            return self._known or endpoint

    def failed(self, endpoint: Endpoint) -> None:
        with self._lock:
            if self._known == endpoint:
                self._known = None

    def suspect(self) -> None:
        self._doubted = time.monotonic()

    def doubtful(self, endpoint: Endpoint) -> bool:
        return self._doubted > self._cleared or (endpoint is not self._last and endpoint != self._last)

    async def make_certain(self, endpoint: Endpoint) -> None:
        until = time.monotonic() + CERTAIN_WITHIN
        while True:
            since = time.monotonic()
            try:
                answer = await self._ask(since)
            except ServerAway:
                self._cleared = max(self._cleared, since)
                return  # nobody can tell, and without Sentinels nobody promotes another one
            if not answer.moving:
                if self._adopt(answer) != endpoint:
                    raise self._replaced(endpoint)
                self._cleared = max(self._cleared, since)
                return
            if time.monotonic() > until:
                raise ServerAway(f"{self.label}: a failover is under way")
            await asyncio.sleep(LOOK_AGAIN)

    def _replaced(self, endpoint: Endpoint) -> ServerAway:
        return ServerAway(f"{self.label}: another server has taken the place of {endpoint.label}")

    def switched(self, host: str, port: int) -> None:
        """A Sentinel announced another address."""
        self._adopt(Answer(host, port, 0, False))

    async def refresh(self) -> None:
        """Ask, and follow the answer; nothing changes where nobody answers."""
        try:
            self._adopt(await self._ask(0.0))
        except ServerAway:
            pass

    def _adopt(self, answer: Answer) -> Endpoint:
        endpoint = replace(self.service.primary, host=answer.host, port=answer.port)
        with self._lock:
            moved = self._last is not None and self._last != endpoint
            if self._last is None or moved:
                self._last = endpoint
            self._known = self._last
            self._until = time.monotonic() + self.service.refresh_interval
            followers = list(self._followers) if moved else []
        for follower in followers:
            follower.leave(endpoint)
        return endpoint

    async def _ask(self, since: float) -> Answer:
        """The answer to a question that was put after ``since``; those who ask at the same time share one.

        :raises ServerAway: if no Sentinel answers, or none knows the service.
        """
        while True:
            with self._lock:
                question = self._question
                mine = question is None
                if question is None:
                    question = self._question = _Question(time.monotonic())
            answer = await (self._put(question) if mine else self._wait(question))
            if answer is not None and question.began >= since:
                if isinstance(answer, ServerAway):
                    raise answer
                return answer

    async def _put(self, question: _Question) -> Answer | ServerAway:
        answer: Answer | ServerAway = ServerAway("nobody asked to the end")
        try:
            await asyncio.sleep(max(0.0, self._answered + ASK_EVERY - time.monotonic()))
            question.began = time.monotonic()
            answer = await self._inquire()
        except ServerAway as error:
            answer = ServerAway(f"{self.label}: {error}")
        finally:
            with self._lock:
                self._answered = time.monotonic()
                if self._question is question:
                    self._question = None
            question.answer.set_result(answer)
        return answer

    async def _wait(self, question: _Question) -> Answer | ServerAway | None:
        """Wait for another's question; ``None`` where it is better to ask oneself."""
        waiting = asyncio.wrap_future(question.answer)
        try:
            await asyncio.wait({waiting}, timeout=ASK_WITHIN + ASK_EVERY + STRAGGLERS)
        finally:
            waiting.cancel()
        if question.answer.done():
            return question.answer.result()
        with self._lock:  # its event loop was closed, or stands still
            if self._question is question:
                self._question = None
        return None

    async def _inquire(self) -> Answer:
        replies = await ask(self.service.sentinels, [b"SENTINEL", b"MASTER", self.service.name])
        tables = [_table(reply) for reply in replies if isinstance(reply, list)]
        if not tables:
            raise ServerAway(f"the Sentinels don't know the service {self.service.name!r} ({replies[0]})")
        newest = max(tables, key=lambda table: int(table.get("config-epoch", 0)))
        moving = any("failover_in_progress" in table.get("flags", "").split(",") for table in tables)
        return Answer(newest["ip"], int(newest["port"]), int(newest.get("config-epoch", 0)), moving)


def target_of(host: Endpoint | SentinelService) -> Target:
    """How connections find a host of the configuration."""
    return Primary(host) if isinstance(host, SentinelService) else Fixed(host)
