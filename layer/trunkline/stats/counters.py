"""What one layer object counts in one process: plain integers, by channel.

They are counted from several threads without a lock: ``tally.sent += 1`` is one uninterrupted step in CPython, whose
threads take turns at calls and at the ends of loops only.
"""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.names import address_of
from trunkline.stats.journal import Journal

COUNTED = ("sent", "received", "full", "dropped", "expired")  # the fields of a tally, in the order of reports
TOTAL = ""  # the name of the totals in reports
OTHER = "(other)"  # counts what belongs to no channel, and channels beyond the bound; no channel can have this name

MOST_NAMES = 500  # names that are counted apart; whoever makes a name for each message shall not fill the memory
MOST_KNOWN = 20_000  # full names whose tally is remembered


class Tally:
    """Totals of one channel, or of all process-specific channels of one prefix.

    :ivar sent: messages that ``send`` put there; those of groups are not among them.
    :ivar received: messages returned by ``receive``, those of groups included.
    :ivar full: sends refused with ``ChannelFull``.
    :ivar dropped: messages of groups that it missed because it was full.
    :ivar expired: messages whose expiry had passed before anybody received them.
    """

    __slots__ = COUNTED

    def __init__(self) -> None:
        self.sent = self.received = self.full = self.dropped = self.expired = 0

    def __repr__(self) -> str:
        return f"<Tally {' '.join(f'{name}={getattr(self, name)}' for name in COUNTED)}>"

    def values(self) -> tuple[int, ...]:
        """In the order of ``COUNTED``."""
        return self.sent, self.received, self.full, self.dropped, self.expired


class Counters:
    """Totals of one layer object in one process since it was first used.

    :ivar group_sent: messages accepted by ``group_send``.
    :ivar garbage: records that could not be understood and were skipped.
    :ivar unknown_version: records of a newer release's version, skipped.
    :ivar undecryptable: records that the keys of this process don't open, or that are in the clear where it has keys,
        skipped.
    :ivar journal: makes reports of them.
    :ivar tallies: by name as ``counted_name`` has it; only ever grows, to ``MOST_NAMES`` names and ``OTHER``.
    """

    def __init__(self) -> None:
        self.clear()

    def __repr__(self) -> str:
        return (
            f"<Counters sent={self.sent} group_sent={self.group_sent} received={self.received} full={self.full} "
            f"group_dropped={self.group_dropped} expired={self.expired} unreadable={self.unreadable}>"
        )

    def clear(self) -> None:
        """Begin anew: a forked child counts for itself."""
        self.group_sent = 0
        self.garbage = 0
        self.unknown_version = 0
        self.undecryptable = 0
        self.other = Tally()
        self.tallies: dict[str, Tally] = {OTHER: self.other}
        self._known: dict[str, Tally] = {}
        self.journal = Journal(self._values)

    def of(self, channel: str) -> Tally:
        """Where a channel is counted."""
        return self._known.get(channel) or self._enrol(channel)

    def _enrol(self, channel: str) -> Tally:
        name = counted_name(channel)
        tally = self.tallies.get(name)
        if tally is None:
            tally = self.other if len(self.tallies) > MOST_NAMES else self.tallies.setdefault(name, Tally())
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[channel] = tally
        return tally

    @property
    def sent(self) -> int:
        """Messages accepted by ``send``."""
        return self._total("sent")

    @property
    def received(self) -> int:
        """Messages returned by ``receive``."""
        return self._total("received")

    @property
    def full(self) -> int:
        """Sends refused with ``ChannelFull``."""
        return self._total("full")

    @property
    def group_dropped(self) -> int:
        """Deliveries to one member that was full, or to an inbox that was."""
        return self._total("dropped")

    @property
    def expired(self) -> int:
        """Messages whose expiry had passed before anybody received them."""
        return self._total("expired")

    @property
    def unreadable(self) -> int:
        """Records that were skipped, for whatever reason."""
        return self.garbage + self.unknown_version + self.undecryptable

    def total(self) -> Tally:
        """All channels together."""
        total = Tally()
        for name in COUNTED:
            setattr(total, name, self._total(name))
        return total

    def _values(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        totals = [0] * len(COUNTED)
        for name, tally in list(self.tallies.items()):
            values = tally.values()
            totals = [total + value for total, value in zip(totals, values, strict=True)]
            yield name, (*values, 0, 0)
        yield TOTAL, (*totals, self.group_sent, self.unreadable)

    def _total(self, field: str) -> int:
        return sum(getattr(tally, field) for tally in list(self.tallies.values()))


def counted_name(channel: str) -> str:
    """The name that a channel is counted by: process-specific ones by their prefix, as ``specific!``."""
    address = address_of(channel)
    if address is None:
        return channel
    if address.process is None:
        return address.head
    return address.head[: -len(address.process) - 2] + "!"
