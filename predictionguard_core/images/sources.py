"""Any source in, one picture out, ready to be sent.

A source is a `str` (a data URI, an http(s) URL or base64; a path only below the policy's `local_roots`), raw `bytes`,
`Base64`, a `pathlib.Path`, an open binary file, or an `Image`. The bytes decide what type a picture is, never a suffix
or a declared type. Nothing here uses the network, and `begin` reads no file: what may take time comes back as a job.
"""

from __future__ import annotations

import binascii
import contextlib
import dataclasses
import hashlib
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from predictionguard_core.errors import (
    ImageBlockedError,
    ImageError,
    ImageFormatError,
    UnsupportedContentError,
)
from predictionguard_core.images import convert, detect, files, pdf
from predictionguard_core.images.encoding import SLICE, Encoded, Payload, Raw, is_clean, mended
from predictionguard_core.images.policy import ImagePolicy, check_bytes, check_pixels

_HEAD = 64
_LONGEST_HEAD = 8192
_LONGEST_PATH = 4096
_AT_ONCE = 4 * 1024 * 1024
"""Characters of base64 that are checked where one stands: a millisecond's work."""


@dataclasses.dataclass(frozen=True, slots=True)
class Base64:
    """Text that its giver says is base64: never taken for a path or an address. `str` or ASCII bytes."""

    text: str | bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """A picture that has to be downloaded first."""

    url: str


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """Pictures that take a file or a decoder: call `work` where it may take its time. Only a PDF becomes several.

    `size` tells (width, height) in pixels, as they will be by the header; None where that takes as much as the work
    does. Raises what `work` would raise for a header that is no picture's.
    """

    work: Callable[[], list[Image]]
    size: Callable[[], tuple[int, int] | None] = lambda: None


class Image:
    """A picture that is ready to be sent: what type it is, how large, and its bytes, held once.

    `size` is (width, height) in pixels. `length` is the number of bytes of its data URI, and `pieces` gives them.
    """

    __slots__ = ("_payload", "_prefix", "media_type", "size")

    def __init__(self, payload: Payload, header: detect.Header) -> None:
        self._payload = payload
        self.media_type = header.media_type
        self.size = (header.width, header.height)
        self._prefix = f"data:{self.media_type};base64,".encode()

    @property
    def length(self) -> int:
        """Bytes of the data URI."""
        return len(self._prefix) + self._payload.encoded_length

    def pieces(self, size: int | None = None) -> Iterator[bytes]:
        """The data URI, in pieces of `size`; by default, of what suits a processor's cache."""
        yield self._prefix
        yield from self._payload.encoded(size or SLICE)

    @property
    def bare(self) -> _Bare:
        """The same without the data URI's head: base64 and nothing else."""
        return _Bare(self)

    @property
    def data(self) -> bytes:
        """The picture's own bytes."""
        return self._payload.at(0, self._payload.length)

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return b"".join(self.pieces()).decode()

    @property
    def digest(self) -> str:
        """The SHA-256 of the picture's bytes, in hexadecimal: the same however the picture was given."""
        digest = hashlib.sha256()
        for offset in range(0, self._payload.length, 3 * SLICE):
            digest.update(self._payload.at(offset, 3 * SLICE))
        return digest.hexdigest()

    @classmethod
    def open(cls, source: Any, policy: ImagePolicy | None = None) -> Image:
        """Read a picture from anything but the network, as a model would be sent it. Raises an `ImageError`."""
        return load(source, policy)

    def __repr__(self) -> str:
        return f"<{self.media_type} {self.size[0]}×{self.size[1]} sha256:{self.digest[:12]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {self.media_type: binascii.b2a_base64(self.data, newline=False).decode(), "text/plain": repr(self)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def begin(source: Any, policy: ImagePolicy) -> Image | Remote | Job:
    """Look at a source without leaving memory. Raises an `ImageError`."""
    if isinstance(source, Image):
        return source
    if isinstance(source, Base64):
        return _from_base64(source.text, 0, policy)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_payload(Raw(bytes(source)), policy)
    if isinstance(source, Path):
        return Job(lambda: _from_file(source, policy))
    if isinstance(source, str):
        return _from_text(source, policy)
    if hasattr(source, "read"):
        return Job(lambda: _from_bytes(_read(source, policy.max_bytes), policy))
    raise ImageFormatError(
        f"a {type(source).__name__} is no image source; give a data URI, an http(s) URL, base64, bytes, "
        "a pathlib.Path or an open binary file"
    )


