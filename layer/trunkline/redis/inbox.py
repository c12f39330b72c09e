"""Reading this process' inbox on one server: one blocked XREAD over all of the server's virtual shards.

The stream keeps an entry until it is acknowledged (XDEL), and the position is moved in the same step in which the
entries are handed to the mailbox: a reply that is cut off is simply read again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from trunkline.codec import CONTROL, DIRECT, Record, Unreadable
from trunkline.errors import ConfigurationError
from trunkline.redis.connections import Wire, pack_arguments
from trunkline.redis.greeting import greet, mark_away
from trunkline.redis.process import Process, Server, new_token
from trunkline.redis.replies import Arg, NotNow, ServerAway, Unfit

BLOCK_MS = 20_000  # a blocked read is bounded, so that a half-open connection is noticed
PATIENCE = BLOCK_MS / 1000 + 3.0  # seconds
LEAST_PAUSE = 0.02  # seconds before the first new attempt in an outage
MOST_ENTRIES = 500  # of each virtual shard in one reply


class InboxReader:
    """Reads until it is cancelled, through outages.

    :param current: whether this reader still is the one that may hand out (another event loop may have taken over).
    :param control: called with each control record.
    """

    def __init__(
        self, process: Process, server: Server, current: Callable[[], bool], control: Callable[[Record], None]
    ) -> None:
        self.process = process
        self.server = server
        self._current = current
        self._control = control
        self.wire = Wire(server.target)
        self._shards = process.ring.owned[server.position]
        self._keys = [process.keys.key(shard, "in", process.id) for shard in self._shards]
        self._ended: asyncio.Future[None] | None = None
        self._asking = False
        self._pause = LEAST_PAUSE
        words: list[Arg] = [b"XREAD", b"COUNT", MOST_ENTRIES, b"BLOCK", BLOCK_MS, b"STREAMS", *self._keys]
        self._command = b"*%d\r\n" % (len(words) + len(self._keys)) + pack_arguments(words)
        self._by_key = {key.encode(): shard for key, shard in zip(self._keys, self._shards, strict=True)}

    async def run(self) -> None:
        """Read for ever; see the class."""
        try:
            while self._current():
                try:
                    if not self.wire.connected:
                        await greet(self.process, self.server, self.wire)
                    await self._read()
                except (ServerAway, NotNow) as error:
                    mark_away(self.server, str(error))
                    if isinstance(error, Unfit):
                        self.process.mailbox.fail(partial(ConfigurationError, str(error)))
                    await self.wire.close()  # a replica would let us read on, where nobody writes any more
                    await asyncio.sleep(self._pause)
                    self._pause = min(self._pause * 2, 0.5)
        finally:
            await self.wire.close()

    async def _read(self) -> None:
        """Read until something is wrong or another reader took over; the replies are handed out where they arrive."""
        self._ended = asyncio.get_running_loop().create_future()
        self._asking = False
        try:
            self._ask()
            await self._ended
        finally:
            self._ended = None

    def _ask(self) -> None:
        ended = self._ended
        if ended is None or ended.done() or self._asking:
            return
        self._asking = True
        last = [self.process.inboxes[shard].last for shard in self._shards]
        try:
            self.wire.start(self._command + pack_arguments(last), 1, PATIENCE, self._answered, blocking=BLOCK_MS / 1000)
        except ServerAway as error:
            ended.set_exception(error)

    def _answered(self, result: list[Any] | Exception) -> None:
        ended = self._ended
        if ended is None or ended.done():
            return
        self._asking = False
        problem = result if isinstance(result, Exception) else result[0]
        if isinstance(problem, Exception):
            ended.set_exception(problem if isinstance(problem, ServerAway) else NotNow(str(problem)))
            return
        self._pause = LEAST_PAUSE
        try:
            if problem:
                self._take_in(problem)
        except Exception as error:  # whatever it is, the reader goes on
            self.process.warn("inbox", "Reading the inbox failed and goes on.", level=logging.ERROR, exc_info=True)
            ended.set_exception(NotNow(repr(error)))
            return
        if not self._current():
            ended.set_result(None)
        elif problem:  # receivers come back before the next read, unless there are very many of them
            self.process.mailbox.after_turns(self._ask)
        else:
            self._ask()

    def _channel_of(self, data: bytes) -> str:
        """The channel under which a record is counted down; empty where it isn't counted."""
        try:
            record = self.process.records.unpack(data)
        except ValueError:
            return ""
        return record.name if record.kind == DIRECT else ""

    def _take_in(self, reply: list[Any]) -> None:
        entries = [(entry, self._by_key[key], fields[1]) for key, stream in reply for entry, fields in stream]
        if len(reply) > 1:
            entries.sort(key=lambda found: tuple(map(int, found[0].split(b"-"))))
        process, server = self.process, self.server
        loop = asyncio.get_running_loop()
        with process.lock:
            if not self._current():
                return
            for entry, shard, data in entries:
                inbox = process.inboxes[shard]
                inbox.last = entry
                if entry in inbox.unread:
                    continue
                token = new_token((shard, entry, len(data)))
                if inbox.again and inbox.was_removed(entry):
                    inbox.acks.setdefault(self._channel_of(data), []).append(token)
                    continue
                inbox.unread.add(entry)
                try:
                    record = process.records.unpack(data)
                except Unreadable as error:
                    process.skipped(error, "the inbox of this process")
                    inbox.acks.setdefault(error.channel, []).append(token)
                    continue
                if record.kind == DIRECT:
                    process.mailbox.deliver(record.name, server.local(record.deadline), record.body, token, loop)
                    continue
                inbox.acks.setdefault("", []).append(token)
                if record.kind == CONTROL:
                    self._control(record)
                    continue
                dropped = process.mailbox.deliver_group(record.name, server.local(record.deadline), record.body, loop)
                if dropped:
                    process.warn(
                        "group-dropped",
                        "A message to group %r was dropped for %d member(s) whose capacity was reached.",
                        record.name,
                        dropped,
                    )
            process.ack_soon(False)
