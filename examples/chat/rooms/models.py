"""What the chat remembers: rooms, their messages and pictures, and who is in them."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

# The name of a room becomes the name of a group, which Channels limits to these characters.
room_slug = RegexValidator(r"\A[a-z0-9]+(?:-[a-z0-9]+)*\Z", "Use lower-case letters, digits and hyphens.")


class Room(models.Model):
    slug = models.CharField(max_length=50, unique=True, validators=[room_slug])
    name = models.CharField(max_length=50)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("room", args=[self.slug])

    @property
    def group(self) -> str:
        """The channel layer's group of everybody who looks at this room."""
        return f"room-{self.slug}"

    def history(self) -> list["Message"]:
        """The last messages, oldest first."""
        newest = self.messages.select_related("picture").order_by("-id")[: settings.HISTORY_LENGTH]
        return list(reversed(newest))


class Picture(models.Model):
    """An uploaded picture; its bytes lie in PictureFile so that lists don't load them."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="pictures")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    has_thumbnail = models.BooleanField(default=False)
    # Which worker made the thumbnail, as identity.facts() says it.
    made_by = models.JSONField(null=True)
    created = models.DateTimeField(auto_now_add=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "width": self.width,
            "height": self.height,
            "original": reverse("picture", args=[self.id, "original"]),
            "thumbnail": reverse("picture", args=[self.id, "thumbnail"]) if self.has_thumbnail else None,
            "again": reverse("again", args=[self.id]),
            "made_by": self.made_by,
        }


class PictureFile(models.Model):
    """The bytes of a picture. They are in the database because web and worker containers share nothing else."""

    ORIGINAL, THUMBNAIL = "original", "thumbnail"

    picture = models.ForeignKey(Picture, on_delete=models.CASCADE, related_name="files")
    kind = models.CharField(max_length=9, choices=[(ORIGINAL, ORIGINAL), (THUMBNAIL, THUMBNAIL)])
    content_type = models.CharField(max_length=20)
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["picture", "kind"], name="one_file_per_kind")]


class Message(models.Model):
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    # Chosen by the page: what it sends again after a lost connection is still one message.
    nonce = models.UUIDField(unique=True, default=uuid.uuid4)
    visitor = models.CharField(max_length=32)
    author = models.CharField(max_length=30)
    text = models.TextField(blank=True)
    picture = models.OneToOneField(Picture, on_delete=models.CASCADE, null=True, related_name="message")
    created = models.DateTimeField(auto_now_add=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "nonce": str(self.nonce),
            "visitor": self.visitor,
            "author": self.author,
            "text": self.text,
            "picture": self.picture.as_json() if self.picture else None,
            "created": self.created.isoformat(),
        }


class PresenceQuerySet(models.QuerySet["Presence"]):
    def alive(self) -> "PresenceQuerySet":
        """Those heard of lately, by the database's clock: the processes' own clocks may differ."""
        return self.filter(seen__gt=Now() - timedelta(seconds=settings.PRESENCE_EXPIRY))

    def expired(self) -> "PresenceQuerySet":
        return self.filter(seen__lte=Now() - timedelta(seconds=settings.PRESENCE_EXPIRY))


class Presence(models.Model):
    """One open page. A row that isn't renewed expires: its process may have died without a word."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="presences")
    connection = models.UUIDField(unique=True)
    visitor = models.CharField(max_length=32)
    name = models.CharField(max_length=30)
    seen: "models.DateTimeField[datetime, datetime]" = models.DateTimeField(db_index=True)

    objects = PresenceQuerySet.as_manager()