def size_of(found: Image | Remote | Job) -> tuple[int, int] | None:
    """Width and height in pixels, as the picture goes out; None if it takes a file, a download or a PDF to tell."""
    return found.size if isinstance(found, Image) else found.size() if isinstance(found, Job) else None


def load(source: Any, policy: ImagePolicy | None = None) -> Image:
    """Read a picture from anything but the network. Raises an `ImageError`."""
    policy = ImagePolicy.of(policy)
    found = begin(source, policy)
    if isinstance(found, Remote):
        raise ImageBlockedError("this reads no addresses; download the picture first, or hand the address to a model")
    return one(found.work()) if isinstance(found, Job) else found


def one(found: list[Image]) -> Image:
    """The only picture of a source. Raises `UnsupportedContentError` for the pages of a PDF."""
    if len(found) != 1:
        raise UnsupportedContentError(f"one picture is meant here, and this is a PDF of {len(found)} pages")
    return found[0]


def _from_bytes(data: bytes, policy: ImagePolicy) -> list[Image]:
    return _settled(_from_payload(Raw(data), policy))


def _settled(found: Image | Job) -> list[Image]:
    return found.work() if isinstance(found, Job) else [found]


def _from_file(path: Path, policy: ImagePolicy) -> list[Image]:
    return _from_bytes(files.read(path, policy), policy)


def _from_text(text: str, policy: ImagePolicy) -> Image | Remote | Job:
    start = (text.lstrip() if text[:1].isspace() else text)[:_HEAD].lower()
    if start.startswith("data:"):
        return _from_data_uri(text.lstrip(), policy)
    if start.startswith(("http:", "https:")):
        return Remote(text.strip())
    scheme = start.partition(":")[0]
    if "://" in start or scheme in ("file", "javascript", "blob", "about"):
        text = f"pictures are downloaded over http and https only, not {scheme[:20]!r}"
        raise ImageBlockedError(f"{text}: give a pathlib.Path, or get it in your own code and give its bytes")
    if sniff_base64(text):
        return _from_base64(text, 0, policy)
    if policy.local_roots and len(text) <= _LONGEST_PATH:
        return Job(lambda: _from_file(Path(text), policy))
    if not text.strip():
        raise ImageFormatError("the picture is empty")
    raise ImageFormatError(
        "this text is neither a data URI nor an http(s) URL, and as base64 it is no image of a known type. For a file, "
        "give a pathlib.Path or its bytes, or allow its folder with ImagePolicy(local_roots=[...])"
    )


