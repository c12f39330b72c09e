"""Runs in a process of another release: says which code it is, then serves a layer as other peers do."""

from __future__ import annotations

import trunkline
from trunkline.conformance.child import Link
from trunkline.conformance.peers import serve


async def tell_and_serve(link: Link, path: str, config: str) -> None:
    """See the module; ``path`` and ``config`` as :func:`trunkline.conformance.peers.serve` takes them."""
    link.tell(trunkline.__file__)
    await serve(link, path, config)
