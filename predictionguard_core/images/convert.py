"""The only room that decodes a picture: turned upright, made smaller, or brought into a type that can be sent.

It takes Pillow, imported when the first picture needs it. Pillow's process-wide settings are left as they are.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import math
from typing import TYPE_CHECKING, Any, cast

from predictionguard_core.errors import ImageError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images import metadata
from predictionguard_core.images.headers import SENDABLE, Header

if TYPE_CHECKING:
    from PIL import Image, ImageFile

__all__ = ["CONVERTIBLE", "available", "rework", "size_after"]

CONVERTIBLE = frozenset({"image/bmp", "image/tiff", "image/heic", "image/avif"})
"""The types that `rework` brings into one of the `SENDABLE` ones."""

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
    "image/avif": 'AVIF pictures take Pillow 11.3 or newer: pip install -U "pillow>=11.3"',
    "image/heic": "HEIC pictures take pillow-heif: pip install pillow-heif",
}
_NO_PILLOW = 'pip install "predictionguard-integrations[images]"'
_QUALITY = 95
_LONGEST_JPEG_EDGE = 65_500
_FEW_COLOURS, _FEW_GRAYS = 256, 16
_PROFILES = {b"RGB ": {"RGB", "RGBA", "P"}, b"GRAY": {"1", "L", "LA"}, b"CMYK": {"CMYK"}}


@functools.cache
def available() -> bool:
    """Whether Pillow is installed. Does not import it."""
    return importlib.util.find_spec("PIL") is not None


def rework(data: bytes, header: Header, *, upright: bool, max_edge: int | None, max_pixels: int) -> bytes:
    """The picture turned upright, its long edge at most `max_edge` pixels, as JPEG, PNG or WebP.

    `header` is what `headers.read` says of the same bytes. A sendable picture that needs no change is returned as it
    is. Otherwise:

    - JPEG, PNG and WebP keep their type (JPEG and lossy WebP at quality 95), colour profile, and EXIF, with the
      orientation set to 1 if turned; other metadata is dropped. Of animations the first frame is left, and a GIF
      becomes a PNG. More than 8 bits a channel become 8.
    - BMP, TIFF, HEIC and AVIF always come out upright and without metadata but for the colour profile: as PNG if
      anything is transparent, and, of BMP and TIFF, if there is a palette or few colours (256, or 16 grays), so that
      drawings and screenshots stay sharp; as JPEG at quality 95 otherwise.
    - Shrinking uses a Lanczos filter; nothing is ever enlarged.

    Raises `ImageTooLargeError`, before anything is decoded, for more than `max_pixels`; `ImageFormatError` for a type
    that can't be brought into a sendable one, where Pillow or a plugin of it is missing (saying what to install), and
    for a picture that is corrupt or cut short. What the decoder had to say is not passed on.
    """
    kind = header.media_type
    if kind not in _DECODERS:
        raise ImageFormatError(f"a picture of type {kind} can't be sent: save it as PNG or JPEG")
    _check_size(header.width, header.height, max_pixels)
    turned = upright and header.orientation != 1
    shrunk = max_edge is not None and max(header.width, header.height) > max_edge
    if kind in SENDABLE and not turned and not shrunk:
        return data
    if not available():
        need = "to be turned upright or made smaller" if kind in SENDABLE else f"of type {kind} to be converted"
        other = ". Or send it as it lies, with ImagePolicy(upright=False)" if turned and kind in SENDABLE else ""
        raise ImageFormatError(f"for a picture {need} Pillow must be installed: {_NO_PILLOW}{other}")
    try:
        return _reworked(data, header, header.orientation if turned else 1, max_edge, max_pixels)
    except ImageError:
        raise
    except Exception as error:
        # Decoders raise whatever they like (OSError, SyntaxError, struct.error, MemoryError, ...) and quote the file.
        failure = _failure(error, header)
    raise failure


def size_after(header: Header, *, upright: bool, max_edge: int | None) -> tuple[int, int]:
    """Width and height in pixels that `rework` gives this picture, as far as its header says; (0, 0) if it doesn't.

    HEIF's turns are not read, so that an AVIF picture may come out the other way up.
    """
    width, height = _fitted((header.width, header.height), max_edge) or (header.width, header.height)
    turned = upright or header.media_type not in SENDABLE  # the others' decoders turn them
    return (height, width) if turned and header.orientation >= 5 else (width, height)


def _failure(error: Exception, header: Header) -> ImageError:
    if isinstance(error, ImportError):
        return ImageFormatError(f"Pillow can't be imported: {_NO_PILLOW}")
    from PIL import Image

    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        limit = Image.MAX_IMAGE_PIXELS or 0
        return ImageTooLargeError(
            f"the picture has {header.width} x {header.height} = {header.pixels:,} pixels, over Pillow's own limit: "
            f"PIL.Image.MAX_IMAGE_PIXELS is {limit:,}"
        )
    return ImageFormatError(f"the picture ({header.media_type}) is corrupt or not fully there")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the picture has {width} x {height} = {width * height:,} pixels, over the limit of {max_pixels:,} "
            "(ImagePolicy.max_pixels)"
        )


def _reworked(data: bytes, header: Header, orientation: int, max_edge: int | None, max_pixels: int) -> bytes:
    from PIL import Image

    kind = header.media_type
    with _opened(data, header) as source:
        _check_size(*source.size, max_pixels)
        if kind in SENDABLE and source.size != (header.width, header.height):
            raise ImageFormatError(f"the picture ({kind}) is corrupt: it says two different sizes")
        profile: bytes | None = source.info.get("icc_profile")
        subsampling = _subsampling(source, orientation)
        goal = _fitted(source.size, max_edge)
        # A JPEG decodes at a half, a quarter or an eighth for less work; twice the goal is left for the filter.
        drafted = source.draft(None, (goal[0] * 2, goal[1] * 2)) if goal and kind == "image/jpeg" else None
        source.load()
        if kind not in SENDABLE:  # their decoders turn them, all but this one, which only says how
            orientation = source.getexif().get(0x0112, 1) if kind == "image/avif" else 1
        _check_size(*source.size, max_pixels)

        if kind == "image/png" and data[24] == 16:
            _key_of_eight_bits(source)
        picture = _plain(source, kind)
        becomes = _target(picture, kind)
        if becomes == "JPEG" and picture.mode in ("LA", "RGBA"):  # an alpha band that is opaque all over
            picture = picture.convert(picture.mode[:-1])
        if kind not in SENDABLE:
            goal = _fitted(picture.size, max_edge)
        if goal:
            picture = _filterable(picture).resize(
                goal, Image.Resampling.LANCZOS, box=drafted[1] if drafted else None, reducing_gap=3.0
            )
        if orientation in _TURNS:
            picture = picture.transpose(Image.Transpose[_TURNS[orientation]])

    options: dict[str, Any] = {"icc_profile": _fitting(profile, picture.mode)}
    block = metadata.exif(data, header) if becomes in ("JPEG", "PNG", "WEBP") and kind in SENDABLE else None
    if block:
        # The header may say 1 where this block says otherwise: a bad value, or one in a place that does not count.
        is_left = header.orientation != 1 and orientation == 1
        options["exif"] = b"Exif\0\0" + (block if is_left else metadata.upright(block))
    if becomes == "JPEG":
        options |= {"quality": _QUALITY, "subsampling": subsampling}
    elif becomes == "WEBP":
        options |= {"lossless": True, "exact": True} if _is_lossless(data) else {"quality": _QUALITY}
    kept = picture.info.get("transparency")
    picture.info = {} if kept is None else {"transparency": kept}
    result = io.BytesIO()
    picture.save(result, becomes, **options)
    return result.getvalue()


def _opened(data: bytes, header: Header) -> ImageFile.ImageFile:
    """The picture with its pixels still undecoded, by the one decoder for its type. What is read must be closed."""
    module, name = _DECODERS[header.media_type]
    try:
        decoder = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ImageFormatError(_MISSING.get(header.media_type, f"Pillow can't be imported: {_NO_PILLOW}")) from None
    if not getattr(importlib.import_module(module), "SUPPORTED", True):
        raise ImageFormatError(f"this build of Pillow has no decoder for {header.media_type}: {_NO_PILLOW}")
    if header.media_type in SENDABLE:
        # Without metadata, as a decoder parses it unasked and warns of what it can't make out.
        upright = Header(header.media_type, header.width, header.height)
        data = metadata.strip(data, upright, still=True)
    return cast("ImageFile.ImageFile", decoder(io.BytesIO(data)))


# EXIF 2.32, 4.6.4.A, Orientation: the turn that undoes each.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _fitted(size: tuple[int, int], max_edge: int | None) -> tuple[int, int] | None:
    """The size with the long edge at `max_edge`, None if it is no longer than that."""
    longest = max(size)
    if max_edge is None or longest <= max_edge:
        return None
    width, height = (max(1, round(edge * max_edge / longest)) for edge in size)
    return width, height


def _plain(picture: Image.Image, kind: str) -> Image.Image:
    """The picture in one of the modes that the targets have: 1, L, LA, P, RGB, RGBA; CMYK from JPEG alone."""
    mode = picture.mode
    if mode[0] in "IF":
        return _eight_bits(picture, kind)
    if mode in ("1", "L", "LA", "P", "RGB", "RGBA") or (mode == "CMYK" and kind == "image/jpeg"):
        return picture
    if mode in ("PA", "La", "RGBa"):
        return picture.convert("LA" if mode == "La" else "RGBA")
    return picture.convert("RGB")


def _key_of_eight_bits(picture: Image.Image) -> None:
    """Brings the colour that means transparent (PNG 3rd edition, 11.3.1.1) from the 16 bits of a channel in the file to
    the 8 that its pixels have or will have. Pillow leaves it.
    """
    key = picture.info.get("transparency")
    if isinstance(key, int):
        picture.info["transparency"] = round(key / 257)
    elif isinstance(key, tuple):
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def _eight_bits(picture: Image.Image, kind: str) -> Image.Image:
    """Grays of 16 or 32 bits, or floats, as 8 bits: 16 bits by their range, the others from their darkest to their
    brightest. Pillow's own conversion clips at 255 and so turns most of such a picture white.
    """
    low, high = 0.0, 65535.0
    if not (picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "image/png")):
        low, high = cast("tuple[float, float]", picture.getextrema())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ImageFormatError(f"the picture ({kind}) has pixels that are no numbers")
    scale = 255 / ((high - low) or 1)
    key = picture.info.pop("transparency", None)
    wide = picture if picture.mode == "F" else picture.convert("I").convert("F")
    result = wide.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    if key is not None:
        result.info["transparency"] = key
    return result


def _target(picture: Image.Image, kind: str) -> str:
    """The name of the type that the picture becomes, as Pillow calls it. None that is transparent becomes a JPEG."""
    if kind in SENDABLE:
        return {"image/jpeg": "JPEG", "image/webp": "WEBP"}.get(kind, "PNG")
    if _is_transparent(picture) or picture.mode in ("1", "P") or max(picture.size) > _LONGEST_JPEG_EDGE:
        return "PNG"
    few = _FEW_GRAYS if picture.mode in ("L", "LA") else _FEW_COLOURS
    if kind in ("image/bmp", "image/tiff") and picture.getcolors(few) is not None:
        return "PNG"
    return "JPEG"


def _is_transparent(picture: Image.Image) -> bool:
    if "transparency" in picture.info:
        return True
    return picture.mode in ("LA", "RGBA") and cast("tuple[int, int]", picture.getchannel("A").getextrema())[0] < 255


def _filterable(picture: Image.Image) -> Image.Image:
    """The picture in a mode whose values can be mixed: no palette, no bilevel, no colour that means transparent."""
    if "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert({"1": "L", "P": "RGB"}[picture.mode]) if picture.mode in ("1", "P") else picture


def _subsampling(source: ImageFile.ImageFile, orientation: int) -> int:
    """How many colour samples a JPEG is to have, in Pillow's numbers: as many as the source, never fewer."""
    if source.format in ("BMP", "TIFF"):
        return 0
    if source.format != "JPEG":
        return 2
    from PIL import JpegImagePlugin

    found = JpegImagePlugin.get_sampling(source)
    # 4:2:2 halves the columns only: on its side it would halve the rows, which there is no number for.
    return 0 if found == -1 or (found == 1 and orientation >= 5) else found


def _fitting(profile: bytes | None, mode: str) -> bytes | None:
    """The ICC profile if it is for this mode: its colour space stands at byte 16 (ICC.1, 7.2)."""
    return profile if profile and mode in _PROFILES.get(profile[16:20], ()) else None


def _is_lossless(data: bytes) -> bool:
    """Whether a WebP's first picture is of the lossless kind (RFC 9649, 2.6 and 2.7)."""
    offset = 12
    while offset + 8 <= len(data):
        kind, length = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        if kind in (b"VP8L", b"VP8 ", b"ALPH"):
            return kind == b"VP8L"
        # A frame of an animation holds its picture's chunks after 16 bytes of its own.
        offset += 24 if kind == b"ANMF" else 8 + length + (length & 1)
    return False
