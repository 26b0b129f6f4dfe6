"""What is sent of a picture, by both wings: of the type that its bytes tell, the right way up, within the limits, and
otherwise untouched.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import features

from predictionguard_core import ImageFormatError, ImagePolicy, ImageTooLargeError, PredictionGuardError
from predictionguard_core.images import convert, decoder
from predictionguard_core.images.image import Image
from predictionguard_core.sandbox import Sandbox
from tests.images_end_to_end.entry_points import ENTRY_POINTS, PNG, Data, Text, ask, decoded, encoded, sent, told, uri

through_each_entry_point = pytest.mark.parametrize("entry_point", ENTRY_POINTS)
HAS_AVIF = features.check("avif")


def photo(size: tuple[int, int] = (96, 64)) -> Pillow.Image:
    """Each quarter in a colour of its own, of too many shades to be a drawing."""
    image = Pillow.new("RGB", size)
    for corner, (x, y) in CORNERS.items():
        quarter = Pillow.linear_gradient("L").resize((size[0] // 2, size[1] // 2)).point(lambda shade: 155 + shade // 3)
        dark = Pillow.linear_gradient("L").rotate(90).resize(quarter.size).point(lambda shade: shade // 3)
        bands = [quarter if part else dark for part in COLOURS[corner]]
        image.paste(Pillow.merge("RGB", bands), (x * size[0] // 2, y * size[1] // 2))
    return image


CORNERS = {"red": (0, 0), "green": (1, 0), "blue": (0, 1), "yellow": (1, 1)}
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


def has_its_corners(image: Pillow.Image) -> bool:
    found = image.convert("RGB")
    for corner, (x, y) in CORNERS.items():
        pixel = found.getpixel((found.width * (2 * x + 1) // 4, found.height * (2 * y + 1) // 4))
        assert isinstance(pixel, tuple)
        if tuple(int(band > 110) for band in pixel) != COLOURS[corner]:
            return False
    return True


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(photo()).save(out, quality=90)
    return out.getvalue()


def avif() -> bytes:
    if not HAS_AVIF:
        pytest.skip("this build of Pillow has no AVIF")
    return encoded(photo(), "AVIF", quality=90)


def one(box: Sandbox) -> tuple[str, bytes]:
    (only,) = sent(box)
    return only


def refused(
    entry_point: str, box: Sandbox, data: bytes, kind: type[PredictionGuardError], *saying: str, **policy: Any
) -> PredictionGuardError:
    """The picture does not get past this entry point, in whatever form, and the error says these numbers."""
    for given in (Data(data), Text(uri(data))):
        with pytest.raises(kind) as caught:
            ask(entry_point, box, given, policy=ImagePolicy(**policy))
        for number in saying:
            assert number in str(caught.value)
        assert (caught.value.message_index, caught.value.block_index) == (0, 1)
    assert box.requests == []
    return caught.value


# Types


CONVERTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "BMP": (lambda: encoded(photo(), "BMP"), "image/jpeg"),
    "BMP of few colours": (lambda: encoded(Pillow.new("RGB", (96, 64), "red"), "BMP"), "image/png"),
    "TIFF": (lambda: encoded(photo(), "TIFF"), "image/jpeg"),
    "TIFF compressed": (lambda: encoded(photo(), "TIFF", compression="tiff_lzw"), "image/jpeg"),
    "TIFF transparent": (lambda: encoded(half_clear(), "TIFF"), "image/png"),
    "HEIC": (heic, "image/jpeg"),
    "AVIF": (avif, "image/jpeg"),
}


def half_clear() -> Pillow.Image:
    image = photo().convert("RGBA")
    image.putalpha(Pillow.linear_gradient("L").resize(image.size))
    return image


@through_each_entry_point
@pytest.mark.parametrize("name", CONVERTED)
def test_what_can_not_be_sent_is_converted(entry_point: str, name: str, box: Sandbox) -> None:
    make, media_type = CONVERTED[name]
    ask(entry_point, box, Data(make()))
    declared, data = one(box)
    image = decoded(data)
    assert (declared, Pillow.MIME[str(image.format)], image.size) == (media_type, media_type, (96, 64))
    assert "few" in name or has_its_corners(image)


@through_each_entry_point
def test_without_the_extra_the_error_names_it(entry_point: str, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "is_available", lambda: False)
    refused(entry_point, box, encoded(photo(), "BMP"), ImageFormatError, "predictionguard-integrations[images]")


@through_each_entry_point
@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>s3cr3t()</script></svg>",
        b"<?xml version='1.0'?>\n<!-- s3cr3t -->\n<svg width='1' height='1'/>",
        b"<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///s3cr3t'>]><svg>&x;</svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0 s3cr3t",
        b"8BPS\0\1s3cr3t" + bytes(60),
        b"<html>s3cr3t</html>",
        b"s3cr3t",
        b"PK\x03\x04s3cr3t" + bytes(60),
        b"\x7fELFs3cr3t" + bytes(60),
    ],
    ids=["SVG", "SVG with a prolog", "SVG with an entity", "EPS", "PSD", "HTML", "text", "ZIP", "ELF"],
)
def test_what_is_no_picture_is_refused_and_not_echoed(entry_point: str, data: bytes, box: Sandbox) -> None:
    error = refused(entry_point, box, data, ImageFormatError)
    assert "s3cr3t" not in told(error)


@through_each_entry_point
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize(
    "declared",
    ["image/jpg", "image/jpeg", "image/png", "image/pjpeg", "IMAGE/JPG", "text/plain", "application/pdf", ""],
)
def test_the_bytes_tell_the_type_and_go_out_as_they_are(
    entry_point: str, kind: str, declared: str, box: Sandbox
) -> None:
    data = encoded(photo(), kind)
    for given in (Data(data, declared or None), Text(uri(data, declared))):
        ask(entry_point, box, given)
        assert one(box) == (Pillow.MIME[kind], data)


@through_each_entry_point
def test_what_comes_after_the_picture_stays(entry_point: str, box: Sandbox) -> None:
    data = encoded(photo(), "JPEG") + b"a trailer of the camera's own"
    ask(entry_point, box, Data(data))
    assert one(box) == ("image/jpeg", data)


@through_each_entry_point
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_png_goes_out_byte_for_byte(entry_point: str, mode: str, box: Sandbox) -> None:
    image = half_clear().convert(mode)
    data = encoded(image, "PNG", transparency=3) if mode == "P" else encoded(image, "PNG")
    ask(entry_point, box, Data(data))
    assert one(box) == ("image/png", data)


@through_each_entry_point
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_goes_out_byte_for_byte(entry_point: str, kind: str, box: Sandbox) -> None:
    data = encoded(photo(), kind, save_all=True, append_images=[Pillow.new("RGB", (96, 64), "teal")], duration=80)
    ask(entry_point, box, Data(data))
    assert one(box) == (Pillow.MIME[kind], data)
    assert getattr(Pillow.open(io.BytesIO(one(box)[1])), "n_frames", 1) == 2


@through_each_entry_point
def test_several_pictures_keep_their_order(entry_point: str, box: Sandbox) -> None:
    plain, bmp = encoded(photo(), "PNG"), encoded(photo((48, 32)), "BMP")
    ask(entry_point, box, Data(plain), Data(bmp), Text(uri(PNG)), Data(plain))
    assert [decoded(data).size for _, data in sent(box)] == [(96, 64), (48, 32), (40, 30), (96, 64)]


# The right way up

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
"""What a camera does to the upright picture before it writes this orientation (EXIF 2.32, 4.6.4.A)."""


def stored(orientation: int, kind: str = "JPEG", size: tuple[int, int] = (96, 64)) -> bytes:
    turn = STORED_AS[orientation]
    image = photo(size)
    return encoded(image.transpose(Pillow.Transpose[turn]) if turn else image, kind, exif=exif(orientation), quality=95)


def exif(orientation: int) -> bytes:
    """A phone's EXIF: which way it was held, what it is called, and where it was."""
    block = Pillow.Exif()
    block[0x0112] = orientation
    block[0x010F] = "s3cr3t maker"
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0), 3: "E", 4: (16.0, 22.0, 0.0), 29: "1999:12:31"})
    return block.tobytes()


