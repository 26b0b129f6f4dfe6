"""JPEG files of any size: a real header, and noise in place of the image data."""

from __future__ import annotations

import base64
import random
import struct
from io import BytesIO

from PIL import Image

_END = b"\xff\xd9"
_PIXELS_A_BYTE = 1


def jpeg(size: int) -> bytes:
    """Return a JPEG of exactly `size` bytes, at least 1,000. The width and height in its header fit the size."""
    out = BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    made = out.getvalue()
    scan = made.index(b"\xff\xda")
    head = bytearray(made[: scan + 2 + struct.unpack_from(">H", made, scan + 2)[0]])
    frame = made.index(b"\xff\xc0")
    edge = max(16, int((size * _PIXELS_A_BYTE) ** 0.5) // 16 * 16)
    struct.pack_into(">HH", head, frame + 5, edge, edge)
    noise = random.Random(size).randbytes(size - len(head) - len(_END)).replace(b"\xff", b"\xfe")
    return bytes(head) + noise + _END


def photo(width: int = 4000, height: int = 3000) -> bytes:
    """Return a JPEG that decodes: soft colors with some grain, as a phone's camera makes them."""
    colors = random.Random(width)
    small = Image.frombytes("RGB", (width // 8, height // 8), colors.randbytes(width // 8 * (height // 8) * 3))
    out = BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    return out.getvalue()


def data_uri(image: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()
