"""The plain HTTP side: rooms, names, uploads, pictures, whoami."""

import os
import uuid
from unittest import mock

from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, TestCase, override_settings

from rooms import presence
from rooms.models import Message, Picture, Room
from tests.test_pictures import picture

IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


def file(content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile("holiday.png", content, "image/png")


@override_settings(CHANNEL_LAYERS=IN_MEMORY, RELEASE="r42")
class PageTests(TestCase):
    def setUp(self) -> None:
        async_to_sync(get_channel_layer().flush)()
        self.room = Room.objects.get(slug="lobby")
        self.client.get("/")

    def test_whoami_says_which_process_answered(self) -> None:
        answer = self.client.get("/whoami").json()
        self.assertEqual(set(answer), {"role", "host", "process_id", "release"})
        self.assertEqual((answer["role"], answer["process_id"], answer["release"]), ("interface", os.getpid(), "r42"))

    def test_a_new_room_is_entered_and_an_existing_one_too(self) -> None:
        for name in ("Release  party", "release party"):
            answer = self.client.post("/", {"name": name})
            self.assertRedirects(answer, "/rooms/release-party/")
        self.assertEqual(Room.objects.get(slug="release-party").name, "Release party")

    def test_a_room_needs_a_name_that_can_be_an_address(self) -> None:
        answer = self.client.post("/", {"name": "***"})
        self.assertContains(answer, "at least one letter from a to z", status_code=400)

    def test_an_unknown_room_is_not_found(self) -> None:
        self.assertEqual(self.client.get("/rooms/nowhere/").status_code, 404)

    def test_the_list_counts_people_not_pages(self) -> None:
        for connection, visitor in enumerate(("ann", "ann", "bob")):
            presence.renew(self.room, uuid.UUID(int=connection), visitor, visitor)
        self.assertContains(self.client.get("/"), "2 here now")

    def test_a_name_loses_control_characters_and_is_bounded(self) -> None:
        answer = self.client.post("/name/", {"name": "  An\x07n\u202e  " + "x" * 60, "next": "/rooms/lobby/"})
        self.assertRedirects(answer, "/rooms/lobby/")
        self.assertEqual(self.client.session["name"], "An n " + "x" * 25)

    def test_an_invisible_name_is_refused(self) -> None:
        self.assertEqual(self.client.post("/name/", {"name": "\u200b"}).status_code, 400)

    def test_the_way_back_stays_on_this_site(self) -> None:
        answer = self.client.post("/name/", {"name": "Ann", "next": "https://evil.example/"})
        self.assertEqual(answer["Location"], "/")

    def test_a_post_from_another_site_is_refused(self) -> None:
        stranger = Client(enforce_csrf_checks=True)
        self.assertEqual(stranger.post("/rooms/lobby/pictures/", {"picture": file(picture())}).status_code, 403)

    def test_an_upload_is_announced_and_its_thumbnail_ordered(self) -> None:
        answer = self.client.post(
            "/rooms/lobby/pictures/", {"picture": file(picture())}, headers={"Accept": "application/json"}
        )
        self.assertEqual(answer.status_code, 201)
        uploaded = Picture.objects.get()
        message = async_to_sync(get_channel_layer().receive)("thumbnail")
        self.assertEqual(message, {"type": "make.thumbnail", "picture": str(uploaded.id)})
        self.assertEqual(Message.objects.get().picture, uploaded)
        original = self.client.get(answer.json()["picture"]["original"])
        self.assertEqual((original["Content-Type"], original.content), ("image/png", picture()))
        self.assertIn("sandbox", original["Content-Security-Policy"])

    def test_a_form_without_scripts_comes_back_to_the_room(self) -> None:
        answer = self.client.post("/rooms/lobby/pictures/", {"picture": file(picture())})
        self.assertRedirects(answer, "/rooms/lobby/")

    def test_a_bad_upload_is_answered_with_its_sentence_and_leaves_nothing(self) -> None:
        answer = self.client.post(
            "/rooms/lobby/pictures/", {"picture": file(b"no")}, headers={"Accept": "application/json"}
        )
        self.assertEqual(
            (answer.status_code, answer.json()["error"]), (400, "That is no JPEG, PNG, WebP or GIF picture.")
        )
        answer = self.client.post("/rooms/lobby/pictures/", {})
        self.assertContains(answer, "Choose a picture first.", status_code=400)
        self.assertFalse(Picture.objects.exists())

    def test_full_workers_are_said_and_the_picture_is_kept(self) -> None:
        with mock.patch("rooms.views.order_thumbnail", side_effect=ChannelFull):
            answer = self.client.post(
                "/rooms/lobby/pictures/", {"picture": file(picture())}, headers={"Accept": "application/json"}
            )
        self.assertContains(answer, "busy", status_code=503)
        again = self.client.post(f"/pictures/{Picture.objects.get().id}/again")
        self.assertEqual(again.status_code, 202)
