"""One group with many members in both processes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.link import Link
from benchmarks.load import MEMBERS, Load, message
from benchmarks.roles.common import GROUP, WARM, Members, Result, repeat_until


async def group_sender(layer: Any, link: Link, load: Load) -> Result:
    members = await _join(layer, load)
    await link.hear()
    both_warm = asyncio.gather(members.tally.warm(), link.hear())
    await members.unless_failed(repeat_until(both_warm, lambda: layer.group_send(GROUP, message(WARM))))
    await link.say("go")
    first = time.monotonic()
    for number in range(load.messages):
        await layer.group_send(GROUP, message(number))
    await members.unless_failed(members.tally.settle())
    await link.hear()
    return {"sent": load.messages * load.of(MEMBERS) * 2, "first": first, **members.tally.result()}


async def group_member(layer: Any, link: Link, load: Load) -> Result:
    members = await _join(layer, load)
    await link.say("joined")
    await members.unless_failed(members.tally.warm())
    await link.say("warm")
    await link.hear()
    await members.unless_failed(members.tally.settle())
    await link.say("done")
    return members.tally.result()


async def _join(layer: Any, load: Load) -> Members:
    members = Members(layer)
    await members.grow(load.of(MEMBERS), load.messages)
    return members
