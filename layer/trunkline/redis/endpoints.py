"""Where a server is: at one address for ever, or wherever somebody says that it is at the moment."""

from __future__ import annotations

from typing import Protocol

from trunkline.config import Endpoint


class Follower(Protocol):
    """A connection, as a target sees it."""

    def leave(self, endpoint: Endpoint) -> None:
        """Break the connection if it isn't one to ``endpoint``; callable from any thread."""


class Target(Protocol):
    """One server (a shard) as connections find it. Callable from any thread and any event loop.

    :ivar label: what it is called in messages.
    :ivar guarded: whether another server may take its place: connections then make sure that they talk to a primary,
        and that it still is the one where an answer took long.
    """

    @property
    def label(self) -> str: ...

    @property
    def guarded(self) -> bool: ...

    async def find(self, follower: Follower) -> Endpoint:
        """The address to connect to; ``follower`` is told to leave when it changes.

        :raises ServerAway: if nobody knows it at the moment.
        """

    def failed(self, endpoint: Endpoint) -> None:
        """There was no connection to ``endpoint``, or it broke: ask anew before the next one."""

    def suspect(self) -> None:
        """A failover may be under way: everything is doubtful until it is certain again."""

    def doubtful(self, endpoint: Endpoint) -> bool:
        """Whether another server may have taken the place of ``endpoint``."""

    async def make_certain(self, endpoint: Endpoint) -> None:
        """Return once it is certain that ``endpoint`` is still the server.

        :raises ServerAway: if another one has taken its place.
        """


class Fixed:
    """One address."""

    guarded = False

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def __repr__(self) -> str:
        return f"<Fixed {self.label}>"

    @property
    def label(self) -> str:
        return self.endpoint.label

    async def find(self, follower: Follower) -> Endpoint:
        return self.endpoint

    def failed(self, endpoint: Endpoint) -> None:
        """There is no other."""

    def suspect(self) -> None:
        """Nobody else could take its place."""

    def doubtful(self, endpoint: Endpoint) -> bool:
        return False

    async def make_certain(self, endpoint: Endpoint) -> None:
        """It always is."""
