"""Pictures to upload."""

from __future__ import annotations

import io
import os

from PIL import Image


def noise(width: int, height: int) -> bytes:
    """A PNG that can't be made smaller: about three bytes for each pixel."""
    output = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(output, "PNG", compress_level=0)
    return output.getvalue()
