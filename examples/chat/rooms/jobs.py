"""The background job: consumers that a worker runs for messages on a normal channel."""

import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.consumer import SyncConsumer
from channels.layers import get_channel_layer

from rooms.identity import facts
from rooms.models import Picture, PictureFile
from rooms.pictures import thumbnail

logger = logging.getLogger(__name__)


def order_thumbnail(picture: Picture) -> None:
    """Ask for a thumbnail; raises channels.exceptions.ChannelFull when too many are waiting already."""
    async_to_sync(get_channel_layer().send)("thumbnail", {"type": "make.thumbnail", "picture": str(picture.id)})


class ThumbnailConsumer(SyncConsumer):
    def make_thumbnail(self, message: dict[str, Any]) -> None:
        """Make the thumbnail and tell the room. Doing it twice is harmless."""
        picture = Picture.objects.select_related("room").filter(id=message["picture"]).first()
        if picture is None:
            logger.warning("picture %s is gone; no thumbnail is made", message["picture"])
            return
        if not picture.has_thumbnail:
            original = picture.files.get(kind=PictureFile.ORIGINAL)
            small = thumbnail(bytes(original.content))
            picture.files.update_or_create(
                kind=PictureFile.THUMBNAIL, defaults={"content_type": "image/webp", "content": small}
            )
            picture.has_thumbnail, picture.made_by = True, facts()
            picture.save(update_fields=["has_thumbnail", "made_by"])
            logger.info("made a thumbnail of %s", picture.id)
        async_to_sync(self.channel_layer.group_send)(
            picture.room.group, {"type": "picture.ready", "picture": picture.as_json()}
        )
