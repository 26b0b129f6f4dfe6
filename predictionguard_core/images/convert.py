"""Decode images with Pillow: rotate them upright, shrink them, or convert them to a type that can be sent.

`convert` runs in a child process (see `decoder`). Pillow is imported when the first image needs it, and its
process-wide settings are not changed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from predictionguard_core.errors import ImageError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images import metadata
from predictionguard_core.images.headers import SENDABLE, Header

if TYPE_CHECKING:
    from PIL import Image, ImageFile

    from predictionguard_core.images.policy import ImagePolicy

# One decoder for each type, by name: `Image.open` would try others, and warn by a limit of its own.
_DECODERS = {
    "image/jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "image/png": ("PIL.PngImagePlugin", "PngImageFile"),
    "image/webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "image/gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "image/bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "image/tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "image/avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "image/heic": ("pillow_heif", "HeifImageFile"),
}
_MISSING = {
    "image/avif": 'AVIF images need Pillow 11.3 or newer: pip install -U "pillow>=11.3"',
    "image/heic": "HEIC images need pillow-heif: pip install pillow-heif",
}
_NO_PILLOW = 'pip install "predictionguard-integrations[images]"'
_QUALITY = 95
_MAX_JPEG_EDGE = 65_500
_FEW_COLORS, _FEW_GRAYS = 256, 16
_PROFILES = {b"RGB ": {"RGB", "RGBA", "P"}, b"GRAY": {"1", "L", "LA"}, b"CMYK": {"CMYK"}}


class Converted(NamedTuple):
    """An image file that was made from another one."""

    data: bytes
    media_type: str
    width: int
    height: int


@functools.cache
def is_available() -> bool:
    """Whether Pillow is installed. Does not import it."""
    return importlib.util.find_spec("PIL") is not None


def needs_change(header: Header, *, upright: bool, max_edge: int | None) -> bool:
    """Whether an image has to be rotated, shrunk or converted before it is sent."""
    return (
        header.media_type not in SENDABLE
        or (upright and header.orientation != 1)
        or (max_edge is not None and max(header.width, header.height) > max_edge)
    )


def require(header: Header) -> None:
    """Raise `ImageFormatError` for a type that cannot be converted, and where Pillow is missing."""
    kind = header.media_type
    if kind not in _DECODERS:
        raise ImageFormatError(f"an image of type {kind} cannot be sent: save it as PNG or JPEG")
    if not is_available():
        if kind not in SENDABLE:
            raise ImageFormatError(f"an image of type {kind} must be converted, which needs Pillow: {_NO_PILLOW}")
        raise ImageFormatError(
            f"the image must be rotated upright or shrunk, which needs Pillow: {_NO_PILLOW}. Or send it as it is, with "
            "ImagePolicy(upright=False, max_edge=None)"
        )


def convert(
    data: bytes,
    header: Header,
    *,
    upright: bool,
    max_edge: int | None,
    max_pixels: int,
    max_pages: int,
    strip_metadata: bool = False,
) -> list[Converted]:
    """Return an image rotated upright, its long edge at most `max_edge` pixels, as JPEG, PNG or WebP.

    Only a TIFF or HEIC file with several pages becomes several images. `header` is what `detect.read` says of `data`.

    - JPEG, PNG and WebP keep their type (JPEG and lossy WebP at quality 95), color profile, and EXIF, with the
      orientation set to 1 if rotated; other metadata is dropped. Of animations the first frame is left, and a GIF
      becomes a PNG. More than 8 bits a channel become 8.
    - BMP, TIFF, HEIC and AVIF always come out upright and without metadata except the color profile: as PNG if
      anything is transparent, and, of BMP and TIFF, if there is a palette or few colors (256, or 16 grays), so that
      drawings and screenshots stay sharp; as JPEG at quality 95 otherwise.
    - Shrinking uses a Lanczos filter; nothing is ever enlarged.

    Raises `ImageTooLargeError`, before anything is decoded, for more than `max_pixels` or `max_pages`;
    `ImageFormatError` where a plugin of Pillow is missing, and for an image that is corrupt or cut short.
    """
    limits = _Limits(upright, max_edge, max_pixels, max_pages, strip_metadata)
    try:
        with _opened(data, header) as source:
            return [_page(source, data, header, limits) for _ in _pages(source, header, max_pages)]
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # Decoders raise anything (OSError, SyntaxError, struct.error, ...) and quote the file.
        failure = _failure(error, header)
    raise failure


class _Limits(NamedTuple):
    upright: bool
    max_edge: int | None
    max_pixels: int
    max_pages: int
    strip_metadata: bool


def _pages(source: ImageFile.ImageFile, header: Header, max_pages: int) -> Iterator[None]:
    """Go to each page: those of a TIFF that its header names, all images of a HEIC, else the first frame."""
    frames = header.frames
    if header.media_type == "image/heic":
        count = getattr(source, "n_frames", 1)
        if count > max_pages:
            raise ImageTooLargeError(
                f"the image ({header.media_type}) has {count:,} pages, the policy allows {max_pages} "
                "(ImagePolicy.max_pages)"
            )
        frames = tuple(range(count))
    for frame in frames:
        if frames != (0,):
            source.seek(frame)
        yield


def is_pil_image(value: Any) -> bool:
    """Whether `value` is a `PIL.Image.Image`. Does not import Pillow."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def encode(image: Image.Image, policy: ImagePolicy) -> bytes:
    """Return a `PIL.Image.Image` as the bytes of a PNG or JPEG, upright and shrunk as the policy says.

    A photo becomes a JPEG at quality 95; what is transparent, has a palette or few colors becomes a PNG.
    """
    from PIL import Image

    _check_size(image.width, image.height, policy.max_pixels)
    try:
        orientation = image.getexif().get(0x0112, 1) if policy.upright else 1
        converted = _plain(image, "")
        converted = converted.copy() if converted is image else converted  # `image` stays the user's
        if goal := _fitted(converted.size, policy.max_edge):
            converted = _filterable(converted).resize(goal, Image.Resampling.LANCZOS, reducing_gap=3.0)
        if orientation in _ROTATIONS:
            converted = converted.transpose(Image.Transpose[_ROTATIONS[orientation]])
        kind = "PNG" if image.format == "PNG" else _target(converted, "image/bmp")
        if kind == "JPEG" and converted.mode in ("LA", "RGBA"):  # an alpha band that is opaque all over
            converted = converted.convert(converted.mode[:-1])
        return _saved(converted, kind, {"quality": _QUALITY, "subsampling": 0} if kind == "JPEG" else {}, image.info)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageFormatError(f"the PIL image cannot be read ({type(error).__name__})") from None


