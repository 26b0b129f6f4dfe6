"""Every kind of image source is sent as the same bytes."""

from __future__ import annotations

import base64
import contextlib
import copy
import io
import json
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictionguard_core.api.body import chat_body
from predictionguard_core.errors import (
    ImageBlockedError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    PredictionGuardError,
)
from predictionguard_core.images.encoding import Encoded
from predictionguard_core.images.image import Image
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.images.sources import Base64, Deferred, Remote, open_source
from tests.core.images.samples import GIF, b64, data_uri, png, prepared, question

MEBIBYTE = 1 << 20
# Lengths of every remainder modulo 3, so that each base64 padding and every character of both alphabets occur.
IMAGES = [png(5, 4, padding=length, seed=length) for length in (1000, 1001, 1002)]


def urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def wrapped(data: bytes, end: str = "\n") -> str:
    return end.join(textwrap.wrap(b64(data), 76)) + end


def uri(text: str, kind: str = "image/png;base64") -> str:
    return f"data:{kind},{text}"


SOURCES: list[tuple[str, Callable[[bytes], Any]]] = [
    ("data URI", data_uri),
    ("declared jpeg", lambda data: data_uri(data, "image/jpeg")),
    ("declared image/jpg", lambda data: data_uri(data, "image/jpg")),
    ("declared None", lambda data: data_uri(data, "None")),
    ("declared nothing", lambda data: uri(b64(data), ";base64")),
    ("declared text", lambda data: data_uri(data, "text/plain;charset=utf-8")),
    ("loud", lambda data: uri(b64(data), "IMAGE/PNG;BASE64").replace("data", "DATA")),
    ("blanks around", lambda data: f"\n  {data_uri(data)} \n"),
    ("percent signs", lambda data: uri(quote(b64(data), safe=""))),
    ("percent bytes", lambda data: uri(quote(data), "image/png")),
    ("wrapped URI", lambda data: uri(wrapped(data))),
    ("URL-safe URI", lambda data: uri(urlsafe(data))),
    ("URI without padding", lambda data: uri(b64(data).rstrip("="))),
    ("base64", b64),
    ("wrapped base64", wrapped),
    ("wrapped with CRLF", lambda data: wrapped(data, "\r\n")),
    ("URL-safe", urlsafe),
    ("no padding", lambda data: b64(data).rstrip("=")),
    ("URL-safe, no padding", lambda data: urlsafe(data).rstrip("=")),
    ("Base64 of str", lambda data: Base64(b64(data))),
    ("Base64 of bytes", lambda data: Base64(b64(data).encode())),
    ("Base64 of bytearray", lambda data: Base64(bytearray(b64(data).encode()))),  # type: ignore[arg-type]
    ("Base64 of memoryview", lambda data: Base64(memoryview(b64(data).encode()))),  # type: ignore[arg-type]
    ("Base64, wrapped bytes", lambda data: Base64(wrapped(data).encode())),
    ("bytes", bytes),
    ("bytearray", bytearray),
    ("memoryview", memoryview),
    ("open file", io.BytesIO),
    ("Image", lambda data: Image.open(data)),
]


def on_the_wire(source: Any, policy: ImagePolicy | None = None) -> str:
    """Return the image URL in the request body."""
    body = json.loads(b"".join(chat_body(question(source), [Image.open(source, policy)], stream=False)))
    found: str = body["messages"][0]["content"][1]["image_url"]["url"]
    return found


@pytest.mark.parametrize("image", IMAGES, ids=["1000", "1001", "1002"])
@pytest.mark.parametrize("as_source", [case[1] for case in SOURCES], ids=[case[0] for case in SOURCES])
def test_every_source_gives_the_same_bytes_on_the_wire(as_source: Callable[[bytes], Any], image: bytes) -> None:
    assert on_the_wire(as_source(image)) == data_uri(image)


