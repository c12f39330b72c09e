"""What one process knows of its own channels without looking into the store; no I/O.

Nobody else receives from a process' own channels. So where its doorbell is registered at an empty one, the channel
stays empty until the doorbell is rung for it; and what it takes out ahead of a receiver that was woken is its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable

from trunkline.ipc.keys import head_of


class Ahead:
    """Channels known to be empty, and messages on their way to receivers. Not thread-safe."""

    def __init__(self) -> None:
        self._quiet: dict[str, bytes] = {}  # channel -> the doorbell that will be rung for it
        self._taken: dict[str, deque[tuple[int, bytes]]] = {}  # deadlines (ns), and what was stored
        self._heads: set[str] = set()

    def __contains__(self, channel: object) -> bool:
        return channel in self._taken

    def quiet(self, channel: str, bell: bytes) -> bool:
        """Whether nothing has come to ``channel`` that ``bell`` will not be rung for."""
        return self._quiet.get(channel) == bell and channel not in self._taken

    def surely_empty(self, channel: str, rung: Container[bytes]) -> bool:
        """Whether nothing of ``channel`` lies in the store, after the doorbells ``rung`` were listened to."""
        return self._quiet.get(channel) in rung

    def keeps(self, channel: str) -> bool:
        """Whether a doorbell may be left at the channel, and messages taken ahead.

        Not where receivers of ``"prefix!"`` take part: they may wait in another loop than the one that is rung.
        """
        return head_of(channel) not in self._heads

    def set_quiet(self, channel: str, bell: bytes) -> None:
        """The channel is empty, and ``bell`` is registered at it."""
        self._quiet[channel] = bell

    def rung(self, channel: str) -> None:
        """The channel may hold something, or no doorbell is registered there."""
        self._quiet.pop(channel, None)

    def forget_quiet(self) -> None:
        """Every channel may hold something."""
        self._quiet.clear()

    def shares(self, head: str) -> bool:
        """Whether receivers of ``head`` take part."""
        return head in self._heads

    def share(self, head: str) -> None:
        """Receivers of ``head`` take part from now on."""
        self._heads.add(head)

    def put(self, channel: str, deadline: int, data: bytes) -> None:
        """A message was taken out of the store for a receiver that was woken."""
        self._taken.setdefault(channel, deque()).append((deadline, data))

    def count(self, channel: str) -> int:
        """How many messages of the channel are on their way."""
        taken = self._taken.get(channel)
        return len(taken) if taken else 0

    def take(self, channel: str) -> tuple[int, bytes] | None:
        """The first message on its way; it may have expired."""
        taken = self._taken.get(channel)
        if taken is None:
            return None
        item = taken.popleft()
        if not taken:
            del self._taken[channel]
        return item

    def take_last(self, channel: str) -> tuple[int, bytes] | None:
        """The last message on its way, to put it back."""
        taken = self._taken.get(channel)
        if taken is None:
            return None
        item = taken.pop()
        if not taken:
            del self._taken[channel]
        return item

    def left(self) -> Iterable[str]:
        """The channels with messages on their way."""
        return list(self._taken)

    def clear(self) -> None:
        """Forget the messages (``flush``)."""
        self._taken.clear()
