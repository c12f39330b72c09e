"""Starts Python processes that run one function and talk JSON lines, each wait with a deadline."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

START_DEADLINE_S = 30.0  # an interpreter that imports Django on a busy machine
DEADLINE_S = 10.0
END_DEADLINE_S = 5.0

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from trunkline.conformance.child import main; main(int(sys.argv[2]))"
)


class ChildEnded(AssertionError):
    """The process ended, or its function raised, while something was expected of it; the message carries its output."""


class Child:
    """A Python process of its own that runs ``function(link, **arguments)``.

    The link is a :class:`trunkline.conformance.child.Link`. The process sees the same modules as this one.
    Make one with :meth:`start`, and end every one with :meth:`close`.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, answers: asyncio.StreamReader, output: Any, pipe: Any
    ) -> None:
        self._process = process
        self._answers = answers
        self._output = output
        self._pipe = pipe
        self._exited = asyncio.ensure_future(process.wait())

    @classmethod
    async def start(
        cls,
        target: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        path: Sequence[str] = (),
    ) -> Child:
        """Start a process.

        :param target: ``package.module:function``; a coroutine function is run with ``asyncio.run``.
        :param arguments: keyword arguments of JSON's types.
        :param environment: variables in addition to this process's own.
        :param path: directories to import from before those of this process.
        """
        read_end, write_end = os.pipe()
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-X",
                "faulthandler",
                "-c",
                _BOOT,
                json.dumps([*path, *sys.path]),
                str(write_end),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[write_end],
                env={**os.environ, **(environment or {})},
            )
        except BaseException:
            os.close(read_end)
            output.close()
            raise
        finally:
            os.close(write_end)
        answers = asyncio.StreamReader(limit=2**24)
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(answers), os.fdopen(read_end, "rb", 0)
        )
        child = cls(process, answers, output, pipe)
        await child.tell({"target": target, "arguments": dict(arguments or {})})
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """What the process has written to its standard output and standard error so far."""
        self._output.seek(0)
        text: str = self._output.read().decode(errors="replace")
        return text

    async def tell(self, item: Any) -> None:
        """Send one JSON value to the process; a process that is gone doesn't hear it."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(item).encode() + b"\n")
        try:
            await stdin.drain()
        except ConnectionError:
            pass

    async def hear(self, deadline_s: float = DEADLINE_S) -> Any:
        """Return the next value that the function told.

        :raises ChildEnded: when the function returned, raised, or the process died instead.
        :raises AssertionError: when nothing comes within ``deadline_s`` seconds.
        """
        record = await self._record(deadline_s)
        if "told" in record:
            return record["told"]
        raise ChildEnded(
            f"the process was expected to tell something, but its function returned {record['returned']!r}"
        )

    async def result(self, deadline_s: float = START_DEADLINE_S) -> Any:
        """Return what the function returned; what it told before and nobody heard is passed over.

        :raises ChildEnded: when the function raised or the process died instead.
        """
        while "returned" not in (record := await self._record(deadline_s)):
            pass
        return record["returned"]

    async def ended(self, deadline_s: float = END_DEADLINE_S) -> int:
        """Wait for the end of the process and return its exit code (negative: the signal that ended it)."""
        done, _ = await asyncio.wait({self._exited}, timeout=deadline_s)
        if not done:
            raise AssertionError(f"process {self.pid} was still running after {deadline_s:g} s")
        return self._exited.result()

    def say_goodbye(self) -> None:
        """Close the way to the process: its next ``hear`` raises EOFError."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still lives."""
        if not self._exited.done():
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no code of the process runs any more."""
        self.signal(signal.SIGKILL)

    async def close(self) -> None:
        """End the process, politely for :data:`END_DEADLINE_S` seconds and then by force, and forget it."""
        self.signal(signal.SIGCONT)
        self.say_goodbye()
        done, _ = await asyncio.wait({self._exited}, timeout=END_DEADLINE_S)
        if not done:
            self.kill()
            await self._exited
        self._pipe.close()
        self._output.close()

    async def _record(self, deadline_s: float) -> dict[str, Any]:
        reading = asyncio.ensure_future(self._answers.readline())
        done, _ = await asyncio.wait({reading}, timeout=deadline_s)
        if not done:
            reading.cancel()
            await asyncio.wait({reading})
            raise AssertionError(f"process {self.pid} said nothing for {deadline_s:g} s; its output: {self.output}")
        line = reading.result()
        if not line:
            code = await self.ended()
            raise ChildEnded(f"process {self.pid} ended with {code}; its output: {self.output}")
        record: dict[str, Any] = json.loads(line)
        if "raised" in record:
            raise ChildEnded(f"process {self.pid} failed with {record['raised']}\n{record['traceback']}{self.output}")
        return record