def size_after(header: Header, *, upright: bool, max_edge: int | None) -> tuple[int, int]:
    """Return the width and height that `convert` gives this image, as far as its header says; (0, 0) if it doesn't.

    HEIF's rotations are not read, so an AVIF image may come out the other way up.
    """
    width, height = _fitted((header.width, header.height), max_edge) or (header.width, header.height)
    is_rotated = upright or header.media_type not in SENDABLE  # the others' decoders rotate them
    return (height, width) if is_rotated and header.orientation >= 5 else (width, height)


def _failure(error: Exception, header: Header) -> ImageError:
    if isinstance(error, ImportError):
        return ImageFormatError(f"Pillow can't be imported: {_NO_PILLOW}")
    from PIL import Image

    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        limit = Image.MAX_IMAGE_PIXELS or 0
        return ImageTooLargeError(
            f"the image has {header.width}×{header.height} = {header.pixels:,} pixels, over Pillow's own limit: "
            f"PIL.Image.MAX_IMAGE_PIXELS is {limit:,}"
        )
    return ImageFormatError(f"the image ({header.media_type}) is corrupt or not fully there. Save or download it again")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width}×{height} = {width * height:,} pixels, the policy allows {max_pixels:,} "
            "(ImagePolicy.max_pixels)"
        )


