"""The WebSocket side and the background job, through the project's real ASGI application."""

import time
import uuid
from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import get_channel_layer
from channels.testing import ApplicationCommunicator, WebsocketCommunicator
from django.test import Client, TransactionTestCase, override_settings
from django.utils import timezone

from chatsite.asgi import application
from rooms import presence
from rooms.models import Message, Picture, PictureFile, Presence, Room
from tests.test_pages import IN_MEMORY
from tests.test_pictures import picture


class Page(WebsocketCommunicator):
    """A room page of a visitor with a cookie of their own."""

    def __init__(self, room: str = "lobby", name: str | None = "Ann", origin: str = "http://localhost") -> None:
        headers = [(b"origin", origin.encode()), (b"host", b"localhost")]
        if name:
            client = Client()
            client.get("/")
            client.post("/name/", {"name": name})
            headers.append((b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()))
        super().__init__(application, f"/ws/rooms/{room}/", headers)

    async def enter(self) -> dict[str, Any]:
        connected, _ = await self.connect()
        assert connected
        welcome = await self.receive_json_from()
        assert welcome["type"] == "welcome", welcome
        return welcome

    async def next(self, kind: str) -> dict[str, Any]:
        """The next message of `kind`; what else arrives before it is passed over."""
        while True:
            message = await self.receive_json_from(timeout=5)
            if message["type"] == kind:
                return message


async def page(**arguments: Any) -> Page:
    return await sync_to_async(Page)(**arguments)


@override_settings(CHANNEL_LAYERS=IN_MEMORY, ALLOWED_HOSTS=["localhost", "testserver"])
class ConversationTests(TransactionTestCase):
    def setUp(self) -> None:
        async_to_sync(get_channel_layer().flush)()
        self.room, _ = Room.objects.get_or_create(slug="lobby", defaults={"name": "Lobby"})

    async def test_two_pages_see_each_other_and_what_is_said(self) -> None:
        ann, bob = await page(name="Ann"), await page(name="Bob")
        await ann.enter()
        welcome = await bob.enter()
        self.assertEqual([person["name"] for person in welcome["people"]], ["Ann", "Bob"])
        self.assertEqual([person["name"] for person in (await ann.next("people"))["people"]], ["Ann", "Bob"])
        await ann.send_json_to({"type": "message", "text": "hello", "nonce": str(uuid.uuid4())})
        for each in (ann, bob):
            message = (await each.next("message"))["message"]
            self.assertEqual((message["author"], message["text"]), ("Ann", "hello"))
        await bob.disconnect()
        self.assertEqual([person["name"] for person in (await ann.next("people"))["people"]], ["Ann"])
        await ann.disconnect()

    async def test_the_first_message_says_who_serves_and_brings_the_history(self) -> None:
        await Message.objects.acreate(room=self.room, visitor="x", author="Eve", text="earlier")
        ann = await page()
        welcome = await ann.enter()
        self.assertEqual(set(welcome["server"]), {"role", "host", "process_id", "release"})
        self.assertEqual([message["text"] for message in welcome["messages"]], ["earlier"])
        await ann.disconnect()

    async def test_a_message_sent_again_after_a_lost_connection_is_one_message(self) -> None:
        ann = await page()
        await ann.enter()
        nonce = str(uuid.uuid4())
        ids = []
        for _ in range(2):
            await ann.send_json_to({"type": "message", "text": "once", "nonce": nonce})
            ids.append((await ann.next("message"))["message"]["id"])
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(await Message.objects.acount(), 1)
        await ann.disconnect()

    async def test_what_makes_no_sense_gets_a_sentence_and_the_socket_stays(self) -> None:
        ann = await page()
        await ann.enter()
        for nonsense in (
            {"type": "message", "text": "  "},
            {"type": "message", "text": "x" * 2001},
            {"type": "message", "text": 5},
        ):
            await ann.send_json_to(nonsense)
            self.assertIn("1 to 2000 characters", (await ann.next("error"))["text"])
        for text in ('{"type": "launch"}', "[]", "not json", '{"type": []}'):
            await ann.send_to(text_data=text)
            self.assertIn("doesn't know", (await ann.next("error"))["text"])
        await ann.send_json_to({"type": "heartbeat"})
        await ann.next("heartbeat")
        await ann.disconnect()

    async def test_an_unknown_room_and_a_missing_cookie_close_for_good(self) -> None:
        for arguments, code in (({"room": "nowhere"}, 4404), ({"name": None}, 4401)):
            visitor = await page(**arguments)
            await visitor.connect()
            self.assertEqual((await visitor.receive_output())["code"], code)

    async def test_a_page_of_another_site_is_refused(self) -> None:
        visitor = await page(origin="https://evil.example")
        connected, _ = await visitor.connect()
        self.assertFalse(connected)

    async def test_who_is_silent_expires_and_a_heartbeat_brings_them_back(self) -> None:
        ann, bob = await page(name="Ann"), await page(name="Bob")
        await ann.enter()
        await bob.enter()
        await ann.next("people")
        long_ago = timezone.now() - timedelta(seconds=76)
        await Presence.objects.filter(name="Bob").aupdate(seen=long_ago)
        await ann.send_json_to({"type": "heartbeat"})
        self.assertEqual([person["name"] for person in (await ann.next("people"))["people"]], ["Ann"])
        await sync_to_async(presence.sweep)()
        self.assertEqual(await Presence.objects.acount(), 1)
        await bob.send_json_to({"type": "heartbeat"})
        await bob.next("heartbeat")
        await ann.send_json_to({"type": "heartbeat"})
        self.assertEqual([person["name"] for person in (await ann.next("people"))["people"]], ["Ann", "Bob"])
        await ann.disconnect()
        await bob.disconnect()

    async def test_the_job_makes_a_thumbnail_once_and_announces_it_each_time(self) -> None:
        uploaded = await Picture.objects.acreate(room=self.room, width=800, height=600)
        await uploaded.files.acreate(kind=PictureFile.ORIGINAL, content_type="image/png", content=picture())
        ann = await page()
        await ann.enter()
        worker = ApplicationCommunicator(application, {"type": "channel", "channel": "thumbnail"})
        for _ in range(2):
            await worker.send_input({"type": "make.thumbnail", "picture": str(uploaded.id)})
            announced = (await ann.next("picture"))["picture"]
            self.assertTrue(announced["thumbnail"])
            self.assertIn("process_id", announced["made_by"])
        self.assertEqual(await uploaded.files.acount(), 2)
        await ann.disconnect()
        worker.stop()

    async def test_a_job_for_a_picture_that_is_gone_does_nothing(self) -> None:
        worker = ApplicationCommunicator(application, {"type": "channel", "channel": "thumbnail"})
        with self.assertLogs("rooms.jobs", "WARNING") as logs:
            await worker.send_input({"type": "make.thumbnail", "picture": str(uuid.uuid4())})
            deadline = time.monotonic() + 5
            while not logs.output and time.monotonic() < deadline:
                await worker.receive_nothing(timeout=0.05)  # lets the consumer run
        self.assertIn("is gone", logs.output[0])
        worker.stop()

    async def test_everybody_in_a_room_is_one_group(self) -> None:
        ann = await page()
        await ann.enter()
        await get_channel_layer().group_send(
            "room-lobby", {"type": "chat.message", "message": {"text": "from elsewhere"}}
        )
        self.assertEqual((await ann.next("message"))["message"], {"text": "from elsewhere"})
        await ann.disconnect()
