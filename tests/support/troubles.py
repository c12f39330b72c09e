"""Things that go wrong with a real server, and right again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import redis

from support.disk import fill_up, small_disk
from support.servers import RedisServer


def until(true: Callable[[], object], deadline_s: float = 15.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.02)


class Trouble:
    """Something that goes wrong with a server, and right again.

    :ivar word: of the server's answers while it lasts.
    """

    word = ""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.server = self.start()

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> RedisServer:
        return self.open()

    def open(self, **conf: Any) -> RedisServer:
        return self._stack.enter_context(RedisServer(**conf))

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def config(self, **settings: str | int) -> None:
        with self.server.client() as client:
            for name, value in settings.items():
                client.config_set(name.replace("_", "-"), value)


class OutOfMemory(Trouble):
    word = "OOM"

    def begin(self) -> None:
        self.config(maxmemory=1)

    def end(self) -> None:
        self.config(maxmemory=0)


class FullDiskUnderTheLog(Trouble):
    """Its append-only file can't be written."""

    word = "MISCONF"

    def start(self) -> RedisServer:
        self._disk = self._stack.enter_context(small_disk(16))
        return self.open(directory=self._disk, appendonly="yes", appendfsync="everysec")

    def begin(self) -> None:
        self._ballast = fill_up(self._disk)
        with self.server.client() as client:
            for number in range(1_000):  # it notices when it next writes
                try:
                    client.set("ballast", number)
                except redis.ResponseError:
                    return
                time.sleep(0.02)

    def end(self) -> None:
        self._ballast.unlink()


class FullDiskUnderTheSnapshot(Trouble):
    """Its snapshot can't be written."""

    word = "MISCONF"

    def start(self) -> RedisServer:
        self._disk = self._stack.enter_context(small_disk(16))
        server = self.open(directory=self._disk)
        with server.client() as client:
            client.config_set("save", "3600 1")
        return server

    def begin(self) -> None:
        self._ballast = fill_up(self._disk)
        self._save("err")

    def end(self) -> None:
        self._ballast.unlink()
        self._save("ok")

    def _save(self, wanted: str) -> None:
        with self.server.client() as client:
            client.bgsave()
            until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == wanted)


class Replica(Trouble):
    """It hands over to its replica, and gets its place back."""

    word = "READONLY"

    def start(self) -> RedisServer:
        server, self._other = self.open(repl_diskless_sync_delay=0), self.open(repl_diskless_sync_delay=0)
        with self._other.client() as client:
            client.replicaof("127.0.0.1", server.port)
        self._until_online(server)
        return server

    def begin(self) -> None:
        self._hand_over(self.server, self._other)

    def end(self) -> None:
        self._until_online(self._other)
        self._hand_over(self._other, self.server)

    def _hand_over(self, source: RedisServer, target: RedisServer) -> None:
        with source.client() as client:
            client.execute_command("FAILOVER", "TO", "127.0.0.1", target.port)
            until(lambda: client.info("replication")["role"] == "slave")

    def _until_online(self, server: RedisServer) -> None:
        with server.client() as client:
            until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")


class Loading(Trouble):
    """It was started again, and reads a long append-only file."""

    word = "LOADING"

    def start(self) -> RedisServer:
        server = self.open(appendonly="yes", aof_use_rdb_preamble="no", auto_aof_rewrite_percentage=0)
        with server.client() as client:
            client.eval("for i = 1, 20000 do redis.call('SET', 'ballast:' .. i, i) end", 0)
        return server

    def begin(self) -> None:
        self.server.stop()
        # Microseconds for each command; while it loads, a server answers after every 1,024 of them.
        self._starting = threading.Thread(target=lambda: self.server.start(key_load_delay=100))
        self._starting.start()

    def end(self) -> None:
        self.config(key_load_delay=0)  # a busy machine would take many times as long for the rest
        self._starting.join()


class Refuses(Trouble):
    """It closed all connections, and takes no new ones."""

    word = "max number of clients"

    def begin(self) -> None:
        self._admin = self._stack.enter_context(self.server.client())
        self._usual = self._admin.config_get("maxclients")["maxclients"]
        self._admin.config_set("maxclients", 1)
        self._admin.client_kill_filter(skipme=True)

    def end(self) -> None:
        self._admin.config_set("maxclients", self._usual)


class WrongPassword(Trouble):
    """The user's password was changed, and its connections were closed; later the old one holds again."""

    word = "invalid username-password pair"

    def start(self) -> RedisServer:
        server = self.open()
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "on", ">right", "~*", "+@all")
        return server

    @property
    def url(self) -> str:
        return self.server.url.replace("redis://", "redis://app:right@")

    def begin(self) -> None:
        with self.server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
            client.execute_command("CLIENT", "KILL", "USER", "app")

    def end(self) -> None:
        with self.server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "resetpass", ">right")


TROUBLES = (
    OutOfMemory,
    FullDiskUnderTheLog,
    FullDiskUnderTheSnapshot,
    Replica,
    Loading,
    Refuses,
    WrongPassword,
)
