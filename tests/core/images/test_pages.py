"""TIFF and HEIC files with several images: pages go out in order, thumbnails never do."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest

from predictionguard_core import Image, ImagePolicy
from predictionguard_core.errors import ImageFormatError, ImageTooLargeError, UnsupportedContentError
from tests.core.images.samples import prepared

Pillow = pytest.importorskip("PIL.Image")


def page(shade: int, size: tuple[int, int] = (60, 40), mode: str = "L") -> Any:
    return Pillow.new("L", size, shade).convert(mode)


def tiff(*pages: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:], **options)
    return out.getvalue()


def directories(*tags: dict[int, int], big: bool = False, subs: dict[int, dict[int, int]] | None = None) -> bytes:
    """A TIFF of uncompressed gray images with these tags. `subs` are directories that tag 330 of a page points to."""
    out = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else struct.pack("<2sHI", b"II", 42, 0))
    link = 8 if big else 4

    def directory(wanted: dict[int, int]) -> tuple[int, int]:
        width, height, shade = wanted.get(256, 60), wanted.get(257, 40), wanted.get(-1, 0)
        pixels = len(out)
        out.extend(bytes([shade]) * (width * height))
        found = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: pixels, 277: 1, 278: height, 279: width * height}
        found |= {tag: value for tag, value in wanted.items() if tag > 0}
        at = len(out)
        out.extend(struct.pack("<Q" if big else "<H", len(found)))
        for tag in sorted(found):
            out.extend(struct.pack("<HHQQ" if big else "<HHII", tag, 4, 1, found[tag]))
        out.extend(bytes(8 if big else 4))
        return at, len(out) - (8 if big else 4)

    for number, each in enumerate(tags):
        if subs and number in subs:
            each = each | {330: directory(subs[number])[0]}
        at, following = directory(each)
        struct.pack_into("<Q" if big else "<I", out, link, at)
        link = following
    return bytes(out)


def shades(images: list[Image]) -> list[int]:
    return [round(image.to_pil().convert("L").getpixel((5, 5)) / 10) * 10 for image in images]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("L", {"compression": "tiff_lzw"}),
        ("RGB", {"compression": "tiff_deflate"}),
        ("L", {"big_tiff": True}),
    ],
)
def test_all_pages_go_out_in_order(mode: str, options: dict[str, Any]) -> None:
    data = tiff(*(page(shade, mode=mode) for shade in (30, 90, 200)), **options)
    assert shades(prepared(data)) == [30, 90, 200]


def test_a_fax_of_several_pages() -> None:
    pages = [Pillow.new("1", (1728, 1000), shade) for shade in (1, 0, 1)]
    images = prepared(tiff(*pages, compression="group4"))
    assert [image.to_pil().convert("L").getpixel((9, 9)) for image in images] == [255, 0, 255]
    assert [image.size for image in images] == [(1728, 1000)] * 3


def test_pages_of_different_sizes_are_each_shrunk() -> None:
    images = prepared(tiff(page(30), page(90, (40, 80))), ImagePolicy(max_edge=20))
    assert [image.size for image in images] == [(20, 13), (10, 20)]


def test_too_many_pages_are_refused_with_both_numbers() -> None:
    data = tiff(*(page(9) for _ in range(5)))
    with pytest.raises(ImageTooLargeError, match=r"5 pages, the policy allows 4 \(ImagePolicy.max_pages"):
        prepared(data, ImagePolicy(max_pages=4))
    with pytest.raises(UnsupportedContentError, match="document with 5 pages"):
        Image.open(data)


def test_a_later_page_is_held_to_the_limits_too() -> None:
    with pytest.raises(ImageTooLargeError, match="40,000 pixels"):
        prepared(tiff(page(9), page(9, (200, 200))), ImagePolicy(max_pixels=10_000))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("mark", [{254: 1}, {255: 2}, {254: 4}, {254: 5}])
def test_thumbnails_and_masks_are_no_pages(mark: dict[int, int], big: bool) -> None:
    thumbnail = {**mark, 256: 6, 257: 4}
    first = directories(thumbnail, {-1: 90}, {-1: 200}, big=big)
    assert shades(prepared(first)) == [90, 200]
    last = directories({-1: 90}, thumbnail, big=big)
    (image,) = prepared(last)
    assert (shades([image]), image.size) == ([90], (60, 40))


def test_smaller_copies_in_sub_directories_are_passed_over() -> None:
    data = directories({-1: 90}, subs={0: {254: 1, 256: 30, 257: 20}})
    assert shades(prepared(data)) == [90]


@pytest.mark.parametrize("mark", [{254: 1}, {}])
def test_a_thumbnail_before_the_image_in_a_sub_directory_is_refused(mark: dict[int, int]) -> None:
    data = directories({**mark, 256: 6, 257: 4}, subs={0: {256: 600, 257: 400}})
    with pytest.raises(ImageFormatError, match=r"only a thumbnail.*Export it as JPEG"):
        prepared(data)


def test_a_chain_that_leads_back_to_itself_ends() -> None:
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in ((256, 9), (257, 9)))
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + struct.pack("<I", 8)
    with pytest.raises(ImageFormatError):
        prepared(data)


def test_all_images_of_a_heic_go_out() -> None:
    heif = pytest.importorskip("pillow_heif")
    file = heif.from_pillow(page(30, mode="RGB"))
    file.add_from_pillow(page(200, mode="RGB"))
    out = io.BytesIO()
    file.save(out, quality=90)
    images = prepared(out.getvalue())
    assert shades(images) == [30, 200]
    with pytest.raises(ImageTooLargeError, match="2 pages, the policy allows 1"):
        prepared(out.getvalue(), ImagePolicy(max_pages=1))
