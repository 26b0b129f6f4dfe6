"""What the sandbox sees of an image: type, size, orientation, brightness and main colours, never what it shows."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from predictionguard_core.sandbox import tokens
from predictionguard_core.sandbox.responses import ServiceError
from predictionguard_core.sandbox.text import join_list
from predictionguard_core.sandbox.vision import colors

if TYPE_CHECKING:
    from PIL import Image as PILImage

MAX_PIXELS = 100_000_000
"""Images with more pixels than this are refused before they are decoded."""
MAX_ASPECT_RATIO = 200
"""Qwen's image processor, and so vLLM, refuses this ratio of the edges and more."""
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WebP": "image/webp"}
NO_PILLOW = 'It was not decoded: that needs Pillow, pip install "predictionguard-integrations[sandbox]".'
_ORIENTATION = 0x0112
_SAMPLE_EDGE = 160
_MAIN_SHARE = 0.06
_LARGE = 4_000_000


@dataclass(frozen=True)
class Image:
    """What is known of one image.

    `stored` is width and height in the file, in pixels, and `shown` the same once the EXIF orientation is followed.
    `light` is the mean OKLab lightness, 0 to 1, and `colors` holds names with shares, largest first. `declared` is the
    media type of the data URI. Without Pillow only the format is known.
    """

    format: str
    declared: str | None = None
    stored: tuple[int, int] = (0, 0)
    orientation: int = 1
    frames: int = 1
    light: float = 0.0
    colors: tuple[tuple[str, float], ...] = ()

    @property
    def token_count(self) -> int:
        """The tokens that the image takes of a prompt."""
        return tokens.count_image(*self.stored) if self.stored[0] else tokens.MAX_IMAGE_TOKENS

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
    def brightness(self) -> str:
        """`dark`, `light`, or `of medium brightness`."""
        return "dark" if self.light < 0.42 else "light" if self.light > 0.68 else "of medium brightness"

    @property
    def main_colors(self) -> list[tuple[str, float]]:
        """The one to three largest colours that matter."""
        return [item for item in self.colors[:3] if item[1] >= _MAIN_SHARE] or list(self.colors[:1])

    def describe(self, subject: str) -> str:
        """Return one or two sentences, such as `The image is a JPEG, 640 x 427 pixels, landscape, light. …`."""
        facts = [f"{'an animated' if self.frames > 1 else 'a'} {self.format}"]
        if self.stored[0]:
            facts.append("{} x {} pixels".format(*self.shown))
            if self.frames > 1:
                facts.append(f"{self.frames} frames")
            facts.append(self.shape)
            if self.orientation != 1:
                stored = "{} x {} pixels".format(*self.stored)
                facts.append(f"stored as {stored} with EXIF orientation {self.orientation}, not turned upright")
            facts.append(self.brightness)
        text = f"{subject} is {', '.join(facts)}."
        if self.colors:
            named = [f"{word} ({max(1, round(share * 100))}%)" for word, share in self.main_colors]
            text += f" Main colour{'s' if len(named) > 1 else ''}: {join_list(named)}."
        else:
            text += f" {NO_PILLOW}"
        if self.declared is not None and self.declared.lower() != MEDIA_TYPES[self.format]:
            text += f" It was declared as {self.declared or 'nothing'!r}, but its bytes are {self.format}."
        return text


def from_data_uri(uri: str) -> Image:
    """Return the image in a data URI; refuse other URLs, broken base64 and bytes that are no image."""
    if uri[:5].lower() != "data:":
        raise ServiceError("must be a data URI such as data:image/jpeg;base64,...; URLs and bare base64 are not taken")
    comma = uri.find(",", 0, 300)
    if comma < 0 or not uri[5:comma].lower().endswith(";base64"):
        raise ServiceError("must be a data URI with base64 content, such as data:image/jpeg;base64,...")
    return from_base64(uri[comma + 1 :], uri[5:comma].split(";")[0])


def from_base64(text: str, declared: str | None = None) -> Image:
    """Return the image in base64 text; refuse broken base64 and bytes that are no image."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ServiceError("is not valid base64") from None
    if not data:
        raise ServiceError("is an empty image")
    return from_bytes(data, declared)


def from_bytes(data: bytes, declared: str | None = None) -> Image:
    """Look at the bytes of a JPEG, PNG, WebP or GIF; refuse others, corrupt ones and those over the limits."""
    kind = detect_format(data)
    if kind is None:
        raise ServiceError("is not a JPEG, PNG, WebP or GIF image")
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return Image(kind, declared)
    try:
        return _decode(data, kind, declared)
    except ServiceError:
        raise
    except Exception:
        # Decoders raise OSError, SyntaxError, ValueError, struct.error and more on hostile bytes.
        raise ServiceError(f"is a corrupt or truncated {kind} image") from None


def detect_format(data: bytes) -> str | None:
    """Return the format the bytes begin like, or None."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    return "WebP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _decode(data: bytes, kind: str, declared: str | None) -> Image:
    opened = _open(data, kind)
    size = width, height = opened.size
    if width * height > MAX_PIXELS:
        raise ServiceError(f"is an image of {width} x {height} pixels; at most {MAX_PIXELS} pixels are taken")
    ratio = max(size) / min(size)
    if ratio >= MAX_ASPECT_RATIO:
        raise ServiceError(f"absolute aspect ratio must be smaller than {MAX_ASPECT_RATIO}, got {ratio}")
    orientation = opened.getexif().get(_ORIENTATION, 1)
    frames = int(getattr(opened, "n_frames", 1))
    if kind == "JPEG":
        opened.draft("RGB", (_SAMPLE_EDGE * 2, _SAMPLE_EDGE * 2))
    opened.load()
    sample = _sample(opened)
    counted = sample.getcolors(sample.width * sample.height) or []
    ranked, light = colors.shares((number, _rgb(value)) for number, value in counted)
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    return Image(kind, declared, size, orientation, frames, light, tuple(ranked))


def _open(data: bytes, kind: str) -> PILImage.Image:
    """Return the decoder of exactly this format: no other is tried, and Pillow's own size warning stays out."""
    from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    decoders: dict[str, Any] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
    }
    opened: PILImage.Image = decoders[kind](BytesIO(data))
    return opened


def _rgb(value: Any) -> tuple[int, int, int]:
    return int(value[0]), int(value[1]), int(value[2])


def _sample(image: PILImage.Image) -> PILImage.Image:
    """Return a small RGB copy in steps of eight a channel; transparent pixels are laid on white."""
    from PIL import Image

    if image.mode not in ("RGB", "L", "CMYK") and image.width * image.height > _LARGE:
        # The other modes can't be averaged as they are, and a full-size RGBA copy would take 400 MB.
        width, height = (min(edge, _SAMPLE_EDGE * 8) for edge in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGBA")
    scale = _SAMPLE_EDGE / max(image.size)
    if scale < 1:
        width, height = (max(1, round(edge * scale)) for edge in image.size)
        image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # Bin centres, except that the ends stay pure, or white would come out grey.
    return image.convert("RGB").point([min(255, round((value >> 3) * 255 / 31)) for value in range(256)] * 3)