class TestFiles:
    @pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.txt", "p"])
    def test_the_bytes_decide_and_not_the_suffix(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(GIF)
        assert on_the_wire(tmp_path / name) == data_uri(GIF, "image/gif")
        with open(tmp_path / name, "rb") as file:
            assert on_the_wire(file) == data_uri(GIF, "image/gif")
            assert not file.closed

    @pytest.mark.parametrize("name", ["astronaut", "cat", "coffee", "galaxies", "photographer", "receipt"])
    def test_a_photograph_goes_out_byte_for_byte(self, photos: Path, name: str) -> None:
        path = photos / f"{name}.jpg"
        assert on_the_wire(path) == data_uri(path.read_bytes(), "image/jpeg")

    def test_a_string_is_a_path_only_below_the_roots(self, tmp_path: Path) -> None:
        (tmp_path / "p.png").write_bytes(IMAGES[0])
        (image,) = prepared(str(tmp_path / "p.png"), ImagePolicy(local_roots=[tmp_path]))
        assert image.data == IMAGES[0]
        with pytest.raises(ImageFormatError, match="local_roots"):
            prepared(str(tmp_path / "p.png"))

    def test_files_are_not_read_before_they_are_needed(self, tmp_path: Path) -> None:
        assert isinstance(open_source(tmp_path / "missing.png", ImagePolicy()), Deferred)
        with open(__file__, "rb") as file:
            assert isinstance(open_source(file, ImagePolicy()), Deferred)
        assert isinstance(open_source(b64(GIF), ImagePolicy()), Encoded)

    def test_a_file_that_gives_text_or_fails(self, tmp_path: Path) -> None:
        with pytest.raises(ImageFormatError, match="binary"):
            Image.open(io.StringIO("x"))
        file = io.BytesIO(GIF)
        file.close()
        with pytest.raises(ImageFormatError, match="closed"):
            Image.open(file)


class TestRemote:
    @pytest.mark.parametrize("text", ["http://a.example/p", "HTTPS://a.example/p", "  https://a.example/p\n", "http:x"])
    def test_a_url_is_not_downloaded_here(self, text: str) -> None:
        assert open_source(text, ImagePolicy()) == Remote(text.strip())
        with pytest.raises(ImageError):
            Image.open(text)

    @pytest.mark.parametrize(
        "scheme", ["file://", "ftp://", "file:", "javascript:", "blob:", "about:", "s3://", "gs://"]
    )
    def test_other_schemes_are_refused_by_name(self, scheme: str) -> None:
        with pytest.raises(ImageBlockedError, match=scheme.partition(":")[0]):
            prepared(f"{scheme}a/p.png", ImagePolicy(local_roots=["/"]))


def damaged(sign: str) -> Iterator[Any]:
    """Base64 with an invalid character: at its start, in its header, further on, and before its end."""
    text = b64(png(5, 4, padding=300_000))
    for index in (0, 40, 100_000, 200_000, len(text) - 9):
        broken = text[:index] + sign + text[index + 1 :]
        yield from (broken, uri(broken), Base64(broken))
        if sign.isascii():
            yield Base64(broken.encode())


class TestBadSources:
    @pytest.mark.parametrize(
        "empty", ["", "  \n", b"", bytearray(), "data:image/png;base64,", "data:,", Base64(""), Base64(b"\n")]
    )
    def test_empty(self, empty: Any) -> None:
        with pytest.raises(ImageFormatError, match="empty"):
            Image.open(empty)

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "p.png").touch()
        with pytest.raises(ImageFormatError, match="empty"):
            Image.open(tmp_path / "p.png")

    @pytest.mark.parametrize("source", [None, 5, 1.5, [], {}, object(), Image, {"url": "x"}, ("a",)])
    def test_the_error_names_the_type_of_other_objects(self, source: Any) -> None:
        with pytest.raises(
            ImageFormatError, match=rf"the image is an? [\w.]*{type(source).__name__}, which is not an image source"
        ):
            Image.open(source)

    @pytest.mark.parametrize(
        "text",
        [
            "hello", "an image of a cat", b64(b"no image at all" * 9), "data:image/png", "data:image/png;base64",
            "data:image/png;base64,hello", f"data:image/png,{b64(IMAGES[0])}", "data:" + "x" * 2000, "iVBORw0KGgo=",
            "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>", b64(IMAGES[0])[:40], "====", "é" * 50,
        ],
    )  # fmt: skip
    def test_text_that_is_no_image(self, text: str) -> None:
        with pytest.raises(ImageFormatError):
            Image.open(text)

    @pytest.mark.parametrize(
        "data", [b"hello", b"\0" * 100, IMAGES[0][:20], b"%PDF-1.7", b"<html>", b"<svg/>", b"MZ" * 99]
    )
    def test_bytes_that_are_no_image(self, data: bytes) -> None:
        for source in (data, io.BytesIO(data), Base64(b64(data)), data_uri(data)):
            with pytest.raises(ImageFormatError):
                Image.open(source)

    @pytest.mark.parametrize("sign", ['"', "\\", "\0", "\x0b", "\x1f", "%22", "%5c", "%00", "é", "\u2028"])
    def test_base64_can_not_leave_its_json_string(self, sign: str) -> None:
        for source in damaged(sign):
            with pytest.raises(ImageError):
                Image.open(source)

    @pytest.mark.parametrize("sign", ["!", "=", "\x7f", "%zz", ".", ","])
    def test_damaged_base64_is_not_sent(self, sign: str) -> None:
        for source in damaged(sign):
            with pytest.raises(ImageError):
                Image.open(source)

    @given(
        st.text(max_size=80),
        st.sampled_from(["", "data:", "data:image/png;base64,", "iVBORw0KGgo", "/9j/", "R0lGODlh"]),
    )
    def test_any_text_is_accepted_or_refused_with_our_error(self, text: str, start: str) -> None:
        source = start + text
        for each in (source, Base64(source)):
            try:
                if not isinstance(open_source(each, ImagePolicy()), Remote):
                    assert b'"' not in b"".join(prepared(each)[0].pieces())
            except PredictionGuardError:
                pass

    @given(
        st.binary(max_size=80),
        st.sampled_from([b"", IMAGES[0][:40], GIF[:12], b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP"]),
    )
    def test_any_bytes_are_accepted_or_refused_with_our_error(self, data: bytes, start: bytes) -> None:
        with contextlib.suppress(PredictionGuardError):
            Image.open(start + data)


class TestLimits:
    @pytest.mark.parametrize("as_source", [case[1] for case in SOURCES if case[0] != "Image"])
    def test_bytes_with_both_numbers(self, as_source: Callable[[bytes], Any]) -> None:
        image = IMAGES[1]
        assert Image.open(as_source(image), ImagePolicy(max_bytes=len(image))).data == image
        with pytest.raises(ImageTooLargeError, match=rf"{len(image):,}.* {len(image) - 1:,} .*max_bytes"):
            Image.open(as_source(image), ImagePolicy(max_bytes=len(image) - 1))

    def test_bytes_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "p.png").write_bytes(IMAGES[0])
        with pytest.raises(ImageTooLargeError, match=r"100 \(ImagePolicy.max_bytes"):
            Image.open(tmp_path / "p.png", ImagePolicy(max_bytes=100))

    def test_a_pipe_is_read_to_its_end(self) -> None:
        class Pipe(io.RawIOBase):
            """Returns less than it is asked for."""

            def __init__(self) -> None:
                self._rest = IMAGES[0]

            def read(self, size: int = -1) -> bytes:
                data, self._rest = self._rest[:7], self._rest[7:]
                return data

        assert Image.open(Pipe()).data == IMAGES[0]

    def test_an_endless_file_is_not_read_to_its_end(self) -> None:
        class Endless(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                assert size > 0
                return b"x" * size

        with pytest.raises(ImageTooLargeError):
            Image.open(Endless(), ImagePolicy(max_bytes=1000))

    def test_pixels_with_both_numbers(self) -> None:
        assert Image.open(png(10, 10), ImagePolicy(max_pixels=100)).size == (10, 10)
        with pytest.raises(ImageTooLargeError, match=r"10×11 = 110 pixels.*allows 100 .*max_pixels"):
            Image.open(png(10, 11), ImagePolicy(max_pixels=100))

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        header = png(1, 1).replace(b"\0\0\0\1\0\0\0\1", b"\0\1\0\0\0\1\0\0", 1)
        with pytest.raises((ImageTooLargeError, ImageFormatError)):
            Image.open(header)


class TestPhonePhoto:
    """`phone_portrait.jpg` is stored sideways, with its orientation, its maker and a GPS position."""

    @pytest.fixture
    def photo(self, photos: Path) -> Path:
        pytest.importorskip("PIL")
        return photos / "phone_portrait.jpg"

    def test_is_turned_upright(self, photo: Path) -> None:
        found = Image.open(photo)
        assert (found.media_type, found.size) == ("image/jpeg", (480, 640))
        assert found.data != photo.read_bytes()
        assert Image.open(found.data).size == (480, 640)

    def test_is_left_as_it_is_where_the_policy_says_so(self, photo: Path) -> None:
        found = Image.open(photo, ImagePolicy(upright=False))
        assert found.size == (640, 480)
        assert found.data == photo.read_bytes()

    @pytest.mark.parametrize("upright", [True, False])
    def test_loses_its_metadata_where_the_policy_says_so(self, photo: Path, upright: bool) -> None:
        assert b"Example Phone 1" in photo.read_bytes()
        found = Image.open(photo, ImagePolicy(strip_metadata=True, upright=upright))
        assert b"Example Phone 1" not in found.data
        assert b"GPS" not in found.data

    def test_is_made_smaller_where_the_policy_says_so(self, photo: Path) -> None:
        found = Image.open(photo, ImagePolicy(max_edge=320))
        assert found.size == (240, 320)
        assert Image.open(photo, ImagePolicy(max_edge=640)).size == (480, 640)


class TestImage:
    def test_attributes(self) -> None:
        image = Image.open(IMAGES[0])
        assert (image.media_type, image.size, image.data) == ("image/png", (5, 4), IMAGES[0])
        assert image.data_uri == data_uri(IMAGES[0])
        assert image.length == len(image.data_uri) == sum(map(len, image.pieces()))

    @pytest.mark.parametrize("as_source", [case[1] for case in SOURCES], ids=[case[0] for case in SOURCES])
    def test_equality_does_not_depend_on_the_source(self, as_source: Callable[[bytes], Any]) -> None:
        one, other = Image.open(IMAGES[0]), Image.open(as_source(IMAGES[0]))
        assert (one, hash(one), one.digest, repr(one)) == (other, hash(other), other.digest, repr(other))
        assert other != Image.open(IMAGES[1])
        assert other != IMAGES[0]

    def test_its_repr_shows_no_bytes(self) -> None:
        image = Image.open(IMAGES[0])
        assert repr(image) == f"<image/png 5×4 sha256:{image.digest[:12]}>"
        for shown in (repr(Base64(b64(IMAGES[0]))), repr(Remote("http://a.example/")), repr(image)):
            assert "iVBOR" not in shown
            assert len(shown) < 100

    def test_shows_itself_in_a_notebook(self) -> None:
        bundle = Image.open(IMAGES[0])._repr_mimebundle_()
        assert base64.b64decode(bundle["image/png"]) == IMAGES[0]
        assert bundle["text/plain"] == repr(Image.open(IMAGES[0]))

    def test_is_copied(self) -> None:
        image = Image.open(IMAGES[0])
        assert copy.copy(image) == image
        assert copy.deepcopy(image) == image

    def test_can_be_a_source_again(self) -> None:
        image = Image.open(IMAGES[0])
        assert open_source(image, ImagePolicy()) is image


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


class TestMemory:
    """An image exists once in memory. A request body takes far less than the image in addition to the source."""

    SIZE = 10 * MEBIBYTE

    @pytest.mark.parametrize(
        "as_source",
        [b64, data_uri, lambda data: Base64(b64(data).encode()), bytes],
        ids=["base64", "URI", "Base64", "bytes"],
    )
    def test_an_image_is_not_copied(self, as_source: Callable[[bytes], Any], traced: None) -> None:
        source = as_source(png(5, 4, padding=self.SIZE))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        body = chat_body(question(source), [Image.open(source)], stream=False)
        total = sum(len(piece) for piece in body)
        peak = tracemalloc.get_traced_memory()[1] - before
        assert total == body.length > self.SIZE * 4 // 3
        assert peak < MEBIBYTE

    def test_the_pieces_are_small(self) -> None:
        image = Image.open(data_uri(png(5, 4, padding=MEBIBYTE)))
        assert max(map(len, image.pieces())) <= 128 * 1024


JPEG_CUT = b"\xff\xd8\xff\xc0\0\x11\x08\0\x09\0\x09\x03" + bytes(9) + b"\xff\xda\0\x0c" + bytes(900)


@pytest.mark.parametrize("cut", [IMAGES[0][:-20], GIF[:-2], JPEG_CUT], ids=["PNG", "GIF", "JPEG"])
@pytest.mark.parametrize("form", [bytes, b64, data_uri, io.BytesIO], ids=["bytes", "base64", "data URI", "file"])
def test_a_truncated_image_is_refused(cut: bytes, form: Callable[[bytes], Any]) -> None:
    with pytest.raises(ImageFormatError, match="not fully there"):
        Image.open(form(cut))


def test_limits_are_checked_before_truncation() -> None:
    with pytest.raises(ImageTooLargeError, match="pixels"):
        Image.open(IMAGES[0][:-20], ImagePolicy(max_pixels=9))
