"""Reading headers of images that Pillow made, and of bytes that are corrupt or hostile."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predictionguard_core.errors import ImageFormatError
from predictionguard_core.images import detect, metadata

Image = pytest.importorskip("PIL.Image")
Image.init()

GPS = b"GPS-of-the-office"


def noise(mode: str = "RGB", size: tuple[int, int] = (37, 23)) -> Any:
    noise = random.Random(7).randbytes(size[0] * size[1] * 3)
    return Image.frombytes("RGB", size, noise).convert(mode)


def saved(kind: str, image: Any = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or noise()).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int | None = None) -> bytes:
    block = Image.Exif()
    block[0x010E] = "a description " * 9
    if orientation:
        block[0x0112] = orientation
    block[0x8825] = {29: GPS.decode()}
    return bytes(block.tobytes())


def read(data: bytes) -> detect.Header:
    return detect.read(lambda offset, count: data[offset : offset + count], len(data))


def pixels_of(data: bytes) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(data)) as image:
        return image.mode, image.tobytes()


def frames() -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.new("RGB", (37, 23), c) for c in ("red", "blue")], "duration": 90}


SENDABLE = {
    "jpeg": saved("JPEG"),
    "jpeg progressive": saved("JPEG", progressive=True),
    "jpeg gray": saved("JPEG", noise("L")),
    "jpeg cmyk": saved("JPEG", noise("CMYK")),
    "jpeg metadata": saved("JPEG", exif=exif(6), comment=b"hello", xmp=b"<x:xmpmeta/>", icc_profile=b"p" * 70_000),
    "png": saved("PNG"),
    "png palette": saved("PNG", noise("P")),
    "png metadata": saved("PNG", exif=exif(6)),
    "png animated": saved("PNG", **frames()),
    "webp": saved("WEBP"),
    "webp lossless": saved("WEBP", lossless=True),
    "webp alpha": saved("WEBP", noise("RGBA")),
    "webp metadata": saved("WEBP", exif=exif(6), xmp=b"<x:xmpmeta/>"),
    "webp animated": saved("WEBP", **frames()),
    "gif": saved("GIF"),
    "gif animated": saved("GIF", **frames(), loop=0, comment=b"hello"),
}
OTHERS = {
    "image/bmp": saved("BMP"),
    "image/tiff": saved("TIFF"),
}
if "AVIF" in Image.SAVE:
    OTHERS["image/avif"] = saved("AVIF")


@pytest.mark.parametrize("name", SENDABLE)
def test_type_size_and_orientation(name: str) -> None:
    header = read(SENDABLE[name])
    kind, *traits = name.split()
    assert (header.media_type, header.width, header.height) == (f"image/{kind}", 37, 23)
    assert header.orientation == (6 if "metadata" in traits else 1)


@pytest.mark.parametrize("name", SENDABLE)
def test_truncation_is_detected(name: str) -> None:
    data = SENDABLE[name]
    assert read(data).is_whole
    assert read(data + bytes(70_000)).is_whole  # as cameras do
    marks = {"jpeg": 2, "png": 12, "webp": 1, "gif": len(data) // 2 if "animated" in name else 2}
    assert not read(data[: -marks[name.split()[0]]]).is_whole
    for end in {len(data) * 3 // 4, len(data) * 2 // 3}:
        with contextlib.suppress(ImageFormatError):  # cut in its header
            assert not read(data[:end]).is_whole


@pytest.mark.parametrize("end", [b"", b"\0;"])
def test_a_gif_of_a_million_blocks_costs_no_more_than_thousands(end: bytes) -> None:
    data, asked = SENDABLE["gif"][:-2] + b"\1\1" * 1_000_000 + end, []

    def at(offset: int, count: int) -> bytes:
        asked.append(count)
        return data[offset : offset + count]

    detect.read(at, len(data))
    assert sum(asked) < 1 << 18


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    block = Image.Exif()
    block[0x010E] = "x" * 40
    small = saved("JPEG", noise(size=(8, 8)))
    data = saved("JPEG", exif=b"Exif\0\0" + bytes(block.tobytes())[6:] + small)
    assert data.count(b"\xff\xd9") > 1
    assert read(data).is_whole
    assert not read(data[:-40]).is_whole


def test_trailing_bytes_cost_few_reads() -> None:
    data, asked = SENDABLE["jpeg"] + bytes(9 << 20), 0

    def at(offset: int, count: int) -> bytes:
        nonlocal asked
        asked += 1
        return data[offset : offset + count]

    assert detect.read(at, len(data)).is_whole
    assert asked < 40


@pytest.mark.parametrize("media_type", OTHERS)
def test_types_that_must_be_converted(media_type: str) -> None:
    assert read(OTHERS[media_type]) == detect.Header(media_type, 37, 23)


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "image/avif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"\xef\xbb\xbf \n<?xml version='1.0'?><!-- a --><!DOCTYPE svg [<!ENTITY a 'b'>]><svg:svg>", "image/svg+xml"),
        ("\ufeff<svg>".encode("utf-16-le"), "image/svg+xml"),
        (b"<html><svg></svg></html>", None),
        (b"%PDF-1.7", "application/pdf"),
        (b"\0\0\1\0\1\0", "image/vnd.microsoft.icon"),
        (b"\xff\x0a\0", "image/jxl"),
        (b"8BPS\0\1", "image/vnd.adobe.photoshop"),
        (b"BM, the car maker, sells", None),
        (b"", None),
    ],
)
def test_the_type_is_detected_from_the_first_bytes(head: bytes, media_type: str | None) -> None:
    assert detect.sniff(head) == media_type


def test_an_svg_behind_a_long_prolog_is_known() -> None:
    data = b"<?xml version='1.0'?><!--" + b"licence " * 100 + b"--><svg/>"
    assert read(data) == detect.Header("image/svg+xml", 0, 0)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>secret", "web page"),
        (b"data:image/png;base64,secret", "data URI"),
        (b"iVBORw0KGgosecret", "base64"),
        (b'{"error": "secret"}', "JSON"),
        (b"secret", "no known image type"),
    ],
)
def test_other_data_is_described_and_not_quoted(data: bytes, hint: str) -> None:
    with pytest.raises(ImageFormatError, match=hint) as caught:
        read(data)
    assert "secret" not in str(caught.value)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def test_jpeg_segments_are_skipped() -> None:
    """A thumbnail's frame header in APP1 is ignored, fill and stray bytes are skipped, little is read."""
    plain = saved("JPEG")
    lying = segment(0xE1, b"Exif\0\0" + plain * 20)
    profile = segment(0xE2, b"ICC_PROFILE\0" + bytes(65_000)) * 40
    data = plain[:2] + profile + lying + b"\xff" * 99 + b"\0stray" + plain[2:]
    asked: list[int] = []

    def at(offset: int, count: int) -> bytes:
        asked.append(count)
        return data[offset : offset + count]

    header = detect.read(at, len(data))
    assert (header.width, header.height, header.orientation) == (37, 23, 1)
    assert len(asked) < 80
    assert sum(asked) < 4000


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", [0, 1, 3, 8, 9, 65535])
def test_orientation_in_both_byte_orders(order: str, value: int) -> None:
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        order + "IHHHIHHHHIHHI", 8, 2, 0x010F, 2, 1, 0, 0, 0x0112, 3, 1, value, 0, 0
    )
    data = saved("JPEG", exif=b"Exif\0\0" + block)
    assert read(data).orientation == (value if 1 <= value <= 8 else 1)
    taken = metadata.exif(data, read(data))
    assert taken == block
    again = metadata.upright(block)
    assert len(again) == len(block)
    assert read(saved("JPEG", exif=b"Exif\0\0" + again)).orientation == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + bytes(8) + b"\x08\2\0\0\0" + bytes(4) + b"\0\0\0\0IDAT",
        b"\xff\xd8" + segment(0xC0, b"\x08\0\0\0\x05\x01\1\x11\0") + segment(0xDA, b"\1\1\0\0\x3f\0"),
        b"GIF89a\5\0\5\0\0\0\0,\0\0\0\0\0\0\5\0\0",
        b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\x10\0\0\x9d\x01\x2a\0\0\5\0",
    ],
)
def test_an_image_without_pixels_is_refused(data: bytes) -> None:
    with pytest.raises(ImageFormatError):
        read(data)


