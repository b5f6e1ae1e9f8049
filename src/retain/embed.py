"""What a page that is one file holds inside itself: pictures as data, and scripts that its policy names."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any

from PIL import Image


def script_hash(script: str) -> str:
    """The name by which a Content-Security-Policy lets this script run, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def data_uri(image: Image.Image, **how: Any) -> str:
    """A picture as a PNG in a data URI; `how` is of Pillow's `save`."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **how)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