@through_each_entry_point
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_photos_go_out_upright(entry_point: str, orientation: int, kind: str, box: Sandbox) -> None:
    data = stored(orientation, kind)
    ask(entry_point, box, Data(data))
    declared, got = one(box)
    image = decoded(got)
    assert (declared, image.size) == (Pillow.MIME[kind], (96, 64))
    assert has_its_corners(image)
    assert image.getexif().get(0x0112, 1) == 1, "it would be turned once more by whoever reads it"
    assert (got == data) is (orientation == 1)


@through_each_entry_point
@pytest.mark.parametrize("orientation", STORED_AS)
def test_or_as_they_are_where_that_is_asked_for(entry_point: str, orientation: int, box: Sandbox) -> None:
    data = stored(orientation)
    ask(entry_point, box, Data(data), policy=ImagePolicy(upright=False))
    assert one(box) == ("image/jpeg", data)


# Smaller, and without metadata


@through_each_entry_point
@pytest.mark.parametrize(("kind", "size"), [("JPEG", (1200, 800)), ("PNG", (800, 1200)), ("WEBP", (1200, 30))])
def test_the_long_edge_is_cut_down(entry_point: str, kind: str, size: tuple[int, int], box: Sandbox) -> None:
    ask(entry_point, box, Data(encoded(photo(size), kind)), policy=ImagePolicy(max_edge=300))
    declared, data = one(box)
    image = decoded(data)
    assert (declared, max(image.size)) == (Pillow.MIME[kind], 300)
    assert abs(image.width / image.height - size[0] / size[1]) / (size[0] / size[1]) < 0.08
    assert has_its_corners(image)


