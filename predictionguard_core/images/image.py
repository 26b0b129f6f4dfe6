"""`Image`: an image that is ready to be sent."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictionguard_core.errors import ConfigurationError, ImageError, ImageFormatError
from predictionguard_core.images.encoding import SLICE, Payload
from predictionguard_core.images.policy import ImagePolicy

if TYPE_CHECKING:
    import PIL.Image

_THUMBNAIL_EDGE = 512
_THUMBNAIL_BYTES = 256 * 1024


class Image:
    """An image that is ready to be sent.

    Create one with `Image.open`. Pass it to either adapter as an image, or `image.block()` in a LangChain message.

    Attributes:
        media_type: "image/jpeg", "image/png", "image/webp" or "image/gif".
        width: Pixels.
        height: Pixels.
        length: Bytes of the image as a data URI.

    Example:
        >>> image = Image.open("cat.jpg")
        >>> HumanMessage([{"type": "text", "text": "What is this?"}, image.block()])
    """

    __slots__ = ("_payload", "height", "length", "media_type", "prefix", "width")

    def __init__(self, payload: Payload, media_type: str = "", width: int = 0, height: int = 0) -> None:
        if not media_type:  # `PIL.Image` and others are opened with their constructor
            raise ConfigurationError("an Image is not created directly: call Image.open(...), with a path or bytes")
        self._payload = payload
        self.media_type = media_type
        self.width = width
        self.height = height
        self.prefix = f"data:{media_type};base64,".encode()
        self.length = len(self.prefix) + payload.encoded_length

    @classmethod
    def open(cls, source: Any, policy: ImagePolicy | None = None) -> Image:
        """Read an image, and rotate, shrink or convert it as `policy` says.

        Args:
            source: A path (`str` or `Path`; `~` and `file://` too), bytes, an open binary file, a `PIL.Image.Image`, a
                data URI or base64. A string is a path here, because it comes from your code. In a message a string is
                a URL, a data URI or base64, and a path only below `ImagePolicy.local_roots`.
            policy: Limits and conversions. Default: those of `ImagePolicy()`.

        Raises:
            ImageError: the source is no image, is larger than the policy allows, or is a URL.

        Example:
            >>> Image.open("cat.jpg")
            <image/jpeg 451×300 sha256:05f1c1ee5a8b>
        """
        from predictionguard_core.images.prepare import open_image  # which imports this module

        return open_image(source, ImagePolicy.of(policy))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def data(self) -> bytes:
        """The bytes of the image file."""
        return self._payload.read(0, self._payload.length)

    @property
    def data_uri(self) -> str:
        """The image as a data URI."""
        return b"".join(self.pieces()).decode()

    @property
    def digest(self) -> str:
        """The SHA-256 of the image's bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for offset in range(0, self._payload.length, 3 * SLICE):
            digest.update(self._payload.read(offset, 3 * SLICE))
        return digest.hexdigest()

    def block(self) -> dict[str, str]:
        """Return a LangChain content block: a plain dict that can be serialised as JSON or msgpack."""
        return {"type": "image", "base64": b"".join(self.bare.pieces()).decode(), "mime_type": self.media_type}

    def to_pil(self) -> PIL.Image.Image:
        """Decode the image into a `PIL.Image.Image`."""
        try:
            import PIL.Image
        except ImportError:
            raise ImageFormatError(
                'Image.to_pil needs Pillow: pip install "predictionguard-integrations[images]"'
            ) from None
        return PIL.Image.open(io.BytesIO(self.data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image to a file: its bytes as they are, or converted where the suffix names another type."""
        path = Path(path).expanduser()
        if path.suffix.lower() in _SUFFIXES.get(self.media_type, ()) or not path.suffix:
            path.write_bytes(self.data)
            return
        pil_image = self.to_pil()
        try:
            pil_image.save(path)
        except (OSError, ValueError) as error:
            # JPEG has no transparency and no palette.
            if "mode" not in str(error):
                raise
            pil_image.convert("RGB").save(path)

    def pieces(self) -> Iterator[bytes]:
        """Yield the data URI in pieces of a size that fits a processor's cache."""
        yield self.prefix
        yield from self.bare.pieces()

    @property
    def bare(self) -> _Bare:
        """The image as base64, without the head of the data URI."""
        return _Bare(self)

    def __repr__(self) -> str:
        return f"<{self.media_type} {self.width}×{self.height} sha256:{self.digest[:12]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Show a thumbnail in notebooks: a 12-megapixel photo would fill the cell, and the notebook's file."""
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        data, media_type = self.data, self.media_type
        if max(self.size) > _THUMBNAIL_EDGE or len(data) > _THUMBNAIL_BYTES:
            from predictionguard_core.images.prepare import open_image

            policy = ImagePolicy(
                max_edge=_THUMBNAIL_EDGE, max_bytes=max(len(data), 1), max_pixels=max(self.width * self.height, 1)
            )
            try:
                thumbnail = open_image(data, policy)
            except ImageError:  # no Pillow, or a file that only the service can read
                return bundle
            data, media_type = thumbnail.data, thumbnail.media_type
        import binascii

        bundle[media_type] = binascii.b2a_base64(data, newline=False).decode()
        return bundle

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


_SUFFIXES = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    "image/gif": (".gif",),
}


class _Bare:
    """The base64 of an image, to be spliced into a request body."""

    __slots__ = ("_image", "length")

    def __init__(self, image: Image) -> None:
        self._image = image
        self.length = image._payload.encoded_length

    def pieces(self, size: int | None = None) -> Iterator[bytes]:
        return self._image._payload.encoded(size or SLICE)

    def __repr__(self) -> str:
        return repr(self._image)
