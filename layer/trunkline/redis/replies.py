"""What a server answers: the four errors of a connection, and the protocol that collects the replies of a pipeline."""

from __future__ import annotations

import asyncio
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
    """The receiving end of a connection: collects the replies of one pipeline at a time.

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
        self._wanted = 0
        self._done: Done | None = None

    def expect(self, count: int, done: Done) -> None:
        """Call ``done`` once, with the next ``count`` replies, or with what ended the connection before."""
        self._wanted, self._done = count, done

    @property
    def waiting(self) -> bool:
        """Whether replies are still to come."""
        return self._done is not None

    def _error(self, text: str) -> Exception:
        self.demoted = self.demoted or text.startswith(_DEMOTED) or " READONLY " in text or "-READONLY " in text
        return judge(text)

    def data_received(self, data: bytes) -> None:
        self.progress = True
        replies = self._replies
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
        except hiredis.HiredisError as error:
            self._fail(error)
            return
        if self._done is None:
            if replies:
                self._fail(ConnectionError("the server sent what nobody asked for"))
        elif len(replies) == self._wanted:
            done, self._replies, self._done = self._done, [], None
            done(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("the connection was closed"))

    def _fail(self, error: Exception) -> None:
        self.lost = self.lost or error
        done, self._done = self._done, None
        if done is not None:
            done(error)
