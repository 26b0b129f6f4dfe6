"""`ImagePolicy`: which images are accepted, and how they are changed before they are sent."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from predictionguard_core.errors import ConfigurationError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images.headers import Header
from predictionguard_core.option_names import name_closest_option


@name_closest_option(ConfigurationError)
@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePolicy:
    """Limits and conversions for images. The defaults are safe for messages written by strangers.

    Args:
        local_roots: Folders. A string in a message is tried as a path only below one of them. Path objects
            (`pathlib.Path`, `ImageBlock(path=...)`) must be below them too, if any are set.
        allowed_hosts: Hosts that images may be downloaded from: exact names, or ".example.com" for a domain and all
            its subdomains. None: any host with a public address. Empty: none.
        allow_private_hosts: Whether a host may have a loopback or private address. Link-local addresses, metadata
            services, multicast and reserved addresses are refused even then.
        max_bytes: Largest file of one image, in bytes.
        max_pixels: Largest width times height of one image.
        max_images: Largest number of images in one request.
        min_edge: Shortest accepted edge, in pixels. Models that cut an image into tiles may need one.
        max_edge: Longest edge, in pixels: larger images are shrunk to it. None: never shrink.
        upright: Whether photos that a camera marked as rotated (EXIF) are rotated upright.
        strip_metadata: Whether EXIF, GPS, XMP and comments are removed.
        max_pages: Largest number of pages of one PDF, TIFF or HEIC file. Each page becomes an image.
        pdf_dpi: Resolution of PDF pages, in dots per inch.
        max_decode_seconds: Longest time that decoding one file may take. The call's `timeout` bounds it too.
        max_decode_memory: Largest memory of the process that decodes, in bytes. Not enforced on Windows and macOS.
        cache_bytes: Size of a cache of downloaded and converted images, in bytes. It is shared by equal policies of a
            process. Turn it on for agents and chats, where every turn sends the earlier images again. 0: no cache.

    Images are decoded in a separate process, and only if they must be rotated, shrunk or converted. That needs Pillow:
    `pip install "predictionguard-integrations[images]"`. All other images are sent byte for byte.

    Example:
        >>> images = ImagePolicy(max_edge=1568, strip_metadata=True, cache_bytes=64 * 1024 * 1024)
        >>> ChatPredictionGuard("Qwen2.5-VL-7B-Instruct", images=images)
    """

    # For policies that pydantic builds from a dict.
    __pydantic_config__ = ConfigDict(extra="forbid")

    local_roots: Sequence[str | Path] = ()
    allowed_hosts: Sequence[str] | None = None
    allow_private_hosts: bool = False
    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_images: int = 16
    min_edge: int = 1
    max_edge: int | None = None
    upright: bool = True
    strip_metadata: bool = False
    max_pages: int = 16
    pdf_dpi: int = 150
    max_decode_seconds: float = 30.0
    max_decode_memory: int = 1024 * 1024 * 1024
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        self._set("local_roots", tuple(Path(root) for root in _as_tuple(self.local_roots, "local_roots")))
        if self.allowed_hosts is not None:
            self._set("allowed_hosts", tuple(map(_host, _as_tuple(self.allowed_hosts, "allowed_hosts"))))
        for field in dataclasses.fields(self):
            value, kind, least = getattr(self, field.name), field.type, 0 if field.name == "cache_bytes" else 1
            if kind == "bool" and not isinstance(value, bool):  # the string "false" would be true
                raise ConfigurationError(f"ImagePolicy.{field.name} must be True or False, got {value!r:.60}")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if kind == "float" and not (is_number and 0 < value < math.inf):
                raise ConfigurationError(f"ImagePolicy.{field.name} must be a number above 0, got {value!r:.60}")
            is_integer = is_number and isinstance(value, int) and value >= least
            if (kind == "int" or (kind == "int | None" and value is not None)) and not is_integer:
                raise ConfigurationError(
                    f"ImagePolicy.{field.name} must be an integer of at least {least}, got {value!r:.60}"
                )

    @classmethod
    def of(cls, policy: Any) -> ImagePolicy:
        """Return a policy from a policy, from a dict of its fields, or with the defaults for None."""
        if policy is None or isinstance(policy, cls):
            return policy or cls()
        if not isinstance(policy, Mapping):
            raise ConfigurationError(f"images must be an ImagePolicy or a dict of its fields, got {policy!r:.60}")
        return cls(**{str(name): value for name, value in policy.items()})

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults, as JSON types, from which an equal policy can be made."""
        fields = {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        return {
            name: [str(each) for each in value] if isinstance(value, tuple) else value for name, value in fields.items()
        }

    def allows_host(self, host: str) -> bool:
        """Whether images may be downloaded from `host`, a lower-case name or address without a port."""
        host = host.rstrip(".")
        return self.allowed_hosts is None or any(
            host == allowed or (allowed.startswith(".") and (host.endswith(allowed) or host == allowed[1:]))
            for allowed in self.allowed_hosts
        )


def _as_tuple(value: Any, name: str) -> tuple[Any, ...]:
    if isinstance(value, str | os.PathLike):
        # A string is a sequence of characters: "/" would be among the roots.
        raise ConfigurationError(f"ImagePolicy.{name} must be a list, such as [{str(value)!r}]")
    if not isinstance(value, Iterable) or not all(isinstance(each, str | os.PathLike) for each in value):
        raise ConfigurationError(f"ImagePolicy.{name} must be a list of strings, got {value!r:.60}")
    return tuple(value)


def _host(text: str) -> str:
    """Return a host as a URL has it: lower case, without brackets, and encoded (RFC 5891) where it is not ASCII."""
    bare = str(text).strip().strip("[]").lower().rstrip(".")
    if "/" in bare or "*" in bare or bare.count(":") == 1:
        raise ConfigurationError(
            f"ImagePolicy.allowed_hosts: {text!r} is not a host. Use a name without scheme, port or path, such as "
            '"example.com", or ".example.com" to include its subdomains'
        )
    if bare.isascii():
        return bare
    import httpx  # not loaded before the first call

    try:
        encoded = httpx.URL(f"http://{bare.lstrip('.')}").raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        raise ConfigurationError(f"ImagePolicy.allowed_hosts: {text!r} is not a host") from None
    return f".{encoded}" if bare.startswith(".") else encoded


def check_bytes(count: int, policy: ImagePolicy) -> None:
    """Raise `ImageTooLargeError` for an image of more bytes than the policy allows."""
    if count > policy.max_bytes:
        raise ImageTooLargeError(
            f"the image has {count:,} bytes, the policy allows {policy.max_bytes:,} (ImagePolicy.max_bytes)"
        )


def check_header(header: Header, policy: ImagePolicy) -> None:
    """Raise an `ImageError` for an image that the policy does not allow, as far as its header says."""
    if header.pixels > policy.max_pixels:
        raise ImageTooLargeError(
            f"the image has {header.width}×{header.height} = {header.pixels:,} pixels, the policy "
            f"allows {policy.max_pixels:,} (ImagePolicy.max_pixels)"
        )
    if header.pixels and min(header.width, header.height) < policy.min_edge:
        raise ImageFormatError(
            f"the image has {header.width}×{header.height} pixels, the policy asks for edges of at least "
            f"{policy.min_edge} (ImagePolicy.min_edge)"
        )
    if len(header.frames) > policy.max_pages:
        raise ImageTooLargeError(
            f"the image ({header.media_type}) has {len(header.frames):,} pages, the policy allows {policy.max_pages} "
            "(ImagePolicy.max_pages)"
        )
    if not header.is_whole:
        raise ImageFormatError(
            f"the image ({header.media_type}) is corrupt or not fully there: it was cut short. "
            "Save or download it again"
        )