def test_a_gif_frame_beyond_the_screen_counts() -> None:
    header = read(b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;")
    assert (header.width, header.height) == (65535, 65535)


def image_data_at(name: str, data: bytes) -> int:
    sign = {"jpeg": b"\xff\xda", "png": b"IDAT", "gif": b","}.get(name.split()[0])
    if sign:
        return data.rindex(sign) if name.startswith("jpeg") and "progressive" not in name else data.index(sign)
    return 30


@pytest.mark.parametrize("name", SENDABLE)
def test_cut_anywhere_in_the_header(name: str) -> None:
    data = SENDABLE[name]
    end = image_data_at(name, data)
    for length in [*range(min(end, 700)), *range(700, end, 97)]:
        with pytest.raises(ImageFormatError):
            read(data[:length])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([*SENDABLE.values(), *OTHERS.values()]), st.randoms(use_true_random=False), st.data())
def test_mutated_images_are_read_or_refused(whole: bytes, chance: random.Random, data: st.DataObject) -> None:
    mutated = bytearray(whole[: data.draw(st.integers(0, min(len(whole), 3000)))])
    for _ in range(data.draw(st.integers(0, 20)) if mutated else 0):
        mutated[chance.randrange(min(len(mutated), 200))] = chance.randrange(256)
    calls = 0

    def at(offset: int, count: int) -> bytes:
        nonlocal calls
        calls += 1
        assert offset >= 0
        assert 0 < count <= 8192
        return bytes(mutated[offset : offset + count])

    try:
        header = detect.read(at, len(mutated))
        assert header.media_type not in detect.SENDABLE or header.pixels > 0
        assert 1 <= header.orientation <= 8
        metadata.strip(bytes(mutated), header)
    except ImageFormatError:
        pass
    assert calls <= 4096


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"RIFF0000WEBPVP8X", b"II*\0", b"\0\0\0\x18ftypheic", b"BM"]),
       st.binary(max_size=300))  # fmt: skip
