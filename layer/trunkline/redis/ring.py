"""Which virtual shard a name lives on, and which server owns that virtual shard; pure, and the only routing there is.

Every operation asks here, so a send and the receive that waits for it can't disagree.
"""

from __future__ import annotations

from zlib import crc32

from trunkline.names import address_of

VIRTUAL_SHARDS = 12  # a constant of key schema 1: even over 2, 3, 4, 6 and 12 servers
MAX_SERVERS = VIRTUAL_SHARDS

# Hash tag i lies in the middle of the i-th of 12 equal slices of Redis Cluster's 16,384 slots.
TAGS = ("d25", "qf7", "jd2", "1mo", "h85", "ju0", "f0s", "bfa", "hft", "fey", "bwc", "hwv")

# Owner (position in ``hosts``) of each virtual shard, by the number of servers. A row differs from the one above it
# only where the new server takes over, so that adding a server moves 1/(n+1) of the virtual shards, rounded down.
_OWNERS = {
    1: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    2: (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1),
    3: (0, 0, 0, 0, 2, 2, 1, 1, 1, 1, 2, 2),
    4: (0, 0, 0, 3, 2, 2, 1, 1, 1, 3, 2, 3),
    5: (0, 0, 0, 3, 2, 2, 1, 1, 1, 3, 4, 4),
    6: (0, 0, 5, 3, 2, 2, 1, 1, 5, 3, 4, 4),
    7: (0, 0, 5, 3, 2, 2, 1, 1, 6, 3, 4, 4),
    8: (0, 0, 5, 3, 2, 2, 1, 1, 6, 3, 4, 7),
    9: (0, 0, 5, 3, 2, 2, 1, 1, 6, 8, 4, 7),
    10: (0, 0, 5, 3, 2, 9, 1, 1, 6, 8, 4, 7),
    11: (0, 0, 5, 3, 2, 9, 1, 10, 6, 8, 4, 7),
    12: (0, 11, 5, 3, 2, 9, 1, 10, 6, 8, 4, 7),
}


class Ring:
    """The places of names for a given number of servers (1 to 12)."""

    def __init__(self, servers: int) -> None:
        self.servers = servers
        self.owners = _OWNERS[servers]
        self.owned = tuple(
            tuple(shard for shard in range(VIRTUAL_SHARDS) if self.owners[shard] == server) for server in range(servers)
        )
        self.fingerprint = f"1:{servers}"

    def group_shard(self, group: str) -> int:
        """The virtual shard of a group: as ``shard``, quicker."""
        return crc32(group.encode("ascii")) % VIRTUAL_SHARDS

    def shard(self, name: str) -> int:
        """The virtual shard of a group or of a process-specific channel.

        Channels of one process are spread over the servers, and lie together on each: what one process sends to another
        and what that acknowledges is one script call for each server.
        """
        place = crc32(name.encode("ascii")) % VIRTUAL_SHARDS
        address = address_of(name)
        if address is None or address.process is None:
            return place
        return self.queue_shard(address.process, self.owners[place])

    def queue_shard(self, name: str, server: int) -> int:
        """The virtual shard of ``server`` that holds its list of a normal channel, or its part of a process' inbox."""
        owned = self.owned[server]
        return owned[crc32(name.encode("ascii")) % len(owned)]
