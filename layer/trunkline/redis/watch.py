"""Listening to Sentinels: a failover is followed when they announce it, and looked for when nobody says anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from trunkline.config import Endpoint
from trunkline.redis.connections import Wire
from trunkline.redis.endpoints import Fixed, Target
from trunkline.redis.replies import ServerAway
from trunkline.redis.sentinel import Primary

PING_EVERY = 3.0  # seconds; a Sentinel that is silent for two of them is connected to anew
RETRY_EVERY = 1.0  # seconds between two attempts to reach a Sentinel
LEAST_REFRESH = 1.0  # seconds; new connections may ask more often, standing ones are looked after at this rate

BEGINS = "+try-failover"
SWITCHED = "+switch-master"


class Watch:
    """Looks after the primaries among ``targets`` until it is cancelled; does nothing where there are none."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self._primaries = [target for target in targets if isinstance(target, Primary)]

    async def run(self) -> None:
        """Listen to each Sentinel, and ask them all every now and then."""
        sentinels: dict[Endpoint, list[Primary]] = {}
        for primary in self._primaries:
            for sentinel in primary.service.sentinels:
                sentinels.setdefault(sentinel, []).append(primary)
        work = [self._listen(sentinel, primaries) for sentinel, primaries in sentinels.items()]
        work += [self._refresh(primary) for primary in self._primaries]
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self, primary: Primary) -> None:
        while True:
            await asyncio.sleep(max(LEAST_REFRESH, primary.service.refresh_interval))
            await primary.refresh()

    async def _listen(self, sentinel: Endpoint, primaries: list[Primary]) -> None:
        names = {primary.service.name: primary for primary in primaries}

        def hear(channel: str, text: str) -> None:
            words = text.split(" ")
            if channel == SWITCHED and len(words) == 5 and (primary := names.get(words[0])):
                primary.switched(words[3], int(words[4]))  # <name> <old host> <old port> <host> <port>
            elif channel == BEGINS and len(words) > 1 and (primary := names.get(words[1])):
                primary.suspect()  # master <name> <host> <port>

        wire = Wire(Fixed(sentinel))
        try:
            while True:
                try:
                    await wire.connect()
                    await wire.listen((BEGINS, SWITCHED), hear, PING_EVERY)
                except ServerAway:
                    await asyncio.sleep(RETRY_EVERY)
        finally:
            await wire.close()