def test_garbage_is_read_or_refused(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(ImageFormatError):
        read(magic + rest)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 3_000_000,
        b"\xff\xd8\xff" + bytes(3_000_000),
        b"\xff\xd8" + segment(0xE5, b"") * 100_000,
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\5\0\0\0\5\x08\2\0\0\0" + bytes(4) + b"\0\0\0\0tEXt\0\0\0\0" * 100_000,
        b"GIF89a\5\0\5\0\0\0\0" + b"!\xfe\0" * 100_000,
        b"\0\0\0\x10ftypheic\0\0\0\0" + b"\0\0\0\x08free" * 100_000,
        b"\0\0\0\x10ftypheic\0\0\0\0" + b"\0\0\0\0meta\0\0\0\0" * 100_000,
        b"RIFF\xff\xff\xff\x7fWEBPVP8X\x0a\0\0\0\x08\0\0\0\5\0\0\5\0\0" + b"JUNK\0\0\0\0" * 100_000,
        b"<!--" * 1_000_000,
        b"<?xml?>" + b" " * 1_000_000,
    ],
)
def test_endless_headers_are_refused_in_bounded_work(data: bytes) -> None:
    calls = 0

    def at(offset: int, count: int) -> bytes:
        nonlocal calls
        calls += 1
        return data[offset : offset + count]

    with pytest.raises(ImageFormatError):
        detect.read(at, len(data))
    assert calls <= 4096


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_strip_removes_gps_and_keeps_the_pixels(kind: str, orientation: int) -> None:
    extra = {"JPEG": {"comment": b"hello"}, "PNG": {}, "WEBP": {}}[kind]
    data = saved(kind, exif=exif(orientation), xmp=b"<x:xmpmeta>hello</x:xmpmeta>", icc_profile=bytes(200), **extra)
    if kind == "PNG":
        text = b"tEXtComment\0hello"
        data = data[:-12] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + data[-12:]
    assert GPS in data
    header = read(data)
    assert header.orientation == orientation
    clean = metadata.strip(data + (b"" if kind == "WEBP" else saved("JPEG", exif=exif())), header)
    assert GPS not in clean
    assert b"hello" not in clean
    assert b"description" not in clean
    assert pixels_of(clean) == pixels_of(data)
    assert (read(clean).width, read(clean).orientation) == (37, orientation)
    with Image.open(io.BytesIO(clean)) as image:
        assert image.info["icc_profile"] == bytes(200)
        assert dict(image.getexif()) == ({0x0112: 6} if orientation == 6 else {})
    assert metadata.strip(clean, read(clean)) == clean


@pytest.mark.parametrize("name", SENDABLE)
def test_strip_keeps_everything_visible(name: str) -> None:
    data = SENDABLE[name]
    clean = metadata.strip(data, read(data))
    assert pixels_of(clean) == pixels_of(data)
    if "metadata" not in name and name != "gif animated":
        assert clean is data
    with Image.open(io.BytesIO(clean)) as image, Image.open(io.BytesIO(data)) as original:
        assert getattr(image, "n_frames", 1) == getattr(original, "n_frames", 1)
        assert image.info.get("loop") == original.info.get("loop")
        assert "comment" not in image.info


def test_strip_refuses_files_that_it_can_not_parse() -> None:
    with pytest.raises(ImageFormatError, match="image/bmp"):
        metadata.strip(OTHERS["image/bmp"], read(OTHERS["image/bmp"]))
    many = SENDABLE["png"][:-12] + b"\0\0\0\0teXt\0\0\0\0" * 100_000 + SENDABLE["png"][-12:]
    with pytest.raises(ImageFormatError):
        metadata.strip(many, read(many))
    for kind in ("png", "webp", "gif"):
        with pytest.raises(ImageFormatError):
            metadata.strip(SENDABLE[kind][:-30], read(SENDABLE[kind]))
