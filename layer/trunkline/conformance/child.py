"""The other end of :mod:`trunkline.conformance.processes`: runs one function in a process of its own.

Commands come in on standard input and answers leave on a pipe, one JSON value a line, so that whatever a library prints
on standard output disturbs nobody.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import traceback
from importlib import import_module
from typing import Any


class Link:
    """What the function gets as its first argument: the way to and from the process that started it."""

    def __init__(self, answers: int) -> None:
        self._answers = answers
        # Unbuffered, so that what follows a line stays in the pipe for whoever reads next (see lines()).
        self._orders = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - open as long as the process lives

    def tell(self, item: Any) -> None:
        """Send one JSON value; blocks while the pipe is full."""
        self._write({"told": item})

    def hear(self) -> Any:
        """Wait for the next JSON value; blocks the thread.

        :raises EOFError: when the process that started this one is gone or has nothing more to say.
        """
        line = self._orders.readline()
        if not line:
            raise EOFError("the starting process closed the connection")
        return json.loads(line)

    async def lines(self) -> asyncio.StreamReader:
        """Standard input as a stream, for functions that wait for values in an event loop."""
        reader = asyncio.StreamReader(limit=2**24)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._orders)
        return reader

    def _write(self, record: dict[str, Any]) -> None:
        data = json.dumps(record).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def main(answers: int) -> None:
    """Read what to run, run it, and report what it returned or raised.

    :param answers: the file descriptor that answers are written to.
    """
    link = Link(answers)
    order = link.hear()
    try:
        module, _, name = order["target"].partition(":")
        function = getattr(import_module(module), name)
        result = function(link, **order["arguments"])
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        record = {"returned": result}
    except BaseException as error:
        record = {"raised": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    try:
        link._write(record)
    except BrokenPipeError:
        pass  # the starting process is gone, nobody wants to know