@through_each_entry_point
def test_and_never_drawn_larger(entry_point: str, box: Sandbox) -> None:
    data = encoded(photo((300, 200)), "JPEG")
    ask(entry_point, box, Data(data), policy=ImagePolicy(max_edge=300))
    assert one(box) == ("image/jpeg", data)


@through_each_entry_point
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("max_edge", [None, 50])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_gps_and_all_else_is_gone_where_that_is_asked_for(
    entry_point: str, kind: str, max_edge: int | None, orientation: int, box: Sandbox
) -> None:
    data = stored(orientation, kind)
    assert b"s3cr3t" in data
    ask(entry_point, box, Data(data), policy=ImagePolicy(strip_metadata=True, max_edge=max_edge))
    _, got = one(box)
    image = decoded(got)
    assert b"s3cr3t" not in got
    assert b"Exif" not in got
    assert b"1999:12:31" not in got
    assert dict(image.getexif()) == {}
    assert dict(image.getexif().get_ifd(0x8825)) == {}
    assert has_its_corners(image)
    assert image.size == ((96, 64) if max_edge is None else (50, 33))


@through_each_entry_point
def test_stripping_leaves_the_pixels_as_they_are(entry_point: str, box: Sandbox) -> None:
    data = stored(1)
    ask(entry_point, box, Data(data), policy=ImagePolicy(strip_metadata=True))
    assert decoded(one(box)[1]).tobytes() == decoded(data).tobytes()


@through_each_entry_point
def test_comments_and_text_are_gone_too(entry_point: str, box: Sandbox) -> None:
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "s3cr3t")
    text.add_itxt("XML:com.adobe.xmp", "<x>s3cr3t</x>")
    pictures = [
        encoded(photo(), "JPEG", comment=b"s3cr3t", xmp=b"<x>s3cr3t</x>"),
        encoded(photo(), "PNG", pnginfo=text),
        encoded(photo(), "WEBP", xmp=b"<x>s3cr3t</x>"),
        encoded(photo(), "GIF", comment=b"s3cr3t"),
    ]
    ask(entry_point, box, *map(Data, pictures), policy=ImagePolicy(strip_metadata=True))
    for before, (_, after) in zip(pictures, sent(box), strict=True):
        assert b"s3cr3t" in before
        assert b"s3cr3t" not in after
        assert decoded(after).convert("RGB").tobytes() == decoded(before).convert("RGB").tobytes()


# Limits


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


BOMBS: dict[str, Callable[[int, int], bytes]] = {
    "PNG": _png_of,
    "JPEG": _jpeg_of,
    "GIF": lambda width, height: _with_size(encoded(photo(), "GIF"), 6, "<HH", width, height),
    "BMP": lambda width, height: _with_size(encoded(photo(), "BMP"), 18, "<ii", width, height),
    "TIFF": _tiff_of,
}


