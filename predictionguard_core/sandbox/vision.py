"""Looks at a picture: type, size, orientation, brightness and main colours. What it shows stays unseen."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from predictionguard_core.sandbox import colours, headers
from predictionguard_core.sandbox.reply import Refusal
from predictionguard_core.sandbox.words import listed

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
"""Pictures with more pixels than this are refused from their header, before they are decoded."""
NO_PILLOW = 'its colours need Pillow: pip install "predictionguard-integrations[sandbox]"'
_SAMPLE = 160
_MAIN_SHARE = 0.06
_LARGE = 4_000_000


@dataclass(frozen=True)
class Picture:
    """What is known of one picture.

    `stored` is the size in the file and `shown` the size once the EXIF orientation is followed, both
    width and height in pixels. `light` is the mean OKLab lightness, 0 to 1, and `colours` holds names with
    shares, largest first; both are None without Pillow. `declared` is the media type of its data URI.
    """

    format: str
    stored: tuple[int, int]
    orientation: int = 1
    frames: int = 1
    light: float | None = None
    colours: tuple[tuple[str, float], ...] | None = None
    declared: str | None = None

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as a viewer that follows the EXIF orientation displays it."""
        width, height = self.stored
        return (height, width) if self.orientation >= 5 else (width, height)

    @property
    def shape(self) -> str:
        """`landscape`, `portrait` or `square`, as displayed."""
        width, height = self.shown
        return "square" if width == height else "landscape" if width > height else "portrait"

    @property
    def brightness(self) -> str | None:
        """`dark`, `light`, or `of medium brightness`; None if the pixels were not looked at."""
        if self.light is None:
            return None
        return "dark" if self.light < 0.42 else "light" if self.light > 0.68 else "of medium brightness"

    @property
    def main_colours(self) -> list[tuple[str, float]]:
        """The one to three largest colours that matter."""
        ranked = list(self.colours or ())
        return [item for item in ranked[:3] if item[1] >= _MAIN_SHARE] or ranked[:1]

    def describe(self, subject: str) -> str:
        """One or two sentences, such as `The image is a JPEG, 640 x 427 pixels, landscape, light. …`."""
        facts = [f"{'an animated' if self.frames > 1 else 'a'} {self.format}"]
        facts.append("{} x {} pixels".format(*self.shown))
        if self.frames > 1:
            facts.append(f"{self.frames} frames")
        facts.append(self.shape)
        if self.orientation != 1:
            facts.append(
                "stored as {} x {} pixels with EXIF orientation {}, not turned upright".format(
                    *self.stored, self.orientation
                )
            )
        if self.brightness:
            facts.append(self.brightness)
        text = f"{subject} is {', '.join(facts)}."
        if self.colours is None:
            text += f" The image was not decoded; {NO_PILLOW}."
        else:
            named = [f"{word} ({max(1, round(share * 100))}%)" for word, share in self.main_colours]
            text += f" Main colour{'s' if len(named) > 1 else ''}: {listed(named)}."
        if self.declared is not None and self.declared.lower() != headers.MEDIA_TYPES[self.format]:
            text += f" It was declared as {self.declared or 'nothing'!r}, but its bytes are {self.format}."
        return text


def from_uri(uri: str) -> Picture:
    """The picture in a data URI; refuses other addresses, broken base64 and bytes that are no picture."""
    if uri[:5].lower() != "data:":
        raise Refusal("must be a data URI such as data:image/jpeg;base64,...; addresses and bare base64 are not taken")
    comma = uri.find(",", 0, 300)
    if comma < 0 or not uri[5:comma].lower().endswith(";base64"):
        raise Refusal("must be a data URI with base64 content, such as data:image/jpeg;base64,...")
    declared = uri[5:comma].split(";")[0]
    return from_base64(uri[comma + 1 :], declared)


def from_base64(text: str, declared: str | None = None) -> Picture:
    """The picture in base64 text; refuses broken base64 and bytes that are no picture."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise Refusal("is not valid base64") from None
    if not data:
        raise Refusal("is an empty image")
    return look(data, declared)


def look(data: bytes, declared: str | None = None) -> Picture:
    """Looks at the bytes of a JPEG, PNG, WebP or GIF; refuses others, corrupt ones and those over `MAX_PIXELS`."""
    header = headers.read(data)
    _bound(header.width, header.height)
    size = (header.width, header.height)
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return Picture(header.format, size, header.orientation, declared=declared)
    try:
        frames, counted = _decode(data, header.format)
    except Refusal:
        raise
    except Exception:
        # Decoders raise OSError, SyntaxError, ValueError, struct.error and more on hostile bytes.
        raise Refusal(f"is a corrupt or truncated {header.format} image") from None
    ranked, light = colours.shares(counted)
    return Picture(header.format, size, header.orientation, frames, light, tuple(ranked), declared)


def _bound(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refusal(f"is an image of {width} x {height} pixels; at most {MAX_PIXELS} pixels are taken")


def _decode(data: bytes, kind: str) -> tuple[int, list[tuple[int, tuple[int, int, int]]]]:
    """How many frames there are, and the colours of the first with their counts."""
    picture = _open(data, kind)
    _bound(*picture.size)
    frames = int(getattr(picture, "n_frames", 1))
    if kind == "JPEG":
        picture.draft("RGB", (_SAMPLE * 2, _SAMPLE * 2))
    picture.load()
    sample = _sample(picture)
    counted = sample.getcolors(sample.width * sample.height) or []
    return frames, [(number, _rgb(value)) for number, value in counted]


def _open(data: bytes, kind: str) -> Image.Image:
    """The decoder of exactly the sniffed type: no other is tried, and Pillow's own size warning stays out."""
    from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    decoders: dict[str, Any] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
    }
    opened: Image.Image = decoders[kind](BytesIO(data))
    return opened


def _rgb(value: Any) -> tuple[int, int, int]:
    return int(value[0]), int(value[1]), int(value[2])


def _sample(picture: Image.Image) -> Image.Image:
    """A small RGB copy in steps of eight a channel; what is transparent is laid on white."""
    from PIL import Image

    if picture.mode not in ("RGB", "L", "CMYK") and picture.width * picture.height > _LARGE:
        # The other modes can't be averaged as they are, and a full-size RGBA copy would take 400 MB.
        width, height = (min(edge, _SAMPLE * 8) for edge in picture.size)
        picture = picture.resize((width, height), Image.Resampling.NEAREST)
    if picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGBA")
    scale = _SAMPLE / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(edge * scale)) for edge in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    if picture.mode == "RGBA":
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    # Bin centres, save that the ends stay pure, or white would come out grey.
    return picture.convert("RGB").point([min(255, round((value >> 3) * 255 / 31)) for value in range(256)] * 3)
