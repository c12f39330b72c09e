"""Fixtures for every kind of test: servers, proxies and processes that always get cleaned up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.processes import Peers
from support.proxy import Proxy
from support.runworker import WorkerProcess
from support.servers import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[list[RedisServer]]:
    """Three Redis servers for the whole run. Use a prefix of your own, never flush or stop them."""
    with ExitStack() as stack:
        yield [stack.enter_context(RedisServer()) for _ in range(3)]


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """A function that starts one more Redis server, which this test owns alone."""
    with ExitStack() as stack:

        def start(**conf: Any) -> RedisServer:
            return stack.enter_context(RedisServer(**conf))

        yield start


@pytest.fixture
def redis_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis server that this test owns alone."""
    return start_redis()


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., Proxy]]:
    """A function that puts a failing proxy before a server: ``start_proxy(server, seed=1)``."""
    with ExitStack() as stack:

        def start(server: RedisServer, *, seed: int = 0) -> Proxy:
            return stack.enter_context(Proxy(server.port, seed=seed))

        yield start


@pytest.fixture
def worker(tmp_path: Path, shared_redis: list[RedisServer]) -> Iterator[Callable[..., WorkerProcess]]:
    """A function that starts one more `runworker`: ``worker("channel", VARIABLE="value")``."""
    started: list[WorkerProcess] = []

    def start(*arguments: str, **options: Any) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, shared_redis[0], *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest_asyncio.fixture
async def peers() -> AsyncIterator[Peers]:
    """Starts other processes with a channel layer; ends them after the test."""
    async with Peers() as started:
        yield started
