"""What travels in a pipeline: operations, the script calls that they share, and the pipeline itself; no I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from trunkline.errors import LayerUnavailable
from trunkline.redis.process import Process, Token
from trunkline.redis.replies import Arg
from trunkline.redis.scripts import script

ALONE = b"0"  # no other call of this sender and virtual shard is unanswered

_MESSAGES = ("direct", "push", "group")  # scripts that send; replicas are waited for where the options say so
_LETTERS = ("direct", "push", "again", "requeue", "drop")  # scripts that answer with one letter for each operation


class Lane:
    """What operations that can share a script call have in common.

    :ivar script: the Lua script's name.
    :ivar key: the script's first key.
    :ivar head: arguments that come before those of the single operations.
    :ivar replicated: whether replicas have to confirm it, where the options say so.
    """

    __slots__ = ("head", "key", "letters", "prefix", "replicated", "script", "shard")

    def __init__(self, process: Process, name: str, shard: int, key: str, head: tuple[Arg, ...]) -> None:
        self.script = name
        self.shard = shard
        self.key = key
        self.head = head
        self.letters = name in _LETTERS
        self.replicated = name in _MESSAGES
        self.prefix: tuple[Arg, ...] = (b"EVALSHA", script(name).sha, 2, key, process.keys.canary(shard))


class Outcome(Protocol):
    """What learns how an operation ended: a future, or what acts at once, in the loop of the pipe."""

    def cancelled(self) -> bool: ...
    def done(self) -> bool: ...
    def set_result(self, answer: str, /) -> None: ...
    def set_exception(self, error: Exception, /) -> None: ...


class Operation(NamedTuple):
    """One thing to do on the server.

    :ivar own: this operation's own arguments.
    :ivar outcome: learns the answer.
    :ivar size: bytes.
    :ivar held: kept and retried for as long as it takes (messages that were taken and go back).
    :ivar since: monotonic seconds when it was asked for.
    """

    lane: Lane
    own: tuple[Arg, ...]
    outcome: Outcome
    size: int
    held: bool
    since: float


new_operation = partial(tuple.__new__, Operation)  # takes all of it as one tuple; a third of the time of the class


class Call:
    """Operations that travel as one script call.

    :ivar number: under which the server knows it; 0 before it is sent, and again after the server refused it.
    :ivar chain: which calls it goes behind; see the scripts' prelude.
    :ivar doubtful: it was sent and not answered, so perhaps it was done: it keeps its number whatever comes back later.
    :ivar refusal: what the server last said instead of doing it.
    :ivar not_before: monotonic seconds; the server asked to wait until then.
    """

    __slots__ = ("chain", "doubtful", "lane", "not_before", "number", "operations", "refusal")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.operations: list[Operation] = []
        self.number = 0
        self.chain: bytes = ALONE
        self.doubtful = False
        self.refusal = ""
        self.not_before = 0.0

    def refused(self, refusal: str = "") -> None:
        """The server has certainly not done it this time."""
        self.refusal = refusal
        if not self.doubtful:
            self.number = 0

    def stored(self, reply: Any) -> bool:
        """Whether it sent messages that replicas should have."""
        return self.lane.replicated and isinstance(reply, list) and reply[0] == b"OK"

    def resolve(self, answer: str, unconfirmed: str = "") -> None:
        """:param unconfirmed: why what was stored counts as failed all the same."""
        letters = self.lane.letters
        for index, operation in enumerate(self.operations):
            if operation.outcome.done():
                continue
            if unconfirmed and self.lane.replicated and not operation.held and (not letters or answer[index] == "k"):
                operation.outcome.set_exception(LayerUnavailable(unconfirmed))
            else:
                operation.outcome.set_result(answer[index] if letters else answer)

    def fail(self, make: Callable[[], Exception]) -> None:
        for operation in self.operations:
            if not operation.outcome.done():
                operation.outcome.set_exception(make())


Acks = list[tuple[int, dict[str, list[Token]]]]


class Flight:
    """One pipeline: its calls, and the acknowledgements that travel with them.

    Nobody waits for acknowledgements, so they come last; but not where the next message could need the room.

    :ivar waits: whether the last command waits for replicas.
    """

    __slots__ = ("acks", "acks_first", "calls", "waits")

    def __init__(self, calls: list[Call], acks: Acks, process: str) -> None:
        self.calls = calls
        self.acks = acks
        self.waits = False
        self.acks_first = any(call.lane.script == "direct" and call.lane.head[0] == process for call in calls)

    def ordered(self, calls: list[Any], acks: list[Any]) -> list[Any]:
        return acks + calls if self.acks_first else calls + acks

    def split(self, replies: list[Any]) -> tuple[list[Any], list[Any]]:
        """Replies to the calls, and to the acknowledgements."""
        if self.acks_first:
            return replies[len(self.acks) :], replies[: len(self.acks)]
        return replies[: len(self.calls)], replies[len(self.calls) :]
