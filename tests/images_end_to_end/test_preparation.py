"""Each entry point sends an image upright, within the limits, typed by its bytes, and otherwise unchanged.

What happens to each image type is tested in tests/core/images.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from predictionguard_core import ImageFormatError, ImagePolicy, ImageTooLargeError, PredictionGuardError
from predictionguard_core.images import convert, decoder
from predictionguard_core.images.image import Image
from predictionguard_core.sandbox import Sandbox
from tests.images_end_to_end.entry_points import (
    ENTRY_POINTS,
    PNG,
    Data,
    Text,
    all_text,
    ask,
    decoded,
    encoded,
    sent,
    uri,
)

pytestmark = pytest.mark.parametrize("entry_point", ENTRY_POINTS)

CORNERS = {"red": (0, 0), "green": (1, 0), "blue": (0, 1), "yellow": (1, 1)}
COLORS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
# What a camera does to the upright image before it writes this orientation (EXIF 2.32, 4.6.4.A).
STORED_AS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_90",
    7: "TRANSVERSE",
    8: "ROTATE_270",
}


def photo(size: tuple[int, int] = (96, 64)) -> Pillow.Image:
    """Return an image with one color in each quarter, and too many shades to be stored as a drawing."""
    image = Pillow.new("RGB", size)
    for corner, (x, y) in CORNERS.items():
        red, green, blue = (255 * band for band in COLORS[corner])
        image.paste((red, green, blue), (x * size[0] // 2, y * size[1] // 2, size[0], size[1]))
    return Pillow.blend(image, Pillow.merge("RGB", [Pillow.effect_noise(size, 60) for _ in range(3)]), 0.2)


def half_clear() -> Pillow.Image:
    image = photo().convert("RGBA")
    image.putalpha(Pillow.linear_gradient("L").resize(image.size))
    return image


def has_its_corners(image: Pillow.Image) -> bool:
    found = image.convert("RGB")
    for corner, (x, y) in CORNERS.items():
        pixel = found.getpixel((found.width * (2 * x + 1) // 4, found.height * (2 * y + 1) // 4))
        assert isinstance(pixel, tuple)
        if tuple(int(band > 110) for band in pixel) != COLORS[corner]:
            return False
    return True


def stored(orientation: int, kind: str = "JPEG") -> bytes:
    """Return a photo as a phone stores it: with its orientation, its maker, and the place where it was taken."""
    image = photo()
    if orientation in STORED_AS:
        image = image.transpose(Pillow.Transpose[STORED_AS[orientation]])
    block = Pillow.Exif()
    block[0x0112] = orientation
    block[0x010F] = "s3cr3t maker"
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0), 3: "E", 4: (16.0, 22.0, 0.0), 29: "1999:12:31"})
    return encoded(image, kind, exif=block.tobytes(), quality=95)


def only_image(box: Sandbox) -> tuple[str, bytes]:
    (only,) = sent(box)
    return only


def refused(
    entry_point: str, box: Sandbox, data: bytes, kind: type[PredictionGuardError], *words: str, **policy: Any
) -> PredictionGuardError:
    """Check that the image is refused as bytes and as a data URI, and that the error contains these words."""
    for image in (Data(data), Text(uri(data))):
        with pytest.raises(kind) as caught:
            ask(entry_point, box, image, policy=ImagePolicy(**policy))
        for word in words:
            assert word in str(caught.value)
        assert (caught.value.message_index, caught.value.block_index) == (0, 1)
    assert box.requests == []
    return caught.value


def test_other_types_are_converted(entry_point: str, box: Sandbox) -> None:
    for data, media_type in (
        (encoded(photo(), "BMP"), "image/jpeg"),
        (encoded(photo(), "TIFF", compression="tiff_lzw"), "image/jpeg"),
        (encoded(half_clear(), "TIFF"), "image/png"),
    ):
        ask(entry_point, box, Data(data))
        declared, got = only_image(box)
        image = decoded(got)
        assert (declared, Pillow.MIME[str(image.format)], image.size) == (media_type, media_type, (96, 64))
        assert has_its_corners(image)


def test_the_error_names_a_missing_extra(entry_point: str, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "is_available", lambda: False)
    refused(entry_point, box, encoded(photo(), "BMP"), ImageFormatError, "predictionguard-integrations[images]")


def test_other_files_are_refused_and_not_quoted(entry_point: str, box: Sandbox) -> None:
    for data in (
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>s3cr3t()</script></svg>",
        b"<?xml version='1.0'?>\n<!-- s3cr3t -->\n<svg width='1' height='1'/>",
        b"<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///s3cr3t'>]><svg>&x;</svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0 s3cr3t",
        b"8BPS\0\1s3cr3t" + bytes(60),
        b"<html>s3cr3t</html>",
        b"s3cr3t",
        b"PK\x03\x04s3cr3t" + bytes(60),
        b"\x7fELFs3cr3t" + bytes(60),
    ):
        assert "s3cr3t" not in all_text(refused(entry_point, box, data, ImageFormatError)), data


def test_the_bytes_decide_the_type_and_are_sent_unchanged(entry_point: str, box: Sandbox) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        data = encoded(photo(), kind)
        for declared in ("image/jpg", "image/png", "IMAGE/JPG", "text/plain", "application/pdf", ""):
            for image in (Data(data, declared or None), Text(uri(data, declared))):
                ask(entry_point, box, image)
                assert only_image(box) == (Pillow.MIME[kind], data), (kind, declared)


def test_transparency_animations_and_trailing_bytes_are_sent_unchanged(entry_point: str, box: Sandbox) -> None:
    frames: dict[str, Any] = {"save_all": True, "append_images": [Pillow.new("RGB", (96, 64), "teal")], "duration": 80}
    for media_type, data in (
        ("image/jpeg", encoded(photo(), "JPEG") + b"a trailer that the camera added"),
        ("image/png", encoded(half_clear(), "PNG")),
        ("image/png", encoded(half_clear().convert("LA"), "PNG")),
        ("image/png", encoded(half_clear().convert("P"), "PNG", transparency=3)),
        *((Pillow.MIME[kind], encoded(photo(), kind, **frames)) for kind in ("GIF", "WEBP", "PNG")),
    ):
        ask(entry_point, box, Data(data))
        assert only_image(box) == (media_type, data)


def test_several_images_keep_their_order(entry_point: str, box: Sandbox) -> None:
    plain, bmp = encoded(photo(), "PNG"), encoded(photo((48, 32)), "BMP")
    ask(entry_point, box, Data(plain), Data(bmp), Text(uri(PNG)), Data(plain))
    assert [decoded(data).size for _, data in sent(box)] == [(96, 64), (48, 32), (40, 30), (96, 64)]


def test_photos_are_sent_upright(entry_point: str, box: Sandbox) -> None:
    for kind, orientation in (*(("JPEG", each) for each in (1, *STORED_AS)), ("PNG", 6), ("WEBP", 6)):
        data = stored(orientation, kind)
        ask(entry_point, box, Data(data))
        declared, got = only_image(box)
        image = decoded(got)
        assert (declared, image.size) == (Pillow.MIME[kind], (96, 64)), (kind, orientation)
        assert has_its_corners(image), (kind, orientation)
        assert image.getexif().get(0x0112, 1) == 1, "the reader would rotate it again"
        assert (got == data) is (orientation == 1), (kind, orientation)


def test_photos_are_sent_as_stored_if_the_policy_says_so(entry_point: str, box: Sandbox) -> None:
    data = stored(6)
    ask(entry_point, box, Data(data), policy=ImagePolicy(upright=False))
    assert only_image(box) == ("image/jpeg", data)


def test_the_long_edge_is_reduced(entry_point: str, box: Sandbox) -> None:
    for kind, size in (("JPEG", (1200, 800)), ("PNG", (800, 1200)), ("WEBP", (1200, 30))):
        ask(entry_point, box, Data(encoded(photo(size), kind)), policy=ImagePolicy(max_edge=300))
        declared, data = only_image(box)
        image = decoded(data)
        assert (declared, max(image.size)) == (Pillow.MIME[kind], 300)
        assert abs(image.width / image.height - size[0] / size[1]) / (size[0] / size[1]) < 0.08
        assert has_its_corners(image)


def test_a_small_image_is_not_enlarged(entry_point: str, box: Sandbox) -> None:
    data = encoded(photo((300, 200)), "JPEG")
    ask(entry_point, box, Data(data), policy=ImagePolicy(max_edge=300))
    assert only_image(box) == ("image/jpeg", data)


def test_metadata_is_removed_if_the_policy_says_so(entry_point: str, box: Sandbox) -> None:
    for kind, max_edge, orientation in (
        *((kind, max_edge, 6) for kind in ("JPEG", "PNG", "WEBP") for max_edge in (None, 50)),
        ("JPEG", None, 1),
    ):
        case, data = (kind, max_edge, orientation), stored(orientation, kind)
        assert b"s3cr3t" in data
        ask(entry_point, box, Data(data), policy=ImagePolicy(strip_metadata=True, max_edge=max_edge))
        _, got = only_image(box)
        image = decoded(got)
        assert [word for word in (b"s3cr3t", b"Exif", b"1999:12:31") if word in got] == [], case
        assert dict(image.getexif()) == dict(image.getexif().get_ifd(0x8825)) == {}, case
        assert has_its_corners(image), case
        assert image.size == ((96, 64) if max_edge is None else (50, 33)), case
        assert orientation != 1 or image.tobytes() == decoded(data).tobytes()


def test_comments_and_texts_are_removed_too(entry_point: str, box: Sandbox) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "s3cr3t")
    text.add_itxt("XML:com.adobe.xmp", "<x>s3cr3t</x>")
    images = [
        encoded(photo(), "JPEG", comment=b"s3cr3t", xmp=b"<x>s3cr3t</x>"),
        encoded(photo(), "PNG", pnginfo=text),
        encoded(photo(), "WEBP", xmp=b"<x>s3cr3t</x>"),
        encoded(photo(), "GIF", comment=b"s3cr3t"),
    ]
    ask(entry_point, box, *map(Data, images), policy=ImagePolicy(strip_metadata=True))
    for before, (_, after) in zip(images, sent(box), strict=True):
        assert b"s3cr3t" in before
        assert b"s3cr3t" not in after
        assert decoded(after).convert("RGB").tobytes() == decoded(before).convert("RGB").tobytes()


def _png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def _with_size(data: bytes, at: int, form: str, *size: int) -> bytes:
    packed = struct.pack(form, *size)
    return data[:at] + packed + data[at + len(packed) :]


def _jpeg_of(width: int, height: int) -> bytes:
    data = encoded(photo(), "JPEG")
    return _with_size(data, data.index(b"\xff\xc0") + 5, ">HH", height, width)


def _tiff_of(width: int, height: int) -> bytes:
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 1)]
    ifd = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + ifd + bytes(4)


BOMBS: tuple[Callable[[int, int], bytes], ...] = (
    _png_of,
    _jpeg_of,
    lambda width, height: _with_size(encoded(photo(), "GIF"), 6, "<HH", width, height),
    lambda width, height: _with_size(encoded(photo(), "BMP"), 18, "<ii", width, height),
    _tiff_of,
)


def test_decompression_bombs_are_refused_by_their_header(
    entry_point: str, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("it was about to be decoded")

    monkeypatch.setattr(decoder, "decode", decode)
    policies: tuple[dict[str, Any], ...] = ({}, {"max_edge": 100}, {"strip_metadata": True})
    for bomb in BOMBS:
        data = bomb(60_000, 60_000)
        for policy in policies:
            refused(entry_point, box, data, ImageTooLargeError, "60000", "3,600,000,000", "50,000,000", **policy)


def test_each_limit_is_inclusive_and_its_error_shows_both_numbers(entry_point: str, box: Sandbox) -> None:
    bmp, png = encoded(photo(), "BMP"), encoded(photo(), "PNG")
    allowed = [
        *((encoded(photo(), kind), {"max_pixels": 96 * 64}) for kind in ("JPEG", "PNG", "BMP")),
        (bmp, {"max_bytes": len(bmp)}),
        (png, {"min_edge": 64}),
    ]
    for data, policy in allowed:
        ask(entry_point, box, Data(data), policy=ImagePolicy(**policy))
    box.clear()
    for kind in ("JPEG", "PNG", "BMP"):
        words = ("6,144", "6,143", "max_pixels")
        refused(entry_point, box, encoded(photo(), kind), ImageTooLargeError, *words, max_pixels=96 * 64 - 1)
    less = len(bmp) - 1
    refused(entry_point, box, bmp, ImageTooLargeError, f"{len(bmp):,}", f"{less:,}", "max_bytes", max_bytes=less)
    refused(entry_point, box, png, ImageFormatError, "96×64", "65", "min_edge", min_edge=65)


def test_the_number_of_images_is_limited(entry_point: str, box: Sandbox) -> None:
    ask(entry_point, box, *[Data(PNG)] * 3, policy=ImagePolicy(max_images=3))
    assert len(sent(box)) == 3
    box.clear()
    with pytest.raises(ImageTooLargeError, match="4 images, the policy allows 3"):
        ask(entry_point, box, *[Data(PNG)] * 4, policy=ImagePolicy(max_images=3))
    assert box.requests == []


def test_texts_of_decoders_are_not_quoted(entry_point: str, box: Sandbox) -> None:
    for kind in ("BMP", "TIFF", "JPEG"):
        whole = encoded(photo(), kind)
        cut = whole[: len(whole) // 2] if kind == "BMP" else whole[:8] + b"\xff" * (len(whole) - 8)
        error = refused(entry_point, box, cut, ImageFormatError, max_edge=10)
        assert [
            word for word in ("PIL", "truncated", "struct", "Traceback", "unpack", "IFD") if word in str(error)
        ] == []


def test_the_data_uri_of_an_opened_image_is_accepted(entry_point: str, box: Sandbox) -> None:
    ask(entry_point, box, Text(Image.open(io.BytesIO(encoded(photo(), "BMP"))).data_uri))
    assert only_image(box)[0] == "image/jpeg"
