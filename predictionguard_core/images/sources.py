"""Read image sources: the bytes or base64 of what users pass as an image. Nothing is decoded or downloaded here.

A source is a `str`, bytes, `Base64`, a path object, an open binary file, a `PIL.Image.Image` or an `Image`. One rule
holds for strings: in a message a `str` is a URL, a data URI or base64, and a path only below the policy's
`local_roots`, because a stranger may have written it (`open_source`). In an argument of a developer's own code, such as
that of `Image.open`, `Client.extract` and the loaders, it is a path (`local_source`).
"""

from __future__ import annotations

import binascii
import contextlib
import dataclasses
import inspect
import io
import os
import sys
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from predictionguard_core.errors import ImageBlockedError, ImageFormatError
from predictionguard_core.file_objects import FileObjectError, read_file_object
from predictionguard_core.images import convert, detect, files
from predictionguard_core.images.encoding import Encoded, Payload, Raw, cleaned, is_clean
from predictionguard_core.images.image import Image
from predictionguard_core.images.policy import ImagePolicy, check_bytes

_HEAD = 64
_MAX_DATA_URI_HEAD = 8192
_MAX_PATH = 4096
_MAX_NAME = 80
_SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".pdf", ".png", ".svg", ".tif", ".tiff", ".webp")
_MAX_INLINE = 4 * 1024 * 1024
"""Characters of base64 that are validated on the calling thread: a millisecond's work."""


@dataclasses.dataclass(frozen=True, slots=True)
class Base64:
    """Base64 that is never taken for a path or a URL: `str` or ASCII bytes."""

    text: str | bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """An image that must be downloaded first."""

    url: str


@dataclasses.dataclass(frozen=True, slots=True)
class Deferred:
    """An image that takes reading a file or a long computation. Call `read` where it may block."""

    read: Callable[[], Payload]
    in_memory: bool = False
    file_name: str = ""
    """For errors about a file from a path: in a batch of files nothing else says which one is meant."""


def open_source(source: Any, policy: ImagePolicy) -> Image | Payload | Remote | Deferred:
    """Return the bytes of a source, or what has to be done to get them. Raises an `ImageError`."""
    if isinstance(source, Image):
        return source
    if isinstance(source, str):
        return _from_text(source, policy)
    if isinstance(source, Base64):
        # A view of a caller's bytearray could change after it was validated, and leave the JSON it is sent in.
        text = source.text if isinstance(source.text, str | bytes) else bytes(source.text)
        return _from_base64(text, 0, policy)
    if isinstance(source, bytes | bytearray | memoryview):
        return Raw(bytes(source))
    if isinstance(source, os.PathLike):
        return _from_path(Path(source), policy)
    if isinstance(source, io.BytesIO):
        try:
            return Raw(source.getvalue())
        except ValueError:
            raise ImageFormatError("the image is a BytesIO that is closed: pass its bytes") from None
    if hasattr(source, "read"):
        return Deferred(lambda: Raw(_read(source, policy.max_bytes)))
    if convert.is_pil_image(source):
        return Deferred(lambda: Raw(convert.encode(source, policy)))
    raise ImageFormatError(_unusable(source))


def local_source(source: Any) -> Any:
    """Return the source that a developer means in their own code, where a `str` may be a path to a file.

    Takes paths with `~`, `file://` URLs, and Gradio's `{"path": ...}`.
    """
    if isinstance(source, dict) and isinstance(source.get("path"), str):
        source = source["path"]
    if not isinstance(source, str) or not source.strip() or source.lstrip()[:5].lower() == "data:":
        return source
    parts = urllib.parse.urlsplit(source) if source[:5].lower() == "file:" else None
    if parts is not None:
        from urllib.request import url2pathname

        if parts.netloc not in ("", "localhost"):
            raise ImageBlockedError(f"a file URL on the host {parts.netloc!r} cannot be read: pass a local path")
        return Path(url2pathname(parts.path))
    if "://" in source[:_HEAD] or len(source) > _MAX_PATH:
        return source
    path = Path(source).expanduser() if source.startswith("~") else Path(source)
    # Short base64 looks like a path, and a path like "/9j/4AAQ" like base64: a file that exists decides.
    return source if sniff_base64(source) and not os.path.exists(path) else path


def sniff_base64(text: str) -> str | None:
    """Return the media type by the first bytes of base64 text, or None if they are of no known image."""
    head = text.lstrip()[:_HEAD] if text[:1].isspace() else text[:_HEAD]
    head = head.replace("-", "+").replace("_", "/")[:32]
    try:
        media_type = detect.sniff(binascii.a2b_base64(head, strict_mode=True))
    except (ValueError, binascii.Error):
        return None
    # JPEG XL has a signature of two bytes only, which "/wo", the start of many paths, decodes to as well.
    return None if media_type == "image/jxl" and len(text) <= _MAX_PATH else media_type


