"""Real processes for tests; the machinery is the one that the conformance plugin carries."""

from __future__ import annotations

from trunkline.conformance.peers import Peer, PeerError, Peers
from trunkline.conformance.processes import Child, ChildEnded

__all__ = ["Child", "ChildEnded", "Peer", "PeerError", "Peers"]
