"""Work that other threads hand to the reactor's event loop: one wake-up for all that came since it looked last.

The sends of several threads so share a wake-up, and a pipeline. A piece of work is a coroutine, driven without a task
of its own, and whoever waits for it waits at a lock, or at a future of its own loop: no chain of futures between.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from trunkline.errors import LayerUnavailable
from trunkline.redis.engine import Engine

T = TypeVar("T")


class Errand(Generic[T]):
    """One coroutine for the reactor.

    The coroutine may wait for futures of the loop only, which is all that a send waits for; a task inside is its own.

    :param work: makes the coroutine, in the reactor.
    :param ended: called in the reactor when ``result`` can be asked.
    """

    __slots__ = ("_coroutine", "_ended", "_error", "_over", "_result", "_waits_for", "_work", "dropped")

    def __init__(self, work: Callable[[Engine], Coroutine[Any, Any, T]], ended: Callable[[], None]) -> None:
        self._work: Callable[[Engine], Coroutine[Any, Any, T]] | None = work
        self._ended = ended
        self._over: Callable[[Errand[T]], None] | None = None
        self._coroutine: Coroutine[Any, Any, T] | None = None
        self._waits_for: asyncio.Future[Any] | None = None
        self._result: T | None = None
        self._error: BaseException | None = None
        self.dropped = False

    def result(self) -> T:
        """What the coroutine returned, or its error."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # no cycle of error, traceback and frame
        return self._result  # type: ignore[return-value]

    def begin(self, engine: Engine, over: Callable[[Errand[T]], None]) -> bool:
        """Start; returns whether it goes on, and then calls ``over`` at its end."""
        work, self._work = self._work, None  # it holds the layer, which shall go when its user lets it
        if self.dropped or work is None:
            return False
        self._coroutine, self._over = work(engine), over
        return self._step()

    def _step(self) -> bool:
        assert self._coroutine is not None
        try:
            future = self._coroutine.send(None)
        except StopIteration as end:
            self._result = end.value
        except BaseException as error:
            self._error = error
        else:
            if asyncio.isfuture(future):
                future._asyncio_future_blocking = False  # as a task tells a future that it was heard
                self._waits_for = future
                future.add_done_callback(self._resume)
                return True
            self._coroutine.close()
            self._error = RuntimeError(f"an errand waits for futures only, not for {future!r}")
        self._coroutine = self._waits_for = None
        self._ended()
        return False

    def _resume(self, _: asyncio.Future[Any]) -> None:
        if self._waits_for is None or self._step():
            return
        assert self._over is not None
        self._over(self)

    def drop(self) -> None:
        """Nobody waits any more: what was not sent yet is not sent. To be called in the reactor."""
        self.dropped = True
        if self._waits_for is not None:
            self._waits_for.cancel()

    def fail(self, error: BaseException) -> None:
        """End it with an error, wherever it is."""
        coroutine, future = self._coroutine, self._waits_for
        self._coroutine = self._waits_for = self._work = None
        if coroutine is not None:
            coroutine.close()
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()  # nobody else looks at it, and nobody shall be told of that
        self._error = error
        self._ended()


class Handover:
    """What is on its way to the reactor, and under way there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._handed: deque[Errand[Any]] = deque()
        self._under_way: set[Errand[Any]] = set()
        self._woken = False

    def __repr__(self) -> str:
        return f"<Handover {len(self._handed)} handed, {len(self._under_way)} under way>"

    def hand(self, errand: Errand[Any]) -> None:
        """Let the reactor begin it. Callable from any thread, as long as the reactor was not asked to stop."""
        self._handed.append(errand)
        if not self._woken:
            self._woken = True
            self._engine.loop.call_soon_threadsafe(self._begin)

    def drop(self, errand: Errand[Any]) -> None:
        """Nobody waits for it any more. Callable from any thread, at any time."""
        errand.dropped = True
        try:
            self._engine.loop.call_soon_threadsafe(errand.drop)
        except RuntimeError:  # the reactor has ended, and with it all that was under way
            pass

    def _begin(self) -> None:
        self._woken = False  # before the look: what comes after it wakes again
        while self._handed:
            errand = self._handed.popleft()
            if errand.begin(self._engine, self._under_way.discard):
                self._under_way.add(errand)

    def end(self) -> None:
        """The reactor ends, and nothing is handed over any more: nobody shall wait for ever."""
        left, self._under_way = [*self._handed, *self._under_way], set()
        self._handed.clear()
        for errand in left:
            errand.fail(LayerUnavailable("The layer was closed before the message could be sent."))


def wait_in_thread(hand: Callable[[Errand[T]], Handover], work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
    """Hand ``work`` over and block the calling thread until it is done."""
    lock = threading.Lock()
    lock.acquire()
    errand = Errand(work, lock.release)
    handover = hand(errand)
    try:
        lock.acquire()
    except BaseException:  # Ctrl-C
        handover.drop(errand)
        raise
    return errand.result()


async def wait_in_loop(hand: Callable[[Errand[T]], Handover], work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
    """Hand ``work`` over and wait in the running loop, which is not the reactor's, until it is done."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not done.done():
            done.set_result(None)

    def ended() -> None:
        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:  # its loop was closed meanwhile
            pass

    errand = Errand(work, ended)
    handover = hand(errand)
    try:
        await done
    except BaseException:
        handover.drop(errand)
        raise
    return errand.result()
