"""The heartbeat of a process, kept by the reactor's thread, so that a blocked event loop is not taken for dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from trunkline.base import logger
from trunkline.redis.connections import SUSPICIOUS, Wire
from trunkline.redis.greeting import greet, greet_shards, load_scripts, mark_away
from trunkline.redis.process import Process, Server
from trunkline.redis.replies import Arg, NotNow, ServerAway
from trunkline.redis.reporting import Reporter
from trunkline.redis.scripts import script
from trunkline.redis.watch import Watch

LEAVE_WITHIN = 1.0  # seconds to say goodbye; who did not will be taken for dead

TELL_AFTER = 1.0  # seconds without a server until the log says so; shorter ones are nobody's business
TELL_AGAIN = 60.0  # seconds until it says so again
FORGET_AFTER = 5  # beats; twice that long a process knows what it removed from its inboxes

BEAT_EVERY = 1.0  # seconds; a process that missed five is dead to the others (DEAD_AFTER in the scripts)


class Heart:
    """Beats on every server until it is cancelled.

    :param check: called with each round, for what else has to be looked at once a second.
    :param acknowledge: sends acknowledgements that wait.
    """

    def __init__(self, process: Process, check: Callable[[], None], acknowledge: Callable[[], None]) -> None:
        self._process = process
        self._check = check
        self._acknowledge = acknowledge
        self._wires = [Wire(server.target) for server in process.servers]
        self._reporter = Reporter(process)

    async def run(self) -> None:
        """Beat for ever."""
        beats = [
            asyncio.create_task(self._beat(server, wire))
            for server, wire in zip(self._process.servers, self._wires, strict=True)
        ]
        watching = asyncio.create_task(Watch(server.target for server in self._process.servers).run())
        rounds = 0
        try:
            while True:
                await asyncio.sleep(BEAT_EVERY)
                rounds += 1
                if watching.done():
                    watching.result()  # an error of ours; without primaries there is nothing to watch
                if rounds % FORGET_AFTER == 0:
                    self._process.forget_removed()
                self._process.mailbox.sweep()
                self._check()
                self._acknowledge()
        finally:
            for task in (*beats, watching):
                task.cancel()
            await asyncio.wait({*beats, watching})

    async def end(self) -> None:
        """After the last beat: report, leave what others know of this process, and close the connections."""
        try:
            servers = zip(self._process.servers, self._wires, strict=True)
            leaving = [asyncio.ensure_future(self._leave(server, wire)) for server, wire in servers]
            await asyncio.wait(leaving, timeout=LEAVE_WITHIN)
            for task in leaving:
                task.cancel()
            await asyncio.wait(leaving)
        finally:
            for wire in self._wires:
                await wire.close()

    async def _leave(self, server: Server, wire: Wire) -> None:
        keys, ident, bye = self._process.keys, self._process.id, script("bye").sha
        if server.away_since is not None:
            return  # it will take us for dead
        try:
            if not wire.connected and (self._process.present or self._reporter.wanted(server)):
                await wire.connect()  # the last beat was interrupted
            await self._reporter.report(server, wire, last=True)
            if not self._process.present:
                return
            commands: list[list[Arg]] = [
                [b"EVALSHA", bye, 2, keys.key(shard, "procs"), keys.canary(shard), ident]
                for shard in self._process.ring.owned[server.position]
            ]
            await load_scripts(wire, {"bye"})
            await wire.call(commands, LEAVE_WITHIN)
        except (ServerAway, NotNow):
            pass

    async def _beat(self, server: Server, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        since, told = 0.0, 0.0  # monotonic seconds: the first of these failures, and the last line about them
        while True:
            silent = loop.call_later(SUSPICIOUS, server.target.suspect)  # what others hear later may be out of date
            try:
                if wire.connected:
                    await greet_shards(self._process, server, wire)
                else:
                    await greet(self._process, server, wire)
                if told:
                    logger.warning("%s is back after %.1f s.", server.label, time.monotonic() - since)
                since = told = 0.0
                await self._reporter.report(server, wire)
            except (ServerAway, NotNow) as error:
                mark_away(server, str(error))
                await wire.close()  # its name may lead to another server now
                now = time.monotonic()
                since = since or now
                if now - since >= TELL_AFTER and (not told or now - told >= TELL_AGAIN) and not server.unfit:
                    told = now
                    logger.warning("%s is away, and the layer waits for it: %s", server.label, error)
            finally:
                silent.cancel()
            # A server that is away is tried more often, so that its return is noticed soon.
            await asyncio.sleep(BEAT_EVERY if server.away_since is None else BEAT_EVERY / 5)
