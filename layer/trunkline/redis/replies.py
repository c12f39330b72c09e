"""What a server answers: the four errors of a connection, and the protocol that collects the replies of a pipeline."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

Arg = bytes | str | int


class ServerAway(Exception):
    """The connection broke, or no reply came in time: what was asked may or may not have been done."""


class NotNow(Exception):
    """The server answered that it can't at the moment (loading, read-only, out of memory): nothing was done."""


class Unfit(NotNow):
    """The server can't carry the layer as it is (cluster mode, too old): nobody waits for that to pass."""


class UnknownScript(Exception):
    """The server does not have the script (it restarted, or SCRIPT FLUSH): nothing was done."""


class Refused(Exception):
    """Any other error reply: a command that this server doesn't know or doesn't allow us, a script's own error."""


# What error replies begin with (or, from older servers, hold within a script's error) after which a later attempt can
# succeed, and which guarantee that nothing was executed.
_NOT_NOW = (
    "ASK ", "BUSY ", "CLUSTERDOWN ", "LOADING ", "MASTERDOWN ", "MISCONF ", "NOAUTH ", "NOREPLICAS ", "OOM ",
    "READONLY ", "TRYAGAIN ", "max number of clients reached",
)  # fmt: skip

# What a server says that was a primary and is a replica now; another may have taken its name or its address.
_DEMOTED = ("READONLY ", "MASTERDOWN ", "UNBLOCKED ")


def judge(text: str) -> Exception:
    """The error for the text of an error reply."""
    if text.startswith("NOSCRIPT "):
        return UnknownScript(text)
    if text.startswith(_NOT_NOW) or any(f" {sign}" in text or f"-{sign}" in text for sign in _NOT_NOW):
        return NotNow(text)
    return Refused(text)


Done = Callable[[list[Any] | Exception], None]


class Replies(asyncio.Protocol):
    """The receiving end of a connection: collects the replies of each pipeline, in the order in which they were sent.

    :ivar lost: why the connection can't be used any more; ``None`` while it can.
    :ivar progress: whether something came since this was last set to ``False``.
    :ivar demoted: whether the server said that it is a replica now: behind the same address there may be another.
    """

    def __init__(self) -> None:
        self.lost: Exception | None = None
        self.progress = False
        self.demoted = False
        self._reader = hiredis.Reader(replyError=self._error)
        self._replies: list[Any] = []
        self._expected: deque[tuple[int, Done]] = deque()

    def expect(self, count: int, done: Done) -> None:
        """Call ``done`` once, with ``count`` replies behind those expected already, or with the connection's end."""
        self._expected.append((count, done))

    @property
    def waiting(self) -> bool:
        """Whether replies are still to come."""
        return bool(self._expected)

    def _error(self, text: str) -> Exception:
        self.demoted = self.demoted or text.startswith(_DEMOTED) or " READONLY " in text or "-READONLY " in text
        return judge(text)

    def data_received(self, data: bytes) -> None:
        self.progress = True
        expected = self._expected
        try:
            self._reader.feed(data)
            while self.lost is None and (reply := self._reader.gets()) is not False:
                if not expected:
                    refused = isinstance(reply, Exception)  # it has no place for us, or throws us out
                    self._fail(reply if refused else ConnectionError("the server sent what nobody asked for"))
                    return
                replies = self._replies
                replies.append(reply)
                if len(replies) == expected[0][0]:
                    self._replies = []
                    expected.popleft()[1](replies)
        except hiredis.HiredisError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        told = self._replies[0] if self._replies else None  # a server that throws us out answers the first command
        self._fail(told if isinstance(told, Exception) else exc or ConnectionError("the connection was closed"))

    def _fail(self, error: Exception) -> None:
        self.lost = self.lost or error
        expected, self._expected = self._expected, deque()
        for _, done in expected:
            done(error)


class Pushes(asyncio.Protocol):
    """The receiving end of a subscription: passes on what is published.

    :param heard: called with channel and text of each message.
    :ivar lost: done when the connection can't be used any more, with the reason.
    :ivar progress: as of ``Replies``.
    """

    def __init__(self, heard: Callable[[str, str], None]) -> None:
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.progress = False
        self._heard = heard
        self._reader = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        self.progress = True
        try:
            self._reader.feed(data)
            while (push := self._reader.gets()) is not False:
                if isinstance(push, Exception):
                    raise push
                if push[0] == b"message":
                    self._heard(push[1].decode(), push[2].decode(errors="replace"))
        except Exception as error:
            self.connection_lost(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc or ConnectionError("the connection was closed"))
