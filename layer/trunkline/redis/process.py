"""What belongs to one process of one layer object: its identity, its channels, what it knows of the servers.

Shared by all event loops of the process; everything here is guarded by the mailbox' lock and does no I/O.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from trunkline.codec import DIRECT, Record, Unreadable, records_for
from trunkline.config import RedisOptions
from trunkline.mailbox import Mailbox
from trunkline.redis.endpoints import Target
from trunkline.redis.held import Holdings
from trunkline.redis.keys import Keys
from trunkline.redis.ring import VIRTUAL_SHARDS, Ring
from trunkline.redis.sentinel import target_of
from trunkline.stats import Counters, LimitedLog, report_unreadable

LEAST_INBOX = 10_000  # messages in a process' inbox on one virtual shard before sends are refused
MOST_REMOVED = 10_000  # entries of one inbox, removed since the last time they grew older; memory ends here
INBOX_BYTES = 64 * 1024 * 1024  # the same in bytes


class Token(NamedTuple):
    """A direct message in the inbox: where it lies, so that it can be acknowledged once it was read."""

    shard: int
    entry: bytes
    size: int


new_token = partial(tuple.__new__, Token)  # takes the three as one tuple; a third of the time of the class itself


@dataclass
class Server:
    """What this process knows of one server.

    :ivar offset: server's milliseconds minus this machine's monotonic milliseconds; ``None`` before its first answer.
    :ivar away_since: monotonic seconds since when it can't be reached; ``None`` while it can.
    :ivar unconfirmed_since: monotonic seconds since when too few of its replicas confirm; ``None`` while they do.
    :ivar examined: whether it was asked what it is since it was last away.
    :ivar unfit: why it can't carry the layer, as of its last examination; empty where it can.
    :ivar warned_of: the warning of its last examination.
    :ivar unfit_until: monotonic seconds of the next look at a server that can't.
    """

    position: int
    target: Target
    offset: float | None = None
    away_since: float | None = None
    problem: str = ""
    layout_reported: bool = False
    unconfirmed_since: float | None = None
    examined: bool = False
    unfit: str = ""
    warned_of: str = ""
    unfit_until: float = 0.0

    @property
    def label(self) -> str:
        """What the server is called in messages."""
        return self.target.label

    def local(self, deadline_ms: float) -> float:
        """A time of the server's clock in monotonic seconds of this machine."""
        return (deadline_ms - (self.offset or 0.0)) / 1000


@dataclass
class Inbox:
    """The reading position in this process' inbox on one virtual shard.

    :ivar unread: entries taken and not yet removed on the server; never taken twice.
    :ivar removed: entries removed lately, in two parts by age: a replica that was promoted may not know of it.
    :ivar again: how many times more they grow older until none of them can come again; above zero after the inbox was
        read from its beginning.
    """

    last: bytes = b"0-0"
    unread: set[bytes] = field(default_factory=set)
    acks: dict[str, list[Token]] = field(default_factory=dict)
    removed: tuple[set[bytes], set[bytes]] = field(default_factory=lambda: (set(), set()))
    again: int = 0

    def begin_again(self) -> None:
        """Read from the beginning: ids may begin again below those that we know."""
        self.last = b"0-0"
        self.again = 3

    def forget_removed(self) -> None:
        """The removed entries grow older."""
        self.removed = (set(), self.removed[0])
        self.again = max(0, self.again - 1)

    def was_removed(self, entry: bytes) -> bool:
        """Whether an entry that comes now was taken and removed before."""
        return entry in self.removed[0] or entry in self.removed[1]


class Membership(NamedTuple):
    """What the server knows of this process' membership in a group, or in all groups that it was told of at once."""

    epoch: str = ""
    refresh_at: float = 0.0
    shard: int = 0


