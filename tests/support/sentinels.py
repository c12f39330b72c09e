"""Real Sentinels with the services they look after: primaries, replicas, and failovers on purpose."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

import redis

from support.flavours import Flavour
from support.servers import RedisServer, free_port

SETTLE_S = 30.0  # Sentinels find replicas and each other within a few seconds


class Service:
    """A primary with replicas, as the Sentinels know it; ``servers`` in the order in which they were started."""

    def __init__(self, name: str, servers: list[RedisServer]) -> None:
        self.name = name
        self.servers = servers

    def server(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)


class Sentinels:
    """Sentinels that look after services of one primary and ``replicas`` replicas each, as a context manager.

    :param names: of the services.
    :param sentinels: how many Sentinels; a failover needs a majority of them.
    :param password: that the Sentinels demand; empty for none.
    :param shared_server: one server is the primary of all services.
    :param down_after_ms: silence after which a primary counts as dead.
    """

    def __init__(
        self,
        *names: str,
        sentinels: int = 3,
        replicas: int = 1,
        password: str = "",
        shared_server: bool = False,
        down_after_ms: int = 1000,
    ) -> None:
        self._down_after_ms = down_after_ms
        self._shared_server = shared_server
        self.password = password
        self._names = names
        self._stack = ExitStack()
        self._replicas = replicas
        self._count = sentinels
        self.services: dict[str, Service] = {}
        self.sentinels: list[RedisServer] = []

    def __enter__(self) -> Sentinels:
        with ExitStack() as starting:
            for name in self._names:
                if self._shared_server and self.services:
                    self.services[name] = Service(name, next(iter(self.services.values())).servers)
                else:
                    self.services[name] = self._start_service(starting, name)
            for number in range(self._count):
                self.sentinels.append(self._start_sentinel(starting, number))
            self._stack = starting.pop_all()
        self._settle()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """The Sentinels as a CONFIG names them."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    def primary(self, name: str) -> RedisServer:
        """The server that the first Sentinel that lives names as the service's primary."""
        return self.services[name].server(self.primary_port(name))

    def primary_port(self, name: str) -> int:
        for sentinel in self.sentinels:
            if sentinel.running:
                with self.client(sentinel) as client:
                    return int(client.sentinel_get_master_addr_by_name(name)[1])
        raise AssertionError("no Sentinel is running")

    def fail_over(self, name: str) -> None:
        """Ask for a failover while everything is well (SENTINEL FAILOVER)."""
        with self.client(self.sentinels[0]) as client:
            client.execute_command("SENTINEL", "FAILOVER", name)

    def client(self, sentinel: RedisServer) -> redis.Redis:
        """A plain client of a Sentinel."""
        return redis.Redis(
            "127.0.0.1", sentinel.port, password=self.password or None, socket_timeout=5, decode_responses=True
        )

    def watch(self, name: str) -> Switch:
        """Note when a failover of the service is announced, from now on."""
        return Switch(self, name)

    def _start_service(self, stack: ExitStack, name: str) -> Service:
        primary = stack.enter_context(RedisServer(repl_diskless_sync_delay=0))
        servers = [primary]
        for _ in range(self._replicas):
            replica = stack.enter_context(RedisServer(repl_diskless_sync_delay=0))
            with replica.client() as client:
                client.replicaof("127.0.0.1", primary.port)
            servers.append(replica)
        return Service(name, servers)

    def _start_sentinel(self, stack: ExitStack, number: int) -> RedisServer:
        port = free_port()
        lines = [f"port {port}", "bind 127.0.0.1", 'logfile "redis.log"', "sentinel resolve-hostnames no"]
        if self.password:
            lines += [f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"]
        for name, service in self.services.items():
            lines += [
                f"sentinel monitor {name} 127.0.0.1 {service.servers[0].port} {self._count // 2 + 1}",
                f"sentinel down-after-milliseconds {name} {self._down_after_ms}",
                f"sentinel failover-timeout {name} 5000",
            ]
        return stack.enter_context(SentinelServer(port, lines))

    def _settle(self) -> None:
        """Wait until each Sentinel knows the others and all replicas; before that nobody could be promoted."""
        end = time.monotonic() + SETTLE_S
        for sentinel in self.sentinels:
            with self.client(sentinel) as client:
                while not all(self._is_known(client, name) for name in self._names):
                    assert time.monotonic() < end, "the Sentinels did not find each other and the replicas"
                    time.sleep(0.05)

    def _is_known(self, client: redis.Redis, name: str) -> bool:
        known = client.sentinel_master(name)
        assert isinstance(known, dict)
        replicas = client.sentinel_slaves(name)
        return (
            known["num-other-sentinels"] == self._count - 1
            and len(replicas) == self._replicas
            and all(replica["master-link-status"] == "ok" for replica in replicas)
        )


class SentinelServer(RedisServer):
    """One Sentinel: a server with a file of its own, in which it keeps what it knows."""

    def __init__(self, port: int, lines: list[str], flavour: Flavour | None = None) -> None:
        super().__init__(port, flavour=flavour)
        self._lines = lines

    def _command(self) -> list[str]:
        path = self.directory / "sentinel.conf"
        if not path.exists():
            path.write_text("\n".join([*self._lines, f"dir {self.directory}"]) + "\n")
        return [*self._program(), str(path), "--sentinel"]


class Switch:
    """When a Sentinel announced that a service has another primary: ``time.monotonic()`` seconds, and its port."""

    def __init__(self, sentinels: Sentinels, name: str) -> None:
        self._name = name
        self._client = sentinels.client(sentinels.sentinels[0])
        self._subscription = self._client.pubsub()
        self._subscription.subscribe("+switch-master")
        self.at = 0.0
        self.port = 0

    def look(self) -> bool:
        """Whether it was announced by now."""
        while not self.at and (message := self._subscription.get_message(timeout=0)):
            words = str(message["data"]).split(" ")
            if message["type"] == "message" and words[0] == self._name:
                self.at, self.port = time.monotonic(), int(words[4])
        return self.at > 0

    def close(self) -> None:
        self._subscription.close()
        self._client.close()

    def __enter__(self) -> Switch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
