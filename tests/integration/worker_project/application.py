"""Consumers that write down what they do, into the file that WORKER_PROJECT_DIARY names."""

import asyncio
import os
import time
from typing import Any

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter


def note(line: str) -> None:
    with open(os.environ["WORKER_PROJECT_DIARY"], "a", encoding="utf-8") as diary:
        diary.write(line + "\n")


class Waiting(AsyncConsumer):
    async def job(self, message: dict[str, Any]) -> None:
        note(f"begun {message['n']}")
        await asyncio.sleep(message.get("seconds", 0))
        note(f"ended {message['n']}")

    async def fail(self, message: dict[str, Any]) -> None:
        raise RuntimeError("this consumer was told to fail")


class Threaded(SyncConsumer):
    def job(self, message: dict[str, Any]) -> None:
        note(f"begun {message['n']}")
        time.sleep(message.get("seconds", 0))
        note(f"ended {message['n']}")


class Careful(AsyncConsumer):
    """Notes how often a message was given, and fails for as many times as it is told."""

    async def job(self, message: dict[str, Any]) -> None:
        deliveries = message["trunkline.deliveries"]
        note(f"begun {message['n']} {deliveries}")
        await asyncio.sleep(message.get("seconds", 0))
        if deliveries <= message.get("failures", 0):
            raise RuntimeError(f"failure {deliveries}")
        note(f"ended {message['n']} {deliveries}")


consumers: dict[str, type[AsyncConsumer] | type[SyncConsumer]] = {
    "waiting": Waiting,
    "threaded": Threaded,
    "careful": Careful,
}
application = ProtocolTypeRouter(
    {"channel": ChannelNameRouter({channel: consumer.as_asgi() for channel, consumer in consumers.items()})}
)
