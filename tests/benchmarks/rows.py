"""What is measured, and what is asked of this project: at most so many times what httpx itself costs."""

from __future__ import annotations

import dataclasses

KB, MB = 1000, 1_000_000
CHUNKS = 200
"""Of a streamed answer: some 150 words. What the call itself costs is shared among them."""

KNOWN_ANSWER = f"{1 << 40} bytes came, if you like."
"""What a model says that asks nobody."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A kind of work. `do` is the worker's verb; `calls` fixes how many calls make a block, else time does.

    `targets` are those of the LangChain and the LlamaIndex model; a row without any is there to be looked at.
    """

    name: str
    title: str
    targets: tuple[float, float] | None = None
    do: str = "ask"
    route: str = "plain"
    pictures: tuple[int, ...] = ()
    tls: bool = False
    calls: int | None = None
    clock: str = "cpu"
    chunks: int = 0


ROWS = [
    Row("text", "text call", (1.6, 1.5)),
    Row("text-async", "text call, async", (1.6, 1.5), do="aask"),
    Row("100KB", "100 KB image", (1.9, 1.7), pictures=(100 * KB,)),
    Row("10MB", "10 MB image", (2.5, 2.0), pictures=(10 * MB,)),
    Row("10MB-tls", "10 MB image over TLS", (1.8, 1.4), pictures=(10 * MB,), tls=True),
    Row("10MB-async", "10 MB image, async", (2.8, 2.0), do="aask", pictures=(10 * MB,)),
    Row("8x1MB", "8 images of 1 MB", (3.0, 2.5), pictures=(MB,) * 8),
    Row(
        "256-at-once",
        "256 async calls at once, 100 KB, server waits 50 ms (wall)",
        (0.8, 0.8),
        do="burst",
        route="wait-50",
        pictures=(100 * KB,),
        calls=256,
        clock="wall",
    ),
    Row("chunk", "streamed chunk", (2.3, 2.3), do="stream", route=f"stream-{CHUNKS}", chunks=CHUNKS),
    Row("chunk-async", "streamed chunk, async", do="astream", route=f"stream-{CHUNKS}", chunks=CHUNKS),
]
ROW = {row.name: row for row in ROWS}

IMPORT_TARGET = 1.08
ANOTHER_TARGET = 0.1
"""Milliseconds."""
MEMORY_TARGETS = {"langchain": 0.2, "llama-index": 0.2, "langchain-base64": 1.5}
MEMORY = Row("memory", "peak memory of a 10 MB image call", pictures=(10 * MB,))
OTHERS = ("another", "memory", "import", "sizes", "at-once", "floors")
"""What is measured beside the rows."""

SIZES = (1 * KB, 8 * KB, 32 * KB, 128 * KB, 512 * KB, 2 * MB, 8 * MB, 32 * MB)
AT_ONCE = (1, 4, 16, 64, 128, 256, 512)


def of_size(size: int) -> Row:
    """A call with one picture of so many bytes."""
    return Row(f"{size} bytes", f"a picture of {size} bytes", pictures=(size,))


def at_once(calls: int) -> Row:
    """So many calls at once, as in the row of 256."""
    return dataclasses.replace(ROW["256-at-once"], name=f"{calls} at once", calls=calls, targets=None)
