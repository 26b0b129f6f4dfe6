"""Images for the tests, made without an encoder, and requests with images."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from predictionguard_core.api.chat import ChatRequest, ImagePart, ImageURL, Message, TextPart
from predictionguard_core.images.image import Image
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.images.prepare import prepare_images
from predictionguard_core.steps import Compute


def png(width: int = 3, height: int = 2, *, padding: int = 0, seed: int = 7) -> bytes:
    """A valid PNG, grey, with `padding` bytes of noise in a chunk that decoders skip."""
    rows = b"".join(b"\0" + bytes(width) for _ in range(height))
    noise = random.Random(seed).randbytes(padding)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            _chunk(b"prVt", noise) if padding else b"",
            _chunk(b"IDAT", zlib.compress(rows)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
JPEG_HEAD = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{b64(data)}"


def image_part(source: object, **more: object) -> ImagePart:
    return ImagePart(image_url=ImageURL(url=source, **more))


def question(*sources: object, text: str = "What is this?", **options: object) -> ChatRequest:
    """Return a request with images: the text first, then an image part for each source."""
    parts = [TextPart(text=text), *map(image_part, sources)]
    return ChatRequest(**{"model": "m", "messages": [Message(role="user", content=parts)], **options})


def prepared(source: object, policy: ImagePolicy | None = None) -> list[Image]:
    """Prepare an image source of a message, as a client does, without a network."""
    operation = prepare_images(question(source), policy or ImagePolicy())
    try:
        step = next(operation)
        assert isinstance(step, Compute)
        operation.send([_result(job) for job in step.jobs])
    except StopIteration as end:
        images: list[Image] = end.value[1]
        return images
    raise AssertionError("another step than expected")


def _result(job: Callable[[float], Any]) -> Any:
    try:
        return job(60.0)
    except Exception as error:
        return error
