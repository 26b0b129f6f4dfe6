"""The token estimate of an image depends on the size in which it is sent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from predictionguard_core import token_counts
from predictionguard_core.api.chat import Message
from predictionguard_core.errors import ImageFormatError
from predictionguard_core.images.policy import ImagePolicy
from tests.core.images.samples import b64, data_uri, image_part, png

Pillow = pytest.importorskip("PIL.Image")


def saved(kind: str, size: tuple[int, int] = (560, 280), orientation: int = 1) -> bytes:
    file, exif = io.BytesIO(), Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.new("RGB", size).save(file, kind, **({} if kind == "BMP" else {"exif": exif}))
    return file.getvalue()


class Unread(io.RawIOBase):
    """A file object that is no BytesIO."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def count(source: Any, **policy: Any) -> int:
    message = Message(role="user", content=[image_part(source)])
    return token_counts.estimate_message_tokens([message], ImagePolicy(**policy)) - token_counts.PER_MESSAGE


JPEG = saved("JPEG")
LARGE = png(2000, 2000, padding=4 << 20)


@pytest.mark.parametrize(
    ("source", "policy", "size"),
    [
        (JPEG, {}, (560, 280)),
        (saved("JPEG", orientation=6), {}, (280, 560)),
        (saved("JPEG", orientation=6), {"upright": False}, (560, 280)),
        (JPEG, {"strip_metadata": True}, (560, 280)),
        (JPEG, {"max_edge": 140}, (140, 70)),
        (saved("JPEG", (600, 300), orientation=8), {"max_edge": 140}, (70, 140)),
        (saved("BMP"), {}, (560, 280)),
        (LARGE, {}, (2000, 2000)),
        (b64(LARGE), {}, (2000, 2000)),
        (data_uri(LARGE), {"max_edge": 1000}, (1000, 1000)),
        (b64(JPEG).replace("/", "_"), {}, (560, 280)),
    ],
    ids=range(11),
)
def test_an_image_counts_by_its_size(source: Any, policy: dict[str, Any], size: tuple[int, int]) -> None:
    assert count(source, **policy) == token_counts.estimate_image_tokens(*size)


@pytest.mark.parametrize("source", [Path("photo.jpg"), "https://example.com/a.png", Unread(JPEG), b"%PDF-1.7\n"])
def test_images_that_need_a_file_or_the_network_count_as_unread(source: Any) -> None:
    assert count(source) == token_counts.UNKNOWN_SIZE


def test_a_damaged_image_is_reported_with_its_location() -> None:
    damaged = b64(LARGE)
    message = Message(role="user", content=[image_part(JPEG), image_part(damaged[:-9] + "!!!!!" + damaged[-4:])])
    message.content[1].location = (3, 1)  # type: ignore[union-attr]
    with pytest.raises(ImageFormatError) as caught:
        token_counts.estimate_message_tokens([message], ImagePolicy())
    assert (caught.value.message_index, caught.value.block_index) == (3, 1)
