"""Read image files: regular ones only, below the policy's roots, up to its limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from predictionguard_core.errors import ImageBlockedError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images.policy import ImagePolicy

# A system that lacks a flag lacks the danger too.
_FLAGS = os.O_RDONLY
_MAX_NAME = 80
for _flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _flag, 0)


def read(path: Path, policy: ImagePolicy) -> bytes:
    """Return the bytes of the regular file at `path`.

    Raises `ImageBlockedError` for anything but a regular file, and for a file outside the policy's roots (if it has
    any; links are followed first), `ImageTooLargeError` for one over `max_bytes`, and `ImageFormatError` for one that
    is missing or unreadable. Never blocks: a FIFO or a device is refused unread.
    """
    try:
        real = Path(os.path.realpath(path))
        if policy.local_roots and not _is_below(real, policy):
            raise ImageBlockedError(f"{_name(path)} is not below a folder of ImagePolicy.local_roots")
        # Checked before it is opened, as opening a device can have effects, and again when it is open.
        _check_regular(real.stat(), path)
        descriptor = os.open(real, _FLAGS)
    except (OSError, ValueError) as error:
        remedy = ". Check the path: a relative one begins at the working directory"
        remedy = remedy if isinstance(error, FileNotFoundError) else ""
        raise ImageFormatError(f"{_name(path)} cannot be read: {_reason(error)}{remedy}") from None
    with open(descriptor, "rb", buffering=0) as file:
        try:
            info = os.fstat(descriptor)
            _check_regular(info, path)
            _check_size(info.st_size, path, policy)
            # In one piece of its own size; None where a file that poses as regular would block.
            data = file.read(info.st_size + 1) or b""
            while len(data) <= policy.max_bytes and (more := file.read(1 << 16)):
                data += more  # the file grew, or is one of /proc's, which say they are empty
        except OSError as error:
            raise ImageFormatError(f"{_name(path)} cannot be read: {_reason(error)}") from None
    _check_size(len(data), path, policy)
    return data


def _is_below(real: Path, policy: ImagePolicy) -> bool:
    return any(real.is_relative_to(os.path.realpath(root)) for root in policy.local_roots)


def _check_regular(info: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(info.st_mode):
        remedy = " but a folder: pass the path of an image" if stat.S_ISDIR(info.st_mode) else ""
        raise ImageBlockedError(f"{_name(path)} is not a regular file{remedy}")


def _check_size(count: int, path: Path, policy: ImagePolicy) -> None:
    if count > policy.max_bytes:
        raise ImageTooLargeError(
            f"{_name(path)} has {count:,} bytes or more, the policy allows {policy.max_bytes:,} (ImagePolicy.max_bytes)"
        )


def _name(path: Path) -> str:
    # What is tried as a path may be somebody's damaged base64, which no error may show.
    return f"the file {path.name!r}" if len(path.name) <= _MAX_NAME else "the file"


def _reason(error: OSError | ValueError) -> str:
    # ValueError: a NUL in the path. The system's own text would show the folders.
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "its name is not a path"