def _from_data_uri(text: str, policy: ImagePolicy) -> Image | Job:
    comma = text.find(",", 0, _LONGEST_HEAD)
    if comma < 0:
        raise ImageFormatError("the data URI has no comma between its type and its data")
    if text[:comma].rstrip().lower().endswith(";base64"):
        return _from_base64(text, comma + 1, policy)
    check_bytes((len(text) - comma) // 3, policy)
    return Job(lambda: _from_bytes(urllib.parse.unquote_to_bytes(text[comma + 1 :]), policy))


def sniff_base64(text: str) -> str | None:
    """The type that a base64 text's first bytes tell; None if they are those of no known image."""
    head = text.lstrip()[:_HEAD] if text[:1].isspace() else text[:_HEAD]
    head = head.replace("-", "+").replace("_", "/")[:32]
    try:
        kind = detect.sniff(binascii.a2b_base64(head, strict_mode=True))
    except (ValueError, binascii.Error):
        return None
    # A JPEG XL stream is known by two bytes only, with which "/wo", the start of many a path, begins, too.
    return None if kind == "image/jxl" and len(text) <= _LONGEST_PATH else kind


def _from_base64(text: str | bytes, start: int, policy: ImagePolicy) -> Image | Job:
    length = len(text) - start
    # Four characters are three bytes at most; with line breaks or percent signs among them, fewer.
    most = length // 4 * 3 - 2
    check_bytes(most if most <= policy.max_bytes or is_clean(text, start) else length // 4, policy)

    def found() -> Image | Job:
        return _from_payload(_encoded(text, start), policy)

    if length <= _AT_ONCE:
        with contextlib.suppress(ImageFormatError):
            return _from_payload(Encoded(text, start), policy)
    return Job(lambda: _settled(found()), lambda: size_of(found()))


def _encoded(text: str | bytes, start: int) -> Encoded:
    try:
        return Encoded(text, start)
    except ImageFormatError:
        return Encoded(mended(text, start), 0)


def _from_payload(payload: Payload, policy: ImagePolicy) -> Image | Job:
    if not payload.length:
        raise ImageFormatError("the picture is empty")
    check_bytes(payload.length, policy)
    header = detect.read(payload.at, payload.length)
    if header.media_type == "application/pdf":
        return Job(lambda: _pages(payload, policy))
    check_pixels(header.width, header.height, policy)
    if not header.is_whole:
        raise ImageFormatError(f"the picture ({header.media_type}) is corrupt or not fully there: it was cut short")
    turned = policy.upright and header.orientation != 1
    shrunk = policy.max_edge is not None and max(header.width, header.height) > policy.max_edge
    converted = header.media_type not in detect.SENDABLE

    def size() -> tuple[int, int]:
        return convert.size_after(header, upright=policy.upright, max_edge=policy.max_edge)

    if turned or shrunk or converted:
        return Job(lambda: [_reworked(payload, header, policy)], size)
    if policy.strip_metadata:
        return Job(lambda: [_stripped(payload.at(0, payload.length), header)], size)
    return Image(payload, header)


def _pages(payload: Payload, policy: ImagePolicy) -> list[Image]:
    drawn = pdf.render(payload.at(0, payload.length), policy)
    return [Image(made := Raw(data), detect.read(made.at, made.length)) for data in drawn]


def _reworked(payload: Payload, header: detect.Header, policy: ImagePolicy) -> Image:
    data = convert.rework(
        payload.at(0, payload.length),
        header,
        upright=policy.upright,
        max_edge=policy.max_edge,
        max_pixels=policy.max_pixels,
    )
    made = Raw(data)
    header = detect.read(made.at, made.length)
    return _stripped(data, header) if policy.strip_metadata else Image(made, header)


def _stripped(data: bytes, header: detect.Header) -> Image:
    return Image(Raw(detect.strip(data, header)), header)


def _read(file: IO[bytes], max_bytes: int) -> bytes:
    try:
        data = file.read(max_bytes + 1)
    except Exception as error:  # whatever somebody's file object does
        raise ImageFormatError(f"the open file can't be read ({type(error).__name__})") from None
    if not isinstance(data, bytes):
        raise ImageFormatError("the open file gives text; open it in binary mode")
    return data


class _Bare:
    """A picture's base64, to be spliced into a body."""

    __slots__ = ("_image", "length")

    def __init__(self, image: Image) -> None:
        self._image = image
        self.length = image._payload.encoded_length

    def pieces(self, size: int | None = None) -> Iterator[bytes]:
        return self._image._payload.encoded(size or SLICE)

    def __repr__(self) -> str:
        return repr(self._image)


__all__ = ["Base64", "Image", "ImageError", "Job", "Remote", "begin", "load", "sniff_base64"]
