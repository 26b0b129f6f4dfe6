"""Which files may be read as a picture, and the guarded read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from predictionguard_core.errors import ImageBlockedError, ImageFormatError, ImageTooLargeError
from predictionguard_core.images.policy import ImagePolicy

# Where a system lacks a flag it lacks the danger.
_FLAGS = os.O_RDONLY
_LONGEST_NAME = 80
for _flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _flag, 0)


def read(path: Path, policy: ImagePolicy) -> bytes:
    """The bytes of the regular file at `path`.

    Raises `ImageBlockedError` for anything else than a regular file and for a file that is not below one of the
    policy's roots (if it names any; links are followed first), `ImageTooLargeError` for one over `max_bytes`, and
    `ImageFormatError` for one that is missing or can't be read. Never waits: a FIFO or a device is refused unread.
    """
    try:
        real = Path(os.path.realpath(path))
        if policy.local_roots and not _is_below(real, policy):
            raise ImageBlockedError(f"{_called(path)} is not below a folder of ImagePolicy.local_roots")
        # Looked at before it is opened, since opening a device can have effects; and once more when it is open.
        _check_regular(real.stat(), path)
        descriptor = os.open(real, _FLAGS)
    except (OSError, ValueError) as error:
        raise ImageFormatError(f"{_called(path)} can't be read: {_reason(error)}") from None
    with open(descriptor, "rb") as file:
        try:
            facts = os.fstat(descriptor)
            _check_regular(facts, path)
            _check_size(facts.st_size, path, policy)
            data = file.read(policy.max_bytes + 1) or b""  # None where a file that poses as regular would wait
        except OSError as error:
            raise ImageFormatError(f"{_called(path)} can't be read: {_reason(error)}") from None
    _check_size(len(data), path, policy)
    return data


def _is_below(real: Path, policy: ImagePolicy) -> bool:
    return any(real.is_relative_to(os.path.realpath(root)) for root in policy.local_roots)


def _check_regular(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ImageBlockedError(f"{_called(path)} is not a regular file")


def _check_size(count: int, path: Path, policy: ImagePolicy) -> None:
    if count > policy.max_bytes:
        raise ImageTooLargeError(
            f"{_called(path)} has {count:,} bytes or more, the policy allows {policy.max_bytes:,} "
            "(ImagePolicy.max_bytes)"
        )


def _called(path: Path) -> str:
    # What is tried as a path may be somebody's damaged base64, which no error shall show.
    return f"the file {path.name!r}" if len(path.name) <= _LONGEST_NAME else "the file"


def _reason(error: OSError | ValueError) -> str:
    # ValueError: a NUL in the path. The text of the system says no more than what the caller named.
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "its name is no path"