def _from_text(text: str, policy: ImagePolicy) -> Payload | Remote | Deferred:
    start = (text.lstrip() if text[:1].isspace() else text)[:_HEAD].lower()
    if start.startswith("data:"):
        return _from_data_uri(text.lstrip(), policy)
    if start.startswith(("http:", "https:")):
        return Remote(text.strip())
    scheme = start.partition(":")[0]
    if "://" in start or scheme in ("file", "javascript", "blob", "about"):
        raise ImageBlockedError(
            f"images are downloaded over http and https only, not {scheme[:20]!r}. Pass a pathlib.Path, or download "
            "the image in your own code and pass its bytes"
        )
    if sniff_base64(text):
        return _from_base64(text, 0, policy)
    if policy.local_roots and len(text) <= _MAX_PATH:
        return _from_path(Path(text), policy)
    if not text.strip():
        raise ImageFormatError("the image is empty")
    # Only a name with a known ending is shown: any other string may be damaged base64.
    name = PurePath(text).name if len(text) <= _MAX_PATH else ""
    is_file_name = len(name) <= _MAX_NAME and name.lower().endswith(_SUFFIXES)
    subject = f"the image {name!r} is" if is_file_name else "the image is a string that is"
    raise ImageFormatError(
        f"{subject} neither a data URI nor an http(s) URL nor the base64 of a known image type. For a file, pass a "
        "pathlib.Path (in a prompt template's variable, Image.open(path).data_uri), or allow its folder with "
        "ImagePolicy(local_roots=[...])"
    )


def _from_path(path: Path, policy: ImagePolicy) -> Deferred:
    return Deferred(lambda: Raw(files.read(path, policy)), file_name=path.name)


def _from_data_uri(text: str, policy: ImagePolicy) -> Payload | Deferred:
    comma = text.find(",", 0, _MAX_DATA_URI_HEAD)
    if comma < 0:
        raise ImageFormatError("the data URI has no comma between its type and its data")
    if text[:comma].rstrip().lower().endswith(";base64"):
        return _from_base64(text, comma + 1, policy)
    check_bytes((len(text) - comma) // 3, policy)
    return Deferred(lambda: Raw(urllib.parse.unquote_to_bytes(text[comma + 1 :])), in_memory=True)


def _from_base64(text: str | bytes, start: int, policy: ImagePolicy) -> Payload | Deferred:
    length = len(text) - start
    # Four characters are at most three bytes; with line breaks or percent escapes among them, fewer.
    at_least = length // 4 * 3 - 2
    check_bytes(at_least if at_least <= policy.max_bytes or is_clean(text, start) else length // 4, policy)
    if length <= _MAX_INLINE:
        with contextlib.suppress(ImageFormatError):
            return Encoded(text, start)
    return Deferred(lambda: _validated(text, start), in_memory=True)


def _validated(text: str | bytes, start: int) -> Payload:
    try:
        return Encoded(text, start)
    except ImageFormatError:
        return Encoded(cleaned(text, start), 0)


_reading = threading.Lock()


def _read(file: Any, max_bytes: int) -> bytes:
    """Read a file object from its start, and leave it where it stood: a message may be sent again."""
    try:
        if not _is_seekable(file):
            return read_file_object(file, max_bytes)
        with _reading:
            position = file.tell()
            file.seek(0)
            try:
                return read_file_object(file, max_bytes)
            finally:
                file.seek(position)
    except Exception as error:  # whatever a user's file object raises
        reason = error if isinstance(error, FileObjectError) else f"its seek() raised {type(error).__name__}"
        raise ImageFormatError(f"the image is a file object that cannot be read: {reason}") from None


def _is_seekable(file: Any) -> bool:
    method = getattr(file, "seekable", None)
    if not callable(method) or inspect.iscoroutinefunction(method) or getattr(file, "closed", False) is True:
        return False
    return bool(method())


def _unusable(source: Any) -> str:
    """Return the error text for an object that is no source, with the line that converts it where there is one."""
    kind = type(source)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    matplotlib = sys.modules.get("matplotlib.figure")
    if kind.__module__ == "numpy":
        remedy = "Convert it with PIL.Image.fromarray(array)"
    elif matplotlib is not None and isinstance(source, matplotlib.FigureBase):
        name = "matplotlib figure"
        remedy = 'Save it with figure.savefig(buffer := io.BytesIO(), format="png") and pass buffer'
    elif kind.__module__ == "torch":
        remedy = "Convert it with torchvision.transforms.functional.to_pil_image(tensor)"
    elif isinstance(source, dict) and isinstance(source.get("path"), str):
        remedy = 'Pass pathlib.Path(value["path"])'
    elif isinstance(getattr(source, "path", None), str):
        remedy = "Pass pathlib.Path(value.path)"
    else:
        remedy = "Pass bytes, a pathlib.Path, an open binary file, a PIL image, a data URI, an http(s) URL or base64"
    article = "an" if name[0] in "aeiou" else "a"
    return f"the image is {article} {name}, which is not an image source. {remedy}"
