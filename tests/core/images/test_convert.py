"""Converting images of every type and mode, broken ones, and without Pillow."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predictionguard_core.errors import ImageError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images import convert, detect
from predictionguard_core.images.policy import ImagePolicy, check_header

Image = pytest.importorskip("PIL.Image")
Image.init()
AVIF = ["AVIF"] if "AVIF" in Image.SAVE else []

MILLIONS = 50_000_000
MAX_PAGES = 16
CORNERS = {"red": (0, 0), "lime": (1, 0), "blue": (0, 1), "yellow": (1, 1)}
# What a camera does to the upright image before it writes this orientation.
STORED_AS = {
    1: None,
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_90",
    7: "TRANSVERSE",
    8: "ROTATE_270",
}


def quarters(size: tuple[int, int] = (96, 64)) -> Any:
    """Each quarter in a color of its own."""
    image = Image.new("RGB", size)
    for color, (x, y) in CORNERS.items():
        box = (x * size[0] // 2, y * size[1] // 2, (x + 1) * size[0] // 2, (y + 1) * size[1] // 2)
        image.paste(color, box)
    return image


def noise(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Any:
    return Image.frombytes("RGB", size, random.Random(7).randbytes(size[0] * size[1] * 3)).convert(mode)


def saved(kind: str, image: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "a maker"
    return bytes(block.tobytes())


def read(data: bytes) -> detect.Header:
    return detect.read(lambda offset, count: data[offset : offset + count], len(data))


def rework(data: bytes, *, upright: bool = True, max_edge: int | None = None, max_pixels: int = MILLIONS) -> bytes:
    """Convert the only page, if it needs a change, in this process."""
    header = read(data)
    if not convert.needs_change(header, upright=upright, max_edge=max_edge):
        return data
    check_header(header, ImagePolicy(max_pixels=max_pixels))
    convert.require(header)
    (made,) = convert.convert(
        data, header, upright=upright, max_edge=max_edge, max_pixels=max_pixels, max_pages=MAX_PAGES
    )
    found = read(made.data)
    assert (made.media_type, made.width, made.height) == (found.media_type, found.width, found.height)
    return made.data


def opened(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def close(one: Any, other: Any, by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


def has_its_corners(image: Any) -> bool:
    from PIL import ImageColor

    image = image.convert("RGB")
    places = {color: (x * (image.width - 1), y * (image.height - 1)) for color, (x, y) in CORNERS.items()}
    return all(close(image.getpixel(place), ImageColor.getrgb(color)) for color, place in places.items())


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"lossless": True}, {"mode": "P"}])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_photos_come_out_upright(orientation: int, kind: str, options: dict[str, Any]) -> None:
    image = quarters()
    turn = STORED_AS[orientation]
    stored = image.transpose(Image.Transpose[turn]) if turn else image
    if options.get("mode") and kind == "PNG":
        stored = stored.convert("P")
    data = saved(kind, stored, exif=exif(orientation), **({} if "mode" in options else options))
    result = rework(data)
    header = read(result)
    assert (header.media_type, header.width, header.height) == (f"image/{kind.lower()}", 96, 64)
    assert header.orientation == 1
    assert has_its_corners(opened(result))
    assert opened(result).getexif()[0x010F] == "a maker"
    assert (result is data) == (orientation == 1)
    if kind == "PNG":
        assert opened(result).convert("RGB").tobytes() == image.tobytes()
    assert (b"VP8L" in result[:60]) == (b"VP8L" in data[:60])
    small = rework(data, upright=False, max_edge=48)
    assert read(small).orientation == orientation
    assert max(read(small).width, read(small).height) == 48


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_invalid_orientation_is_ignored(kind: str) -> None:
    data = saved(kind, noise(), exif=exif(9))
    assert read(data).orientation == 1
    assert opened(rework(data, max_edge=20)).getexif()[0x0112] == 1


def test_an_image_that_needs_no_change_is_returned_unchanged() -> None:
    data = saved("JPEG", noise(), exif=exif(6))
    assert rework(data, upright=False) is data
    assert rework(data, upright=False, max_edge=96) is data
    assert rework(saved("GIF", noise("P")), max_edge=5000).startswith(b"GIF")


JPEG_MODES = ["L", "RGB", "CMYK"]
PNG_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", m) for m in JPEG_MODES]
    + [("PNG", m) for m in PNG_MODES]
    + [("WEBP", m) for m in ("RGB", "RGBA")]
    + [("GIF", m) for m in ("1", "L", "P")]
    + [("BMP", m) for m in ("1", "L", "P", "RGB", "RGBA")]
    + [("TIFF", m) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")]
    + [(kind, m) for kind in AVIF for m in ("L", "RGB", "RGBA")],
)
def test_every_mode_shrinks(kind: str, mode: str) -> None:
    image = quarters((96, 64)).convert("RGB" if mode == "I;16" else mode)
    if mode == "I;16":
        image = image.convert("L").point(lambda v: v * 257, "I").convert("I;16")
    data = saved(kind, image)
    try:
        expected = opened(data)
    except OSError:
        pytest.skip("this Pillow can't read what it wrote")
    result = rework(data, max_edge=50)
    header = read(result)
    assert header.media_type in detect.SENDABLE
    assert (header.width, header.height) == (50, 33)
    shrunk = opened(result).convert("RGB")
    gray = mode in ("1", "L", "LA", "I;16", "I", "F")
    expected = quarters().convert("L").convert("RGB") if gray else expected.convert("RGB")
    for place in ((0, 0), (1, 0), (0, 1), (1, 1)):
        got = shrunk.getpixel((place[0] * 49, place[1] * 32))
        want = expected.getpixel((place[0] * 95, place[1] * 63))
        assert mode in ("1", "I", "F") or close(got, want, 25), (place, got, want)


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (301, 299)])
def test_the_long_edge_is_what_was_asked_for(size: tuple[int, int]) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        header = read(rework(saved(kind, noise(size=size)), max_edge=100))
        assert max(header.width, header.height) == 100
        assert min(header.width, header.height) >= 1


def test_transparency_survives_shrinking() -> None:
    image = Image.new("RGBA", (80, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (40, 0, 80, 40))
    palette = image.convert("RGB").quantize(4)
    for data in (
        saved("PNG", image),
        saved("WEBP", image),
        saved("PNG", palette, transparency=palette.getpixel((0, 0))),
        saved("GIF", palette, transparency=palette.getpixel((0, 0))),
        saved("PNG", image.convert("RGB"), transparency=(255, 0, 0)),
        saved("TIFF", image),
    ):
        result = opened(rework(data, max_edge=20)).convert("RGBA")
        assert result.size == (20, 10)
        assert result.getpixel((0, 5))[3] == 0
        assert close(result.getpixel((19, 5)), (0, 0, 255, 255))


@pytest.mark.parametrize(
    ("kind", "image", "media_type"),
    [
        ("BMP", noise(), "image/jpeg"),
        ("BMP", quarters(), "image/png"),
        ("BMP", noise("P"), "image/png"),
        ("TIFF", noise("L"), "image/jpeg"),
        ("TIFF", noise("1"), "image/png"),
        ("TIFF", noise("RGBA"), "image/jpeg"),
        ("TIFF", Image.new("RGBA", (96, 64), (9, 9, 9, 9)), "image/png"),
        *((kind, noise(), "image/jpeg") for kind in AVIF),
        *((kind, Image.new("RGBA", (96, 64), (9, 9, 9, 9)), "image/png") for kind in AVIF),
    ],
)
def test_other_types_are_converted(kind: str, image: Any, media_type: str) -> None:
    result = rework(saved(kind, image))
    header = read(result)
    assert (header.media_type, header.width, header.height) == (media_type, 96, 64)
    if media_type == "image/png":
        assert opened(result).convert("RGBA").getpixel((0, 0)) == image.convert("RGBA").getpixel((0, 0))


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["TIFF", "HEIF", *AVIF])
def test_converted_images_are_upright(kind: str, orientation: int) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    stored = quarters().transpose(Image.Transpose[str(STORED_AS[orientation])])
    options = {"exif": exif(orientation)} if kind != "TIFF" else {"tiffinfo": {0x0112: orientation}}
    result = rework(saved(kind, stored, **options), upright=False)
    assert opened(result).size == (96, 64)
    assert has_its_corners(opened(result))
    assert read(result).orientation == 1


def test_heic_without_its_plugin_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageFormatError, match="pip install pillow-heif"):
        rework(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_sixteen_bits_keep_their_brightness() -> None:
    """Pillow clips 16-bit grays to white when it makes 8 bits of them."""
    image = Image.new("I;16", (60, 60), 128 * 257)
    for data in (saved("PNG", image), saved("TIFF", image)):
        assert opened(rework(data, max_edge=30)).convert("L").getextrema() == (128, 128)


def test_a_transparent_color_of_sixteen_bits() -> None:
    """A 16-bit PNG whose tRNS names its one color is transparent all over, also when it has 8 bits."""
    for color_type, key in ((0, b"\x12\x34"), (2, b"\x12\x34\x56\x78\x9a\xbc")):
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", 40, 20, 16, color_type, 0, 0, 0)),
            (b"tRNS", key),
            (b"IDAT", zlib.compress((b"\0" + key * 40) * 20)),
            (b"IEND", b""),
        ]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
        assert opened(rework(data, max_edge=20)).getchannel("A").getextrema() == (0, 0)


def test_the_color_profile_is_kept() -> None:
    rgb, cmyk = (bytes(16) + space + bytes(108) for space in (b"RGB ", b"CMYK"))
    for kind in ("JPEG", "PNG", "WEBP"):
        assert opened(rework(saved(kind, noise(), icc_profile=rgb), max_edge=20)).info["icc_profile"] == rgb
    assert opened(rework(saved("JPEG", noise("CMYK"), icc_profile=cmyk), max_edge=20)).info["icc_profile"] == cmyk
    assert "icc_profile" not in opened(rework(saved("TIFF", noise("CMYK"), icc_profile=cmyk))).info


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_animations_give_their_first_frame(kind: str) -> None:
    rest = [Image.new("RGB", (96, 64), color) for color in ("black", "white")]
    result = opened(rework(saved(kind, quarters(), save_all=True, append_images=rest, duration=50), max_edge=48))
    assert getattr(result, "n_frames", 1) == 1
    assert has_its_corners(result)


BOMBS = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xff\xff\0\0\xff\xff\x08\2\0\0\0" + bytes(4) + b"\0\0\0\0IDAT",
    "image/jpeg": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0",
    "image/gif": b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;",
    "image/webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\xff\0\xfe\xff\0",
    "image/bmp": b"BM" + bytes(12) + b"\x28\0\0\0\xff\xff\0\0\xff\xff\0\0\1\0\x18\0" + bytes(24),
}


@pytest.mark.parametrize("media_type", BOMBS)
def test_bombs_are_refused_by_their_header(media_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_opened", None)
    with pytest.raises(ImageTooLargeError, match=r"4,294,836,225 pixels, the policy allows 50,000,000"):
        rework(BOMBS[media_type], max_edge=10)


def test_a_size_that_the_header_hides_is_seen_before_decoding() -> None:
    data = saved("TIFF", noise(size=(300, 300)))
    header = detect.Header("image/tiff", 0, 0)
    with pytest.raises(ImageTooLargeError, match="90,000 pixels, the policy allows 80,000"):
        convert.convert(data, header, upright=True, max_edge=None, max_pixels=80_000, max_pages=MAX_PAGES)


def test_pillows_own_limit_neither_warns_nor_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
            rework(saved(kind, noise()), max_edge=10)
    assert Image.MAX_IMAGE_PIXELS == 4000


def test_pillows_own_refusal_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Image.DecompressionBombError("a text that quotes the file")

    monkeypatch.setattr(convert, "_opened", refuse)
    with pytest.raises(ImageTooLargeError, match=r"6,144 pixels.*MAX_IMAGE_PIXELS is") as caught:
        rework(saved("TIFF", noise()))
    assert "quotes" not in str(caught.value)


WHOLE = {
    kind: saved(kind, noise(size=(120, 80)), **({"exif": exif(6)} if kind in ("JPEG", "PNG", "WEBP") else {}))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *AVIF)
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_images_are_refused(kind: str) -> None:
    data = WHOLE[kind]
    # TIFF and AVIF keep what the header needs at the end or behind it, a GIF may lack its trailer.
    for part in (0.3, 0.6, 0.9):
        cut = data[: int(len(data) * part)]
        with pytest.raises(ImageFormatError, match="corrupt or not fully there") as caught:
            rework(cut, max_edge=50)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(WHOLE.values())), st.randoms(use_true_random=False), st.integers(1, 30), st.booleans())
def test_mutated_images_are_converted_or_refused(
    whole: bytes, chance: random.Random, edits: int, is_early: bool
) -> None:
    mutated = bytearray(whole)
    for _ in range(edits):
        mutated[chance.randrange(400 if is_early else len(mutated))] = chance.randrange(256)
    data = bytes(mutated)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = rework(data, max_edge=40, max_pixels=1_000_000)
        except ImageError:
            return
        opened(result)  # warns of an EXIF that was broken before
    header = read(result)
    assert header.media_type in detect.SENDABLE
    assert max(header.width, header.height) <= 40
    assert header.orientation == 1


@pytest.mark.parametrize("media_type", ["image/svg+xml", "application/pdf", "image/vnd.microsoft.icon"])
def test_what_can_not_be_converted_is_refused(media_type: str) -> None:
    with pytest.raises(ImageFormatError, match="save it as PNG or JPEG"):
        convert.require(detect.Header(media_type, 0, 0))


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "is_available", lambda: False)
    for data, edge in ((WHOLE["JPEG"], None), (WHOLE["GIF"], 50), (WHOLE["BMP"], None)):
        with pytest.raises(ImageFormatError, match=r'pip install "predictionguard-integrations\[images\]"'):
            rework(data, max_edge=edge)
    assert rework(WHOLE["GIF"]) is WHOLE["GIF"]


def test_the_module_is_imported_without_pillow() -> None:
    code = (
        "import sys; from predictionguard_core.images import convert; "
        "convert.is_available(); assert not [m for m in sys.modules if m.split('.')[0] in ('PIL', 'pillow_heif')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