def _page(source: ImageFile.ImageFile, data: bytes, header: Header, limits: _Limits) -> Converted:
    """Convert the page that `source` is at."""
    from PIL import Image

    kind = header.media_type
    _check_size(*source.size, limits.max_pixels)
    if kind in SENDABLE and source.size != (header.width, header.height):
        raise ImageFormatError(f"the image ({kind}) is corrupt: it says two different sizes")
    orientation = header.orientation if limits.upright else 1
    info = dict(source.info)
    subsampling = _subsampling(source, orientation)
    goal = _fitted(source.size, limits.max_edge)
    # A JPEG decodes at a half, a quarter or an eighth for less work; twice the goal is left for the filter.
    drafted = source.draft(None, (goal[0] * 2, goal[1] * 2)) if goal and kind == "image/jpeg" else None
    source.load()
    if kind not in SENDABLE:  # their decoders rotate them, except this one, which only says how
        orientation = source.getexif().get(0x0112, 1) if kind == "image/avif" else 1
    _check_size(*source.size, limits.max_pixels)

    if kind == "image/png" and data[24] == 16:
        _key_of_eight_bits(source)
    image = _plain(source, kind)
    target = _target(image, kind)
    if target == "JPEG" and image.mode in ("LA", "RGBA"):  # an alpha band that is opaque all over
        image = image.convert(image.mode[:-1])
    if kind not in SENDABLE:
        goal = _fitted(image.size, limits.max_edge)
    if goal:
        image = _filterable(image).resize(
            goal, Image.Resampling.LANCZOS, box=drafted[1] if drafted else None, reducing_gap=3.0
        )
    if orientation in _ROTATIONS:
        image = image.transpose(Image.Transpose[_ROTATIONS[orientation]])

    options: dict[str, Any] = {}
    exif = metadata.exif(data, header) if kind in SENDABLE and not limits.strip_metadata else None
    if exif:
        # The header may say 1 where this block says otherwise: a bad value, or one in a place that does not count.
        is_left = header.orientation != 1 and orientation == 1
        options["exif"] = b"Exif\0\0" + (exif if is_left else metadata.upright(exif))
    elif header.orientation != 1 and orientation == 1 and kind in SENDABLE:
        options["exif"] = b"Exif\0\0" + metadata.only_orientation(header.orientation)
    if target == "JPEG":
        options |= {"quality": _QUALITY, "subsampling": subsampling}
    elif target == "WEBP":
        options |= {"lossless": True, "exact": True} if _is_lossless(data) else {"quality": _QUALITY}
    return Converted(_saved(image, target, options, info), f"image/{target.lower()}", *image.size)


def _saved(image: Image.Image, target: str, options: dict[str, Any], info: dict[Any, Any]) -> bytes:
    options["icc_profile"] = _fitting(info.get("icc_profile"), image.mode)
    key = image.info.get("transparency")
    image.info = {} if key is None else {"transparency": key}
    result = io.BytesIO()
    image.save(result, target, **options)
    return result.getvalue()


def _opened(data: bytes, header: Header) -> ImageFile.ImageFile:
    """Open an image with the decoder for its type. Its pixels are not decoded yet. The result must be closed."""
    module, name = _DECODERS[header.media_type]
    try:
        decoder = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ImageFormatError(_MISSING.get(header.media_type, f"Pillow can't be imported: {_NO_PILLOW}")) from None
    if not getattr(importlib.import_module(module), "SUPPORTED", True):
        raise ImageFormatError(f"this build of Pillow has no decoder for {header.media_type}: {_NO_PILLOW}")
    if header.media_type in SENDABLE:
        # Without metadata: a decoder parses it in any case, and warns of what it does not understand.
        upright = Header(header.media_type, header.width, header.height)
        data = metadata.strip(data, upright, still=True)
    return cast("ImageFile.ImageFile", decoder(io.BytesIO(data)))


# EXIF 2.32, 4.6.4.A, Orientation: what undoes each.
_ROTATIONS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _fitted(size: tuple[int, int], max_edge: int | None) -> tuple[int, int] | None:
    """Return the size with the long edge at `max_edge`, None if the image is not larger."""
    longest = max(size)
    if max_edge is None or longest <= max_edge:
        return None
    width, height = (max(1, round(edge * max_edge / longest)) for edge in size)
    return width, height


