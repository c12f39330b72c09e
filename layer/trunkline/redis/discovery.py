"""Asking the Sentinels which services there are, where the configuration doesn't say."""

from __future__ import annotations

import asyncio
import time

from trunkline.config import MAX_HOSTS, SentinelService
from trunkline.errors import ConfigurationError, LayerUnavailable
from trunkline.redis.replies import ServerAway
from trunkline.redis.sentinel import ASK_WITHIN, STRAGGLERS, service_names

PAUSE = 0.25  # seconds between two attempts of a process
LOOK_AGAIN = 0.02  # seconds between two looks at another one's attempt


class Discovery:
    """The services of one layer object, asked for until they are known; for any event loop.

    :param retry_time: seconds for which an operation waits, counted from when the Sentinels were first missed.
    """

    def __init__(self, nameless: SentinelService, retry_time: float) -> None:
        self._nameless = nameless
        self._retry_time = retry_time
        self._names: tuple[str, ...] = ()
        self._busy_until = 0.0
        self._tried = 0.0
        self._missed_since: float | None = None
        self._problem = ""

    async def names(self, *, patient: bool) -> tuple[str, ...]:
        """The names, sorted.

        :param patient: wait for as long as it takes.
        :raises LayerUnavailable: if no Sentinel named any for the retry time.
        :raises ConfigurationError: if there are more than the layer can use.
        """
        began = time.monotonic()
        while not self._names:
            now, since = time.monotonic(), self._missed_since
            if not patient and since is not None and now - since >= self._retry_time and self._tried >= began:
                raise LayerUnavailable(
                    f"The services to use have been unknown for more than {self._retry_time:g} s: {self._problem}."
                )
            if now >= self._busy_until:
                await self._try()
            else:
                await asyncio.sleep(LOOK_AGAIN)
        return self._names

    async def _try(self) -> None:
        began = time.monotonic()
        self._busy_until = began + ASK_WITHIN + 2 * STRAGGLERS  # for others; an event loop may close in the middle
        pause = 0.0
        try:
            names = await service_names(self._nameless.sentinels)
            if len(names) > MAX_HOSTS:
                raise ConfigurationError(
                    f"The Sentinels know {len(names)} services, and at most {MAX_HOSTS} can be used: name them in "
                    "the option 'services'."
                )
            self._names = names
        except ServerAway as error:
            self._problem, pause = str(error), PAUSE
            if self._missed_since is None:
                self._missed_since = began
        finally:
            self._tried = time.monotonic()
            self._busy_until = self._tried + pause