@through_each_entry_point
@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("policy", [{}, {"max_edge": 100}, {"strip_metadata": True}], ids=str)
def test_bombs_are_refused_by_their_header(
    entry_point: str, kind: str, policy: dict[str, Any], box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("it was about to be decoded")

    bomb = BOMBS[kind](60_000, 60_000)
    monkeypatch.setattr(decoder, "decode", decode)
    refused(entry_point, box, bomb, ImageTooLargeError, "60000", "3,600,000,000", "50,000,000", **policy)


@through_each_entry_point
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_the_allowed_number_of_pixels_and_one_less(entry_point: str, kind: str, box: Sandbox) -> None:
    data = encoded(photo(), kind)
    ask(entry_point, box, Data(data), policy=ImagePolicy(max_pixels=96 * 64))
    box.clear()
    refused(entry_point, box, data, ImageTooLargeError, "6,144", "6,143", "max_pixels", max_pixels=96 * 64 - 1)


@through_each_entry_point
def test_the_allowed_number_of_bytes_and_one_less(entry_point: str, box: Sandbox) -> None:
    data = encoded(photo(), "BMP")
    ask(entry_point, box, Data(data), policy=ImagePolicy(max_bytes=len(data)))
    box.clear()
    limit = len(data) - 1
    refused(entry_point, box, data, ImageTooLargeError, f"{len(data):,}", f"{limit:,}", "max_bytes", max_bytes=limit)


@through_each_entry_point
def test_the_allowed_edge_and_one_more(entry_point: str, box: Sandbox) -> None:
    data = encoded(photo(), "PNG")
    ask(entry_point, box, Data(data), policy=ImagePolicy(min_edge=64))
    box.clear()
    refused(entry_point, box, data, ImageFormatError, "96×64", "65", "min_edge", min_edge=65)


@through_each_entry_point
def test_the_allowed_number_of_pictures_and_one_more(entry_point: str, box: Sandbox) -> None:
    ask(entry_point, box, *[Data(PNG)] * 3, policy=ImagePolicy(max_images=3))
    assert len(sent(box)) == 3
    box.clear()
    with pytest.raises(ImageTooLargeError, match="4 images, the policy allows 3"):
        ask(entry_point, box, *[Data(PNG)] * 4, policy=ImagePolicy(max_images=3))
    assert box.requests == []


@through_each_entry_point
@pytest.mark.parametrize("kind", ["BMP", "TIFF", "JPEG"])
def test_decoders_are_not_quoted(entry_point: str, kind: str, box: Sandbox) -> None:
    whole = encoded(photo(), kind)
    cut = whole[: len(whole) // 2] if kind == "BMP" else whole[:8] + b"\xff" * (len(whole) - 8)
    error = refused(entry_point, box, cut, ImageFormatError, max_edge=10)
    for word in ("PIL", "truncated", "struct", "Traceback", "unpack", "IFD"):
        assert word not in str(error)


# A picture for people


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda data: data, id="bytes"),
        pytest.param(lambda data: base64.b64encode(data).decode(), id="base64"),
        pytest.param(uri, id="data URI"),
        pytest.param(io.BytesIO, id="open file"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_shows_itself_and_not_its_bytes(kind: str, source: Callable[[bytes], Any]) -> None:
    data = encoded(photo(), kind)
    image = Image.open(source(data))
    text = repr(image)
    assert text.startswith(f"<{Pillow.MIME[kind]} 96×64 sha256:")
    assert len(text) < 60
    shown = image._repr_mimebundle_()
    assert shown.keys() == {Pillow.MIME[kind], "text/plain"}
    assert shown["text/plain"] == text
    assert base64.b64decode(shown[Pillow.MIME[kind]]) == data
    for said in (text, str(image), f"{image}", repr([image]), repr({"image": image})):
        assert base64.b64encode(data).decode()[:24] not in said


@through_each_entry_point
def test_a_picture_that_was_opened_is_taken_where_bytes_are(entry_point: str, box: Sandbox) -> None:
    """Its data URI is ordinary text, for either wing."""
    ask(entry_point, box, Text(Image.open(encoded(photo(), "BMP")).data_uri))
    assert one(box)[0] == "image/jpeg"