def _plain(image: Image.Image, kind: str) -> Image.Image:
    """Return the image in a mode that the targets have: 1, L, LA, P, RGB, RGBA; CMYK from JPEG only."""
    mode = image.mode
    if mode[0] in "IF":
        return _eight_bits(image, kind)
    if mode in ("1", "L", "LA", "P", "RGB", "RGBA") or (mode == "CMYK" and kind == "image/jpeg"):
        return image
    if mode in ("PA", "La", "RGBa"):
        return image.convert("LA" if mode == "La" else "RGBA")
    return image.convert("RGB")


def _key_of_eight_bits(image: Image.Image) -> None:
    """Convert the transparent color (PNG 3rd edition, 11.3.1.1) from the 16 bits of a channel in the file to
    the 8 that its pixels have or will have. Pillow does not.
    """
    key = image.info.get("transparency")
    if isinstance(key, int):
        image.info["transparency"] = round(key / 257)
    elif isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _eight_bits(image: Image.Image, kind: str) -> Image.Image:
    """Convert grays of 16 or 32 bits, or floats, to 8 bits: 16 bits by their range, the others from their darkest to
    their brightest. Pillow's own conversion clips at 255, which turns most of such an image white.
    """
    low, high = 0.0, 65535.0
    if not (image.mode.startswith("I;16") or (image.mode == "I" and kind == "image/png")):
        low, high = cast("tuple[float, float]", image.getextrema())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ImageFormatError(f"the image ({kind}) has pixels that are not numbers")
    scale = 255 / ((high - low) or 1)
    key = image.info.pop("transparency", None)
    wide = image if image.mode == "F" else image.convert("I").convert("F")
    result = wide.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    if key is not None:
        result.info["transparency"] = key
    return result


def _target(image: Image.Image, kind: str) -> str:
    """Return the type that the image becomes, under Pillow's name. Transparent images never become a JPEG."""
    if kind in SENDABLE:
        return {"image/jpeg": "JPEG", "image/webp": "WEBP"}.get(kind, "PNG")
    if _is_transparent(image) or image.mode in ("1", "P") or max(image.size) > _MAX_JPEG_EDGE:
        return "PNG"
    few = _FEW_GRAYS if image.mode in ("L", "LA") else _FEW_COLORS
    if kind in ("image/bmp", "image/tiff") and image.getcolors(few) is not None:
        return "PNG"
    return "JPEG"


def _is_transparent(image: Image.Image) -> bool:
    if "transparency" in image.info:
        return True
    return image.mode in ("LA", "RGBA") and cast("tuple[int, int]", image.getchannel("A").getextrema())[0] < 255


def _filterable(image: Image.Image) -> Image.Image:
    """Return the image in a mode whose values can be mixed: no palette, no bilevel, no transparent color."""
    if "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert({"1": "L", "P": "RGB"}[image.mode]) if image.mode in ("1", "P") else image


def _subsampling(source: ImageFile.ImageFile, orientation: int) -> int:
    """Return the chroma subsampling for a JPEG, in Pillow's numbers: that of the source, or finer."""
    if source.format in ("BMP", "TIFF"):
        return 0
    if source.format != "JPEG":
        return 2
    from PIL import JpegImagePlugin

    found = JpegImagePlugin.get_sampling(source)
    # 4:2:2 halves the columns. Rotated by 90° it would halve the rows, which Pillow has no number for.
    return 0 if found == -1 or (found == 1 and orientation >= 5) else found


def _fitting(profile: bytes | None, mode: str) -> bytes | None:
    """Return the ICC profile if it is for this mode: its color space is at byte 16 (ICC.1, 7.2)."""
    return profile if profile and mode in _PROFILES.get(profile[16:20], ()) else None


def _is_lossless(data: bytes) -> bool:
    """Whether a WebP's first frame is lossless (RFC 9649, 2.6 and 2.7)."""
    offset = 12
    while offset + 8 <= len(data):
        kind, length = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        if kind in (b"VP8L", b"VP8 ", b"ALPH"):
            return kind == b"VP8L"
        # A frame of an animation holds its image's chunks after 16 bytes of its own.
        offset += 24 if kind == b"ANMF" else 8 + length + (length & 1)
    return False
