"""Messages that were taken and stay on their server until they are done: what this process holds of them.

A ticket is alive as long as somebody can still say that its message is done. What the server keeps for this process
without a living ticket was lost on the way (a loop that was closed, a delivery that nobody kept), and is given again.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """Where messages of a channel are held."""

    channel: str
    shard: int


class Ticket:
    """One message that is held for this process.

    :ivar entry: its id in the stream of held messages.
    :ivar deliveries: how often it was given to a reader, this time included.
    :ivar seen: whether the application received it.
    :ivar settled: whether its server knows what became of it.
    """

    __slots__ = ("__weakref__", "consumer", "deliveries", "entry", "place", "seen", "settled")

    def __init__(self, place: Place, consumer: str, entry: bytes, deliveries: int) -> None:
        self.place = place
        self.consumer = consumer
        self.entry = entry
        self.deliveries = deliveries
        self.seen = self.settled = False


class Holdings:
    """The tickets of a process; may be used from any thread.

    :ivar consumer: the name under which servers hold messages for this process: its id, and a part of its own for each
        time that the layer is opened, so that what an earlier one left is not taken for held.
    """

    def __init__(self, process: str) -> None:
        self.consumer = f"{process}.{secrets.token_hex(4)}"
        self._places: dict[Place, dict[bytes, weakref.ref[Ticket]]] = {}
        self._lock = threading.RLock()  # finalizers run anywhere

    def attend(self, channel: str, shards: Iterable[int]) -> None:
        """Look after these places from now on."""
        with self._lock:
            for shard in shards:
                self._places.setdefault(Place(channel, shard), {})

    def ticket(self, channel: str, shard: int, entry: bytes, deliveries: int) -> Ticket:
        """A ticket for a message that a server gave."""
        place = Place(channel, shard)
        ticket = Ticket(place, self.consumer, entry, deliveries)
        with self._lock:
            self._places.setdefault(place, {})[entry] = weakref.ref(ticket)
        return ticket

    @property
    def places(self) -> list[Place]:
        """What this process looks after."""
        with self._lock:
            return list(self._places)

    def open(self, place: Place) -> list[Ticket]:
        """The tickets of a place that are alive and not settled."""
        with self._lock:
            refs = self._places[place]
            alive = [ticket for ref in refs.values() if (ticket := ref()) is not None and not ticket.settled]
            self._places[place] = {ticket.entry: refs[ticket.entry] for ticket in alive}
        return alive
