"""Counting: every client numbers what it sends, and afterwards nothing may be missing, doubled or out of order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Message = dict[str, Any]


class Ledger:
    """What was sent and what was received, by channel and client."""

    def __init__(self) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self.received: dict[tuple[str, str], list[int]] = defaultdict(list)

    def next(self, channel: str, client: str) -> Message:
        """The next message of ``client`` on ``channel``; call :meth:`count` when its send returned."""
        return {"type": "test.numbered", "client": client, "number": self.sent[channel, client]}

    def count(self, channel: str, client: str, number: int = 1) -> None:
        self.sent[channel, client] += number

    def take(self, channel: str, message: Mapping[str, Any]) -> None:
        """Note a received message."""
        self.received[channel, message["client"]].append(message["number"])

    def take_all(self, channel: str, messages: Iterable[Mapping[str, Any]]) -> None:
        for message in messages:
            self.take(channel, message)

    @property
    def missing(self) -> int:
        return self.sent.total() - sum(len(set(numbers)) for numbers in self.received.values())

    def check(self, *, in_order: Iterable[str] = (), at_least: int = 1) -> None:
        """Assert that all that was sent was received once, and in order on the channels ``in_order``.

        :param at_least: how many messages each client must have sent on each channel, for the test to show anything.
        """
        assert self.sent, "nothing was sent"
        for (channel, client), sent in self.sent.items():
            numbers = self.received[channel, client]
            lost = sorted(set(range(sent)) - set(numbers))
            doubled = [number for number, times in Counter(numbers).items() if times > 1]
            what = f"{client} on {channel}: of {sent} messages"
            assert not lost, f"{what} {len(lost)} were lost, the first ones {lost[:10]}"
            assert not doubled, f"{what} {len(doubled)} were doubled, the first ones {sorted(doubled)[:10]}"
            assert numbers == sorted(numbers) or channel not in in_order, f"{what} some came out of order"
            assert sent >= at_least, f"{what} too few to show anything"
        unknown = self.received.keys() - self.sent.keys()
        assert not unknown, f"messages of nobody: {unknown}"
