"""Channel layers in other processes: the test calls a method here, it runs there."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from trunkline.conformance.api import build_layer, close_layer
from trunkline.conformance.cancelling import receive_under_cancellation
from trunkline.conformance.child import Link
from trunkline.conformance.processes import DEADLINE_S, START_DEADLINE_S, Child, ChildEnded
from trunkline.conformance.waiting import numbered


class PeerError(AssertionError):
    """A call raised in the other process.

    :ivar kind: the exception's class name.
    """

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(f"{kind}: {text}")


class Peer:
    """A process of its own with one channel layer object. Messages are limited to JSON's types."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._listener = asyncio.ensure_future(self._listen())

    async def call(self, method: str, *arguments: Any, deadline_s: float = DEADLINE_S) -> Any:
        """Call a method of the other process's layer (or of :class:`_Served`) and return its result.

        :raises PeerError: what the call raised there.
        :raises ChildEnded: when the process is gone.
        :raises AssertionError: after ``deadline_s`` seconds.
        """
        future = await self.begin(method, *arguments)
        done, _ = await asyncio.wait({future}, timeout=deadline_s)
        if not done:
            raise AssertionError(f"{method} did not return within {deadline_s:g} s in process {self.child.pid}")
        return future.result()

    async def begin(self, method: str, *arguments: Any) -> asyncio.Future[Any]:
        """Start a call and return the future of its result."""
        self._count += 1
        future = self._calls[self._count] = asyncio.get_running_loop().create_future()
        if self._listener.done():
            future.set_exception(ChildEnded("the process is gone"))
        await self.child.tell({"id": self._count, "method": method, "arguments": arguments})
        return future

    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        await self.call("send", channel, message)

    async def receive(self, channel: str, deadline_s: float = DEADLINE_S) -> Any:
        return await self.call("receive", channel, deadline_s=deadline_s)

    async def new_channel(self) -> str:
        name: str = await self.call("new_channel")
        return name

    async def group_add(self, group: str, channel: str) -> None:
        await self.call("group_add", group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self.call("group_discard", group, channel)

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        await self.call("group_send", group, message)

    async def send_numbered(self, channel: str, count: int, deadline_s: float = START_DEADLINE_S) -> None:
        """Send the numbered messages 0 to ``count - 1``, one after the other."""
        await self.call("send_numbered", channel, count, deadline_s=deadline_s)

    async def end(self) -> int:
        """Let the process close its layer and end; return its exit code."""
        self.child.say_goodbye()
        return await self.child.ended()

    async def close(self) -> None:
        await self.child.close()
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)

    async def _listen(self) -> None:
        try:
            while True:
                answer = await self.child.hear(deadline_s=3600)
                future = self._calls.pop(answer["id"])
                if future.done():
                    continue
                if "error" in answer:
                    future.set_exception(PeerError(*answer["error"]))
                else:
                    future.set_result(answer["value"])
        except AssertionError as error:
            for future in self._calls.values():
                if not future.done():
                    future.set_exception(ChildEnded(str(error)))


class Peers:
    """Starts peers and ends them all; an asynchronous context manager."""

    def __init__(self, path: str = "", config: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._config = dict(config or {})
        self._peers: list[Peer] = []

    async def __aenter__(self) -> Peers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(peer.close() for peer in self._peers))

    async def start(self, path: str = "", config: Mapping[str, Any] | None = None) -> Peer:
        """Start a process with a layer of its own, and return when it is ready.

        :param path: dotted path of the layer; the one given to :class:`Peers` if left out.
        :param config: options on top of the ones given to :class:`Peers`.
        """
        chosen = {**self._config, **(config or {})}
        child = await Child.start(
            "trunkline.conformance.peers:serve", {"path": path or self._path, "config": pack(chosen)}
        )
        peer = Peer(child)
        self._peers.append(peer)
        await peer.call("ready", deadline_s=START_DEADLINE_S)
        return peer


def pack(config: Mapping[str, Any]) -> str:
    """Text that carries a CONFIG, with its tuples and compiled patterns, to a process of our own."""
    return base64.b64encode(pickle.dumps(dict(config))).decode()


def unpack(text: str) -> dict[str, Any]:
    config: dict[str, Any] = pickle.loads(base64.b64decode(text))
    return config


class _Served:
    """What a peer's process can do besides the methods of its layer."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    async def ready(self) -> None:
        """Say that the process is up."""

    async def send_numbered(self, channel: str, count: int) -> None:
        for number in range(count):
            await self._layer.send(channel, numbered(number))

    async def receive_under_cancellation(self, channel: str, count: int, seed: int) -> list[int]:
        """Receive, cancelling most receives, until nothing comes any more."""
        received, _ = await receive_under_cancellation(self._layer, channel, count, seed, lambda: True)
        return received

    async def group_send_numbered(self, group: str, count: int) -> None:
        for number in range(count):
            await self._layer.group_send(group, numbered(number))


async def serve(link: Link, path: str, config: str) -> None:
    """In the other process: run calls side by side until the starting process says goodbye."""
    layer = build_layer(path, unpack(config))
    served = _Served(layer)
    tasks: set[asyncio.Task[None]] = set()

    async def run(order: dict[str, Any]) -> None:
        try:
            owner = served if hasattr(served, order["method"]) else layer
            value = await getattr(owner, order["method"])(*order["arguments"])
            answer = {"id": order["id"], "value": value}
        except Exception as error:
            answer = {"id": order["id"], "error": [type(error).__name__, str(error)]}
        link.tell(answer)

    lines = await link.lines()
    while line := await lines.readline():
        task = asyncio.ensure_future(run(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await close_layer(layer)
