"""What a channel layer says it can't do, so that the contract's other promises are still checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

OPTIONS: Final = ("capacity", "channel_capacity", "expiry", "group_expiry")


@dataclass(frozen=True)
class Capabilities:
    """What the layer under test offers; a test that needs something missing is skipped, with the reason.

    Everything is expected unless it is declared away. Declare what is missing by design; what is missing by mistake
    is better left to fail.

    :ivar processes: messages travel between the processes of a machine.
    :ivar fork: the layer may be used on in a forked child of a process that used it.
    :ivar loops: one layer object serves several event loops, one after the other.
    :ivar threads: one layer object serves event loops in several threads at once.
    :ivar persistence: a message sent before anybody received from the channel is kept for its expiry.
    :ivar bytes: messages may hold byte strings; a layer that can't carry them refuses them with a TypeError.
    :ivar groups: the ``groups`` extension.
    :ivar flush: the ``flush`` extension.
    :ivar capacity: channels are bounded, and the option ``capacity`` sets the bound.
    :ivar channel_capacity: the option ``channel_capacity`` sets bounds by pattern.
    :ivar capacity_per_channel: every full name has a count of its own. (The specification lets the channels of
        one process share one.)
    :ivar expiry: unread messages expire, after the seconds of the option ``expiry``.
    :ivar group_expiry: memberships end, after the seconds of the option ``group_expiry``.
    :ivar prefix_receive: ``receive("prefix!")`` gets what is sent to any name with that prefix.
    :ivar ordered_normal_channels: a normal channel with one writer and one reader keeps the order; a layer that
        divides a channel over several servers can't.
    :ivar idle: seconds that a receive is left waiting for nothing; 0 leaves that test out.
    :ivar patience: seconds within which a message that comes at all must have come, also on a busy machine.
    :ivar reasons: for each name above that is declared away, a sentence for the skipped tests.
    """

    processes: bool = True
    fork: bool = True
    loops: bool = True
    threads: bool = True
    persistence: bool = True
    bytes: bool = True
    groups: bool = True
    flush: bool = True
    capacity: bool = True
    channel_capacity: bool = True
    capacity_per_channel: bool = True
    expiry: bool = True
    group_expiry: bool = True
    prefix_receive: bool = True
    ordered_normal_channels: bool = True
    idle: float = 6.5
    patience: float = 5.0
    reasons: Mapping[str, str] = field(default_factory=dict)

    def missing(self, name: str) -> str | None:
        """Why tests that need ``name`` can't run, or ``None`` where they can.

        :raises AttributeError: for a name that is no capability.
        """
        if getattr(self, name):
            return None
        return self.reasons.get(name) or f"this channel layer is declared without {name}"
