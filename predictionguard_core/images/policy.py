"""What may come in as a picture: where from, how large, and what is done to it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from predictionguard_core.errors import ConfigurationError, ImageFormatError, ImageTooLargeError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePolicy:
    """Limits and rules for pictures. The defaults are safe for messages written by strangers.

    Args:
        local_roots: Folders. A string in a message is tried as a path only below one of them; typed paths
            (`pathlib.Path`, `ImageBlock(path=...)`) are kept below them too, if any are set.
        allowed_hosts: Hosts that pictures may be downloaded from: exact names, or ".example.com" for a domain and all
            below it. None: any host with a public address. Empty: none.
        allow_private_hosts: Whether a host may have a loopback or private address. Link-local addresses, metadata
            services, multicast and reserved addresses are refused even then.
        max_bytes: Bytes of one picture, as it comes in.
        max_pixels: Width times height of one picture.
        max_images: Pictures in one request.
        min_edge: Pixels. Pictures with a shorter edge are refused, as models that cut a picture into tiles may demand.
        max_edge: Pixels. Pictures with a longer edge are made smaller, never larger. None: as they are.
        upright: Whether photos that a camera marked as rotated (EXIF) are turned.
        strip_metadata: Whether EXIF, GPS, XMP and comments are dropped.
        max_pages: Pages of one PDF, each of which becomes a picture.
        pdf_dpi: Dots an inch at which a page of a PDF is drawn.

    Changing a picture (`max_edge`, `upright`) takes Pillow: `pip install "predictionguard-integrations[images]"`.
    A picture that needs no change goes out byte for byte.
    """

    # What pydantic heeds where a policy is given as a dict.
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

    def __post_init__(self) -> None:
        self._set("local_roots", tuple(Path(root) for root in _several(self.local_roots, "local_roots")))
        if self.allowed_hosts is not None:
            self._set("allowed_hosts", tuple(map(_host, _several(self.allowed_hosts, "allowed_hosts"))))
        for name in ("max_bytes", "max_pixels", "max_images", "min_edge", "max_edge", "max_pages", "pdf_dpi"):
            value = getattr(self, name)
            if value is None and name == "max_edge":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"ImagePolicy.{name}: give a whole number above 0")
        for name in ("allow_private_hosts", "upright", "strip_metadata"):
            if not isinstance(getattr(self, name), bool):  # "false", as an environment has it, would be a yes
                raise ConfigurationError(f"ImagePolicy.{name}: give True or False")

    @classmethod
    def of(cls, given: Any) -> ImagePolicy:
        """The policy that is given as one, as a dict of its fields, or, with None, not at all."""
        if given is None or isinstance(given, cls):
            return given or cls()
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"images: give an ImagePolicy, not {type(given).__name__}")
        wrong = next((name for name in given if name not in known), None)
        if wrong is not None:
            raise ConfigurationError(f"images: an ImagePolicy has no {str(wrong)[:60]!r}; it has {', '.join(known)}")
        return cls(**given)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # frozen, and still being made

    def as_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON has it: `ImagePolicy(**policy.as_dict())` is the same policy."""
        given = {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        return {
            name: [str(each) for each in value] if isinstance(value, tuple) else value for name, value in given.items()
        }

    def allows_host(self, host: str) -> bool:
        """Whether `host`, a lower-case name or address without a port, is on the list."""
        host = host.rstrip(".")
        return self.allowed_hosts is None or any(
            host == allowed or (allowed.startswith(".") and (host.endswith(allowed) or host == allowed[1:]))
            for allowed in self.allowed_hosts
        )


def _several(value: Any, name: str) -> tuple[Any, ...]:
    if isinstance(value, str | os.PathLike):
        # A lone string is a sequence of letters: "/" would be among the roots.
        raise ConfigurationError(f"ImagePolicy.{name}: give a list, such as [{str(value)!r}]")
    if not isinstance(value, Iterable) or not all(isinstance(each, str | os.PathLike) for each in value):
        raise ConfigurationError(f"ImagePolicy.{name}: give a list of texts")
    return tuple(value)


def _host(text: str) -> str:
    """A host as an address has it: lower case, without brackets, and encoded (RFC 5891) where it is not ASCII."""
    bare = str(text).strip().strip("[]").lower().rstrip(".")
    if "/" in bare or "*" in bare or bare.count(":") == 1:
        raise ConfigurationError(
            f"ImagePolicy.allowed_hosts: {text!r} is no host; give a name without scheme, port or path, such as "
            '"example.com", or ".example.com" for all below it, too'
        )
    if bare.isascii():
        return bare
    import httpx  # what else needs it is loaded at the first call

    try:
        encoded = httpx.URL(f"http://{bare.lstrip('.')}").raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        raise ConfigurationError(f"ImagePolicy.allowed_hosts: {text!r} is no host") from None
    return f".{encoded}" if bare.startswith(".") else encoded


def check_bytes(count: int, policy: ImagePolicy) -> None:
    """Raise `ImageTooLargeError` for a picture of more bytes than the policy allows."""
    if count > policy.max_bytes:
        raise ImageTooLargeError(
            f"the picture has {count:,} bytes, the policy allows {policy.max_bytes:,} (ImagePolicy.max_bytes)"
        )


def check_pixels(width: int, height: int, policy: ImagePolicy) -> None:
    """Raise `ImageTooLargeError` for too many pixels, `ImageFormatError` for too short an edge; 0 is not known."""
    if width * height > policy.max_pixels:
        raise ImageTooLargeError(
            f"the picture has {width}×{height} = {width * height:,} pixels, the policy "
            f"allows {policy.max_pixels:,} (ImagePolicy.max_pixels)"
        )
    if width and height and min(width, height) < policy.min_edge:
        raise ImageFormatError(
            f"the picture has {width}×{height} pixels, the policy asks for edges of at least "
            f"{policy.min_edge} (ImagePolicy.min_edge)"
        )
