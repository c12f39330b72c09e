"""Plain loops that send the Redis layer's own commands and do nothing else: what a layer on top can't beat.

No retries, no memberships, no capacity of members, no expiry on receive, no tasks of receivers, no cancellation. The
messages are packed and unpacked as the layer does, and what is promised of a server's side is kept: it runs the same
scripts.
"""

from benchmarks.bare.lines import HiredisLine, Line, RedisPyLine
from benchmarks.bare.member import Member

__all__ = ["HiredisLine", "Line", "Member", "RedisPyLine", "over_hiredis", "over_redis_py"]


def over_redis_py(url: str) -> Member:
    """Over redis-py's own asyncio client; a thread without an event loop sends over its blocking one."""
    return Member(RedisPyLine(url), RedisPyLine(url))


def over_hiredis(url: str) -> Member:
    """Over blocking sockets, with hiredis to pack and parse."""
    return Member(HiredisLine(url), HiredisLine(url))
