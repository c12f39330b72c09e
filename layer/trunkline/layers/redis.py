"""``trunkline.RedisChannelLayer``: the channel layer over one Redis server or several shards."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from typing import Any

from trunkline import names
from trunkline.base import logger, refuse_event_loop
from trunkline.codec import Shared
from trunkline.config import RedisOptions, redis_options
from trunkline.errors import ChannelFull
from trunkline.layers.deliveries import ReliableReceiving
from trunkline.mailbox import Body, NextTurn
from trunkline.redis.engine import Engine
from trunkline.redis.flush import flush
from trunkline.redis.process import Process
from trunkline.redis.runtime import Runtime
from trunkline.redis.statistics import read_channel, read_layer
from trunkline.stats import LayerStatistics, Statistics

_inherited: list[Runtime] = []  # of a parent process: kept, so that nothing of theirs is finalized in a child
_making = threading.Lock()


_pid = os.getpid()  # known without a system call


def _forked() -> None:
    global _making, _pid
    _making = threading.Lock()  # another thread of the parent may hold the old one for ever
    _pid = os.getpid()


os.register_at_fork(after_in_child=_forked)


class RedisChannelLayer(ReliableReceiving):
    """A channel layer over Redis >= 5 or Valkey; see ``trunkline.base`` for the guarantees.

    :param config: the CONFIG of ``CHANNEL_LAYERS``; docs/reference/configuration.md lists the options.
    :raises ConfigurationError: one sentence for each kind of mistake.
    """

    def __init__(self, **config: Any) -> None:
        self.options = self._judge(config)
        super().__init__(self.options.common)
        for note in self.options.notes:
            logger.info("%s", note)
        self._runtime: Runtime | None = None
        self._finalizer: weakref.finalize[[], RedisChannelLayer] | None = None

    def _judge(self, config: dict[str, Any]) -> RedisOptions:
        return redis_options(config)

    def __repr__(self) -> str:
        hosts = ", ".join(host.label for host in self.options.hosts)
        return f"<{type(self).__name__} {hosts} prefix={self.prefix!r}>"

    def _run(self) -> Runtime:
        runtime = self._runtime
        if runtime is not None and runtime.pid == _pid:
            return runtime
        with _making:
            runtime = self._runtime
            if runtime is None or runtime.pid != _pid:
                if runtime is not None:
                    _inherited.append(runtime)
                self._forget()
                runtime = Runtime(Process(self.process, self.options, self.counters, self._warn))
                self._finalizer = weakref.finalize(self, runtime.discard)
                self._finalizer.atexit = False
                self._runtime = runtime
        return runtime

    def _forget(self) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None

    async def new_channel(self, prefix: str = "specific") -> str:
        runtime = self._run()
        runtime.announce()
        channel = await super().new_channel(prefix)
        runtime.process.mailbox.open(channel)
        return channel

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        runtime = self._runtime
        if runtime is None or runtime.pid != _pid:
            runtime = self._run()
        engine = runtime.engine()
        way = engine.ways.get(channel) if engine is not None and channel.__class__ is str else None
        if way is None:  # whose name has one was judged before
            names.check_channel(channel)
        body = self.encode(message)
        if engine is None:
            await runtime.send(lambda reactor: self._send(reactor, channel, body))
            return
        tally = self.counters.of(channel)  # as ``_send``, with fewer coroutines in between
        try:
            if way is not None and way.direct:
                engine.judge(channel, way, await engine.post(channel, way, body))
            else:
                await self._carry(engine, channel, body)
        except ChannelFull:
            tally.full += 1
            raise
        tally.sent += 1

    def send_sync(self, channel: str, message: dict[str, Any]) -> None:
        refuse_event_loop("send")
        names.check_channel(channel)
        body = self.encode(message)
        self._run().send_sync(lambda reactor: self._send(reactor, channel, body))

    async def _send(self, engine: Engine, channel: str, body: bytes) -> None:
        tally = self.counters.of(channel)
        try:
            await self._carry(engine, channel, body)
        except ChannelFull:
            tally.full += 1
            raise
        tally.sent += 1

    def _carry(self, engine: Engine, channel: str, body: bytes) -> Coroutine[Any, Any, None]:
        return engine.carry(channel, body)

    async def receive(self, channel: str) -> dict[str, Any]:
        # One coroutine from the application to the future that it waits for, and names that the mailbox knows are not
        # judged again: five hundred members receive each group message.
        if channel.__class__ is not str:
            channel = str.__str__(names.check_channel(channel, receive=True))
        runtime = self._runtime
        if runtime is None or runtime.pid != _pid:
            runtime = self._run()
        mailbox, waited = runtime.process.mailbox, False
        while True:
            got = mailbox.ask(channel, waited)
            if isinstance(got, (bytes, Shared)):
                if isinstance(got, Shared) and got.flat is not None:
                    return got.flat.copy()
                message = self._decoded(channel, got)
                if message is not None:
                    return message
                waited = False
            elif got is not None:
                try:
                    if not isinstance(got, NextTurn) and not runtime.reads_in(got.get_loop()):
                        runtime.attend(runtime.own_engine())
                    await got
                except BaseException:
                    mailbox.withdraw(channel, got)
                    raise
                waited = True
            elif (address := self.own_address(channel)) is not None and address.local:
                mailbox.open(channel)
            else:
                return await self._receive_of_many(runtime, channel, address)

    async def _receive_of_many(self, runtime: Runtime, channel: str, address: names.Address | None) -> dict[str, Any]:
        """Receive from a channel that any process receives from, or from any channel of this process."""
        engine = runtime.own_engine()
        while True:
            body: Body
            if address is None:
                body = await engine.receive_queue(channel)
            else:
                runtime.attend(engine)
                _, body = await runtime.process.mailbox.receive_any(channel)
            message = self._decoded(channel, body)
            if message is not None:
                return message

    async def receive_named(self, prefix: str) -> tuple[str, dict[str, Any]]:
        address = self.own_address(prefix)
        if address is None or address.local:
            raise ValueError(f"receive_named takes the part of a channel name up to its '!', not {prefix!r}.")
        runtime = self._run()
        runtime.attend(runtime.own_engine())
        while True:
            channel, body = await runtime.process.mailbox.receive_any(prefix)
            message = self._decoded(channel, body)
            if message is not None:
                return channel, message

    async def group_add(self, group: str, channel: str) -> None:
        runtime = self._runtime
        if runtime is None or runtime.pid != _pid:
            runtime = self._run()
        if runtime.groups.add_known(group, channel):
            return
        names.check_group(group)
        engine = runtime.engine()
        if engine is not None and isinstance(channel, str) and runtime.knows(channel):
            runtime.attend(engine)
            await runtime.groups.add_own(engine, group, channel)
            return
        address = names.address_of(names.check_channel(channel))

        async def add(engine: Engine) -> None:
            if address is not None and address.process == self.process:
                runtime.attend(engine)
                await runtime.groups.add_own(engine, group, channel)
            else:
                await runtime.groups.add_foreign(engine, group, channel, address)

        await (add(engine) if engine is not None else runtime.run(add))

    async def group_discard(self, group: str, channel: str) -> None:
        runtime = self._runtime
        if runtime is None or runtime.pid != _pid:
            runtime = self._run()
        if runtime.groups.discard_known(group, channel):
            return
        names.check_group(group)
        engine = runtime.engine()
        if engine is not None and isinstance(channel, str) and runtime.knows(channel):
            await runtime.groups.discard_own(engine, group, channel)
            return
        address = names.address_of(names.check_channel(channel))

        async def discard(engine: Engine) -> None:
            if address is not None and address.process == self.process:
                await runtime.groups.discard_own(engine, group, channel)
            else:
                await runtime.groups.discard_foreign(engine, group, channel, address)

        await (discard(engine) if engine is not None else runtime.run(discard))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        names.check_group(group)
        body = self.encode(message)
        runtime = self._run()
        engine = runtime.engine()
        if engine is not None:
            await self._group_send(engine, group, body)
        else:
            await runtime.send(lambda reactor: self._group_send(reactor, group, body))
        self.counters.group_sent += 1

    def group_send_sync(self, group: str, message: dict[str, Any]) -> None:
        refuse_event_loop("group_send")
        names.check_group(group)
        body = self.encode(message)
        self._run().send_sync(lambda reactor: self._group_send(reactor, group, body))
        self.counters.group_sent += 1

    async def _group_send(self, engine: Engine, group: str, body: bytes) -> None:
        dropped, foreign = await self._run().groups.send(engine, group, body)
        self.counters.other.dropped += dropped
        errors: list[BaseException] = []
        if foreign:
            sends = (self._carry(engine, channel, body) for channel in foreign)
            errors = [error for error in await engine.together(sends) if error is not None]
        for error in errors:
            if isinstance(error, ChannelFull):
                self.counters.of(error.channel).dropped += 1
                dropped += 1
        if dropped:
            self.warn_group_dropped(group, dropped)
        for error in errors:
            if not isinstance(error, ChannelFull):
                raise error

    async def global_statistics(self) -> Statistics:
        return (await read_layer(self._run().process)).total

    async def channel_statistics(self, channel: str) -> Statistics:
        names.check_channel(channel, receive=True)
        return await read_channel(self._run().process, channel)

    async def statistics(self) -> LayerStatistics:
        return await read_layer(self._run().process)

    async def flush(self) -> None:
        runtime = self._run()
        await asyncio.wrap_future(runtime.submit(lambda _engine: flush(runtime.process)))

    async def close(self) -> None:
        runtime, self._runtime = self._runtime, None
        self._forget()
        if runtime is not None and runtime.pid == os.getpid():
            await runtime.close()