class Process:
    """See the module.

    :ivar id: 24 hexadecimal digits.
    :ivar records: packs and unpacks everything that lies in queues and inboxes.
    :ivar unfit: why a server of ours can't carry the layer, so that everything is refused; else empty.
    :ivar epochs: known epoch id of each virtual shard; empty before the first answer.
    :ivar present: whether this process has channels of its own, and therefore beats.
    """

    def __init__(self, ident: str, options: RedisOptions, counters: Counters, warn: LimitedLog) -> None:
        common = options.common
        self.id = ident
        self.options = options
        self.common = common
        self.counters = counters
        self.warn = warn
        self.ring = Ring(len(options.hosts))
        self.keys = Keys(common.prefix)
        self.records = records_for(common.symmetric_encryption_keys, common.prefix)
        self.servers = [Server(position, target_of(host)) for position, host in enumerate(options.hosts)]
        self.unfit = ""
        self.epochs = [""] * VIRTUAL_SHARDS
        self.inboxes = [Inbox() for _ in range(VIRTUAL_SHARDS)]
        self.memberships: dict[str, Membership] = {}
        self.holdings = Holdings(ident)
        self.present = False
        self.ack_soon: Callable[[bool], None] = lambda _urgent: None
        self.lost_memberships: Callable[[int], None] = lambda _shard: None
        self.mailbox = Mailbox(
            capacity_of=common.capacity_of,
            idle=common.expiry,
            clock=time.monotonic,
            consumed=self._consumed,
            counters=counters,
        )
        self.lock = self.mailbox.lock
        self.inbox_most = max(LEAST_INBOX, 2 * common.capacity, *(2 * many for _, many in common.channel_capacity))
        self.inbox_life = int(max(common.expiry * 2, 120) * 1000)
        self._flushed = ""
        self._ack_asked = False  # once is enough, until some are taken

    def server_of(self, shard: int) -> Server:
        """The server that owns a virtual shard."""
        return self.servers[self.ring.owners[shard]]

    # -- epochs

    def adopt(self, shard: int, text: str) -> bool:
        """Take over the epoch ``"id:created:kind"`` that a server told; ``False`` while the shard is being flushed."""
        ident, _, rest = text.partition(":")
        kind = rest.partition(":")[2]
        if kind == "flushing" or not ident:
            return False
        with self.lock:
            before = self.epochs[shard]
            if ident == before:
                return True
            self.epochs[shard] = ident
            self.inboxes[shard].begin_again()
            if kind == "flush":
                if ident != self._flushed:
                    self._flushed = ident
                    if before:
                        self.mailbox.clear()
                        self.memberships.clear()
                return True
        if before or self.present:
            self.lost_memberships(shard)
        return True

    def record_from(self, channel: str, data: bytes) -> Record:
        """Take a record apart that lay among the messages of a channel which any process may receive from.

        :raises Unreadable: if it can't be read, or was meant for another place.
        """
        record = self.records.unpack(data)
        if record.name != channel or record.kind != DIRECT:
            raise Unreadable("it was meant for another place")
        return record

    def skipped(self, error: ValueError, place: str) -> None:
        """Count and log a record that this process can't read."""
        report_unreadable(self.counters, self.warn, error, place)

    # -- acknowledgements

    def _consumed(self, channel: str, token: object, capacity: int) -> None:
        assert isinstance(token, Token)
        acks = self.inboxes[token.shard].acks
        waiting = acks.get(channel)
        if waiting is None:
            waiting = acks[channel] = []
        waiting.append(token)
        urgent = len(waiting) * 4 >= capacity
        if urgent or not self._ack_asked:
            self._ack_asked = True
            self.ack_soon(urgent)

    def take_acks(self, shard: int) -> dict[str, list[Token]]:
        """The acknowledgements that wait for a virtual shard; the caller sends them."""
        inbox = self.inboxes[shard]
        if not inbox.acks:
            return {}
        with self.lock:
            self._ack_asked = False
            acks, inbox.acks = inbox.acks, {}
        return acks

    def acked(self, shard: int, acks: dict[str, list[Token]]) -> None:
        """The server has removed them."""
        inbox = self.inboxes[shard]
        with self.lock:
            entries = [token.entry for tokens in acks.values() for token in tokens]
            inbox.unread.difference_update(entries)
            inbox.removed[0].update(entries)
            if len(inbox.removed[0]) > MOST_REMOVED:
                inbox.forget_removed()

    def forget_removed(self) -> None:
        """To be called every few seconds."""
        with self.lock:
            for inbox in self.inboxes:
                inbox.forget_removed()


def new_id() -> str:
    """A random id of 96 bits: of a sender, a reader or an epoch."""
    return secrets.token_hex(12)
