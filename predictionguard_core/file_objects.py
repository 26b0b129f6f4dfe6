"""Read the open files that users pass as images and documents."""

from __future__ import annotations

import inspect
from typing import Any

_CHUNK_SIZE = 1024 * 1024


class FileObjectError(Exception):
    """Raised when a file object cannot be read. Its text says why and what to do."""


def read_file_object(file: Any, max_bytes: int) -> bytes:
    """Read a file object to its end, but at most one byte more than `max_bytes`.

    Pipes and other raw files return less than they are asked for.
    """
    chunks: list[bytes] = []
    left = max_bytes + 1
    while left > 0 and (chunk := _read(file, min(left, _CHUNK_SIZE))):
        chunks.append(chunk)
        left -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _read(file: Any, count: int) -> bytes:
    if getattr(file, "closed", False) is True:
        raise FileObjectError("it is closed. Pass an open file, its path or its bytes")
    try:
        chunk = file.read(count)
    except Exception as error:  # whatever a user's file object raises
        reason = error.strerror if isinstance(error, OSError) else None
        raise FileObjectError(reason or f"its read() raised {type(error).__name__}") from None
    if inspect.isawaitable(chunk):
        if inspect.iscoroutine(chunk):
            chunk.close()
        raise FileObjectError("its read() is async. Pass the bytes: await file.read()")
    if isinstance(chunk, str):
        raise FileObjectError('it is open in text mode. Open it in binary mode: open(path, "rb")')
    if not isinstance(chunk, bytes):
        raise FileObjectError(f"its read() returned {type(chunk).__name__}, not bytes. Pass its bytes")
    return chunk
