"""The WebSocket of a room page: JSON objects with a `type`, both ways.

From the page: `message` (text, nonce) and `heartbeat`. To the page: `welcome` first, then `message`, `picture`,
`people`, `heartbeat` as the answer to one, and `error` with a sentence for the reader.
"""

import uuid
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings

from rooms import presence
from rooms.identity import facts
from rooms.models import Message, Room

NO_SUCH_ROOM = 4404  # close codes from 4000 on are the application's own
NO_COOKIE = 4401


class ChatConsumer(AsyncJsonWebsocketConsumer):
    room: Room | None = None
    people_shown: list[dict[str, str]] | None = None

    async def connect(self) -> None:
        await self.accept()
        session = self.scope["session"]
        self.visitor, self.name = session.get("visitor"), session.get("name")
        if not self.visitor:
            await self.close(code=NO_COOKIE)
            return
        room = await Room.objects.filter(slug=self.scope["url_route"]["kwargs"]["slug"]).afirst()
        if room is None:
            await self.close(code=NO_SUCH_ROOM)
            return
        self.room, self.connection = room, uuid.uuid4()
        # First join, then read: what is written in between arrives twice, and the page knows messages by their id.
        await self.channel_layer.group_add(room.group, self.channel_name)
        messages, self.people_shown = await self.enter(room)
        await self.send_json(
            {
                "type": "welcome",
                "server": facts(),
                "you": {"visitor": self.visitor, "name": self.name},
                "heartbeat": settings.PRESENCE_HEARTBEAT,
                "messages": messages,
                "people": self.people_shown,
            }
        )
        await self.channel_layer.group_send(room.group, {"type": "people.changed"})

    async def disconnect(self, code: int) -> None:
        if self.room is None:
            return
        await self.channel_layer.group_discard(self.room.group, self.channel_name)
        await database_sync_to_async(presence.leave)(self.connection)
        await self.channel_layer.group_send(self.room.group, {"type": "people.changed"})

    # From the page

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        kind = content.get("type") if isinstance(content, dict) else None
        if self.room is None:
            return
        if kind == "message":
            await self.say(self.room, content)
        elif kind == "heartbeat":
            await database_sync_to_async(presence.renew)(self.room, self.connection, self.visitor, self.name)
            await self.send_json({"type": "heartbeat"})
            await self.show_people()
        else:
            await self.send_json({"type": "error", "text": "The page sent something that this server doesn't know."})

    async def say(self, room: Room, content: dict[str, Any]) -> None:
        text = content.get("text")
        try:
            nonce = uuid.UUID(content.get("nonce"))
        except (TypeError, ValueError, AttributeError):
            nonce = uuid.uuid4()
        # A NUL can't be stored by PostgreSQL.
        text = text.replace("\0", "").strip() if isinstance(text, str) else ""
        if not text or len(text) > settings.MESSAGE_LENGTH:
            sentence = f"A message has 1 to {settings.MESSAGE_LENGTH} characters."
            await self.send_json({"type": "error", "text": sentence, "nonce": str(nonce)})
            return
        message = await self.store(room, nonce, text)
        await self.channel_layer.group_send(room.group, {"type": "chat.message", "message": message})

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        try:
            return await super().decode_json(text_data)
        except ValueError:
            return None

    # From the channel layer

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "message", "message": event["message"]})

    async def picture_ready(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "picture", "picture": event["picture"]})

    async def people_changed(self, event: dict[str, Any]) -> None:
        await self.show_people()

    async def show_people(self) -> None:
        """Send the list of people when it isn't what the page shows already."""
        people = await database_sync_to_async(presence.people)(self.room)
        if people != self.people_shown:
            self.people_shown = people
            await self.send_json({"type": "people", "people": people})

    # The database

    @database_sync_to_async
    def enter(self, room: Room) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        presence.sweep()
        presence.renew(room, self.connection, self.visitor, self.name)
        return [message.as_json() for message in room.history()], presence.people(room)

    @database_sync_to_async
    def store(self, room: Room, nonce: uuid.UUID, text: str) -> dict[str, Any]:
        values = {"room": room, "visitor": self.visitor, "author": self.name, "text": text}
        message, _ = Message.objects.get_or_create(nonce=nonce, defaults=values)
        return message.as_json()
