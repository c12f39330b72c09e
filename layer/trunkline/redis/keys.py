"""The only builder of key names: ``tl1:<prefix>:{tag}:<kind>[:<name>]``, schema 1."""

from __future__ import annotations

from trunkline.redis.ring import TAGS, VIRTUAL_SHARDS

SCHEMA = "tl1"


class Keys:
    """Key names of one prefix.

    :param prefix: free of braces (they would move the hash tag); the configuration sees to that.
    """

    def __init__(self, prefix: str) -> None:
        self._root = f"{SCHEMA}:{prefix}:"
        self._bases = tuple(f"{self._root}{{{TAGS[shard]}}}:" for shard in range(VIRTUAL_SHARDS))

    def base(self, shard: int) -> str:
        """What all keys of a virtual shard begin with."""
        return self._bases[shard]

    def key(self, shard: int, kind: str, name: str = "") -> str:
        """``kind`` as listed in docs/explanation/redis.md; ``name`` where a kind has one."""
        return f"{self._bases[shard]}{kind}:{name}" if name else f"{self._bases[shard]}{kind}"

    def canary(self, shard: int) -> str:
        """A key that never exists; second declared key of every script."""
        return f"{self._bases[shard]}canary"

    @property
    def pattern(self) -> str:
        """SCAN pattern of every key of this prefix; glob characters in the prefix are escaped."""
        return "".join("\\" + char if char in "*?[]\\^-" else char for char in self._root) + "*"
