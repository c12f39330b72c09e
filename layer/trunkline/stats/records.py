"""What the statistics of a layer say, as records; docs/reference/statistics.md explains each field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LayerStatistics", "ProcessStatistics", "ShardStatistics", "Statistics"]


@dataclass(frozen=True)
class Statistics:
    """Of all channels together, or of one. The first five are those that asgi_redis had.

    :ivar messages_count: messages sent since the counts began: by ``send`` one each, and by ``group_send`` one each,
        whatever the number of members (the latter in the totals only).
    :ivar messages_count_per_second: the same per second, over the last ten seconds or so.
    :ivar messages_pending: messages that lie on the servers and were not received yet.
    :ivar messages_max_age: seconds since the oldest of them was sent; 0.0 if there is none.
    :ivar channel_full_count: sends refused with ``ChannelFull``.
    :ivar group_messages_count: how many of the messages were group sends.
    :ivar received_count: messages that ``receive`` returned; one for each member of a group.
    :ivar group_dropped_count: messages of groups that a full member missed.
    :ivar expired_count: messages that were found to have expired.
    :ivar unreadable_count: records that were skipped: garbage, of a newer release, or not to be opened by our keys.
    """

    messages_count: int = 0
    messages_count_per_second: float = 0.0
    messages_pending: int = 0
    messages_max_age: float = 0.0
    channel_full_count: int = 0
    group_messages_count: int = 0
    received_count: int = 0
    group_dropped_count: int = 0
    expired_count: int = 0
    unreadable_count: int = 0


@dataclass(frozen=True)
class ProcessStatistics:
    """Of one layer object in one process, since it was first used there.

    :ivar process: the process id in the names of its channels, 24 hexadecimal digits.
    :ivar host: name of the machine or container.
    :ivar pid: number of the process there.
    :ivar program: the file that was started, without its folder and arguments.
    :ivar age: seconds since the layer was first used.
    :ivar reported: seconds since it reported last; about 1 while there is traffic, and up to 6 without.
    :ivar messages_count_per_second: messages sent per second, between its last two reports.
    :ivar unread: messages that it holds in memory for its own channels.
    """

    process: str
    host: str
    pid: int
    program: str
    age: float
    reported: float
    messages_count: int
    messages_count_per_second: float
    channel_full_count: int
    group_messages_count: int
    received_count: int
    group_dropped_count: int
    expired_count: int
    unreadable_count: int
    unread: int


@dataclass(frozen=True)
class ShardStatistics:
    """Of one server.

    :ivar position: its place in ``hosts``, from 0.
    :ivar label: host and port, never a password.
    :ivar problem: why it could not be asked, in which case the rest is 0; else empty.
    :ivar messages_pending, messages_max_age: as in ``Statistics``, of this server.
    :ivar processes: live processes with channels of their own.
    :ivar round_trip: seconds from a question to its answer.
    :ivar version: of the server; empty if it doesn't tell (INFO may be forbidden to us).
    :ivar memory: bytes that the server uses, for everybody; 0 if it doesn't tell.
    :ivar clients: connections to the server, of everybody; 0 if it doesn't tell.
    """

    position: int
    label: str
    problem: str = ""
    messages_pending: int = 0
    messages_max_age: float = 0.0
    processes: int = 0
    round_trip: float = 0.0
    version: str = ""
    memory: int = 0
    clients: int = 0


@dataclass(frozen=True)
class LayerStatistics:
    """Everything at once, as ``trunkline stats`` shows it.

    :ivar total: of all channels together.
    :ivar channels: by name; process-specific ones under their prefix, as ``specific!``.
    :ivar processes: those that reported within the last minute, oldest first.
    :ivar shards: the servers, in the order of ``hosts``.
    :ivar counted: whether the counts could be read; they lie on the first server, and are 0 where it is away.
    """

    total: Statistics
    channels: Mapping[str, Statistics]
    processes: tuple[ProcessStatistics, ...]
    shards: tuple[ShardStatistics, ...]
    counted: bool = True
