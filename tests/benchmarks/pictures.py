"""JPEG files of any size: a real header, and noise where the picture's data stand."""

from __future__ import annotations

import base64
import random
import struct
from io import BytesIO

from PIL import Image

_END = b"\xff\xd9"
_PIXELS_A_BYTE = 1


def jpeg(size: int) -> bytes:
    """A JPEG of exactly so many bytes, at least 1,000; its header tells a width and height that fit them."""
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


def data_uri(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()
