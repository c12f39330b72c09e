"""Judges uploaded pictures and makes them small; knows Pillow, knows nothing of the chat."""

import io
import warnings
from dataclasses import dataclass

from django.conf import settings
from PIL import Image, ImageOps, UnidentifiedImageError

# What browsers show, by Pillow's name for it. Others (SVG above all, which may carry scripts) are refused.
CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


class BadPicture(ValueError):
    """The upload isn't a picture that we take; the message is a sentence for the person who sent it."""


@dataclass(frozen=True)
class Judged:
    content: bytes
    content_type: str
    width: int
    height: int


def judge(content: bytes) -> Judged:
    """Decide by the content alone (never by name or header) what was uploaded; raises BadPicture."""
    if not content:
        raise BadPicture("The file is empty.")
    if len(content) > settings.PICTURE_BYTES:
        raise BadPicture(f"The picture is larger than {settings.PICTURE_BYTES // 2**20} MB.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit below is lower
            with Image.open(io.BytesIO(content), formats=list(CONTENT_TYPES)) as image:
                width, height = image.size
                if width * height > settings.PICTURE_PIXELS:
                    raise BadPicture(f"The picture has more than {settings.PICTURE_PIXELS // 10**6} million pixels.")
                image.load()  # a truncated or broken file shows here
                return Judged(content, CONTENT_TYPES[image.format or ""], width, height)
    except BadPicture:
        raise
    except Image.DecompressionBombError as exc:
        raise BadPicture(f"The picture has more than {settings.PICTURE_PIXELS // 10**6} million pixels.") from exc
    except UnidentifiedImageError as exc:
        raise BadPicture("That is no JPEG, PNG, WebP or GIF picture.") from exc
    except Exception as exc:  # Pillow's decoders fail in many ways on broken files; all mean the same here
        raise BadPicture("The picture is damaged.") from exc


def thumbnail(content: bytes) -> bytes:
    """A WebP of `content`, upright and at most THUMBNAIL_SIZE, without the original's metadata."""
    with Image.open(io.BytesIO(content), formats=list(CONTENT_TYPES)) as image:
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail(settings.THUMBNAIL_SIZE)
        small = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        output = io.BytesIO()
        small.save(output, "WEBP", quality=82)
        return output.getvalue()
