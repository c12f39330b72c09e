"""Uploads are judged by what they are, and refused with a sentence."""

import io
import struct
import zlib

from django.test import SimpleTestCase, override_settings
from PIL import Image

from rooms.pictures import BadPicture, judge, thumbnail


def picture(kind: str = "PNG", size: tuple[int, int] = (800, 600), **options: object) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, (40, 90, 200)).save(output, kind, **options)
    return output.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes that says it unpacks to width * height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class PictureTests(SimpleTestCase):
    def refused(self, content: bytes, words: str) -> None:
        with self.assertRaisesMessage(BadPicture, words):
            judge(content)

    def test_the_four_kinds_that_browsers_show_are_taken(self) -> None:
        for kind, expected in (("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("GIF", "gif")):
            judged = judge(picture(kind))
            self.assertEqual((judged.content_type, judged.width, judged.height), (f"image/{expected}", 800, 600))

    def test_another_kind_of_picture_is_refused(self) -> None:
        self.refused(picture("BMP"), "no JPEG, PNG, WebP or GIF")

    def test_text_that_calls_itself_a_picture_is_refused(self) -> None:
        self.refused(b"<svg onload='alert(1)'/>", "no JPEG, PNG, WebP or GIF")

    def test_a_truncated_picture_is_refused(self) -> None:
        self.refused(picture("JPEG")[:900], "damaged")

    def test_an_empty_file_is_refused(self) -> None:
        self.refused(b"", "empty")

    @override_settings(PICTURE_BYTES=1024 * 1024)
    def test_a_file_that_is_too_large_is_refused(self) -> None:
        self.refused(b"\0" * (1024 * 1024 + 1), "larger than 1 MB")

    def test_a_picture_that_would_unpack_to_too_many_pixels_is_refused_unopened(self) -> None:
        self.refused(bomb(8_000, 8_000), "more than 40 million pixels")
        self.refused(bomb(60_000, 60_000), "more than 40 million pixels")

    def test_a_thumbnail_is_small_upright_and_keeps_no_metadata(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        exif[0x010E] = "a secret place"
        small = thumbnail(picture("JPEG", (1600, 800), exif=exif))
        with Image.open(io.BytesIO(small)) as image:
            self.assertEqual((image.format, image.size), ("WEBP", (180, 360)))
            self.assertFalse(image.getexif())
