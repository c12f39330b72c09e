"""Reporting what a process counted: about once a second, over the heartbeat's connection to one server."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any

from trunkline.redis.connections import Wire
from trunkline.redis.greeting import load_scripts
from trunkline.redis.process import Process, Server
from trunkline.redis.replies import Arg, NotNow, Refused, UnknownScript
from trunkline.redis.scripts import script

HOME = 0  # the virtual shard that holds the counts of all
QUIET = 5.0  # seconds between two reports of a process where nothing happens
PATIENCE = 3.0  # seconds


class Reporter:
    """Reports the counters of one process. A batch whose reply was lost goes again under its number."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._server = process.server_of(HOME)
        self._began = self._reported = time.monotonic()
        self._messages = 0
        self._due = 0.0

    def wanted(self, server: Server) -> bool:
        """Whether ``server`` is the one that keeps the counts, and knows of this process or has to."""
        return server is self._server and (self._due > 0 or bool(self._process.counters.journal.batch().added))

    async def report(self, server: Server, wire: Wire, *, last: bool = False) -> None:
        """Report to ``server``, if it is the one that keeps the counts and there is something to say.

        :param last: the process ends: its own row goes, its counts stay in the totals.
        :raises ServerAway: if the connection breaks; the batch goes again with the next report.
        """
        journal, now = self._process.counters.journal, time.monotonic()
        if not self.wanted(server) or (now < self._due and not last and not journal.batch().added):
            return
        batch = journal.batch()
        command: list[Arg] = [
            b"EVALSHA", script("report").sha, 2, self._process.keys.key(HOME, "stats"), self._process.keys.canary(HOME),
            journal.id, batch.number, int(last), self._row(now),
        ]  # fmt: skip
        for name, values in batch.added:
            command += [name, *values]
        (reply,) = await wire.call([command], PATIENCE)
        if isinstance(reply, UnknownScript):
            try:
                await load_scripts(wire, {"report"})
            except NotNow:
                return
            (reply,) = await wire.call([command], PATIENCE)
        if isinstance(reply, Refused):
            self._process.warn("statistics", "The server refuses the statistics: %s", reply)
        elif not isinstance(reply, Exception):
            journal.confirm(batch.number)
            self._due = now + QUIET

    def _row(self, now: float) -> str:
        """What the process says about itself; see ``trunkline.stats.ProcessStatistics``."""
        counters = self._process.counters
        messages = counters.sent + counters.group_sent
        passed, more = now - self._reported, messages - self._messages
        self._reported, self._messages = now, messages
        row: dict[str, Any] = {
            "process": self._process.id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "program": _program(sys.argv[0] if sys.argv else ""),
            "age": round(now - self._began, 1),
            "messages_count": messages,
            "messages_count_per_second": round(more / passed, 1) if passed > 0.1 else 0.0,
            "channel_full_count": counters.full,
            "group_messages_count": counters.group_sent,
            "received_count": counters.received,
            "group_dropped_count": counters.group_dropped,
            "expired_count": counters.expired,
            "unreadable_count": counters.unreadable,
            "unread": self._process.mailbox.unread(),
        }
        return json.dumps(row)


def _program(path: str) -> str:
    """What a process calls itself; of ``python -m daphne``, whose file is ``daphne/__main__.py``, the package."""
    folder, name = os.path.split(path)
    return os.path.basename(folder) if name == "__main__.py" and folder else name
