"""What is measured, and the budget of each row: at most so many times the cost of raw httpx."""

from __future__ import annotations

import dataclasses

KB, MB = 1000, 1_000_000
CHUNKS = 200
"""Chunks of a streamed answer: some 150 words. The cost of the call itself is shared among them."""

KNOWN_ANSWER = f"{1 << 40} bytes came, if you like."
"""The answer of a model that sends no request."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A kind of work.

    Args:
        name: The name for `--only`.
        title: The title in the table.
        targets: The budgets of the LangChain and the LlamaIndex model; None: shown only.
        do: The worker's verb.
        route: The first part of the server's path.
        images: Size in bytes of each image in the request.
        form: How the caller holds the images: "message" (all in one), "conversation" (one a turn), "file" (on disk,
            read in each call) or "inputs" (of an embedding model).
        tls: Whether the server uses TLS.
        calls: Number of calls of a block; None: as many as fit its time.
        clock: "cpu" (the client's processor time) or "wall".
        chunks: Chunks of the streamed answer; 0: not streamed.
        ours_only: Whether no rival can do this.
    """

    name: str
    title: str
    targets: tuple[float, float] | None = None
    do: str = "ask"
    route: str = "plain"
    images: tuple[int, ...] = ()
    form: str = "message"
    tls: bool = False
    calls: int | None = None
    clock: str = "cpu"
    chunks: int = 0
    ours_only: bool = False


TURNS = (1, 10, 20, 40)
EMBEDDED = (60 * KB,) * 1000

ROWS = [
    Row("text", "text call", (1.7, 1.5)),
    Row("text-async", "text call, async", (1.6, 1.4), do="aask"),
    Row("100KB", "100 KB image", (2.0, 1.7), images=(100 * KB,)),
    Row("10MB", "10 MB image", (2.0, 1.8), images=(10 * MB,)),
    Row("10MB-tls", "10 MB image over TLS", (1.6, 1.5), images=(10 * MB,), tls=True),
    Row("10MB-async", "10 MB image, async", (2.0, 1.8), do="aask", images=(10 * MB,)),
    Row("8x1MB", "8 images of 1 MB", (2.8, 2.4), images=(MB,) * 8),
    Row("10MB-file", "10 MB image from a file on disk", (2.5, 2.5), do="ask_file", images=(10 * MB,), form="file"),
    *(
        Row(
            f"turn-{turn}",
            f"turn {turn} of a conversation with a new 200 KB image a turn",
            (2.0, 1.5),
            images=(200 * KB,) * turn,
            form="conversation",
        )
        for turn in TURNS
    ),
    Row(
        "256-at-once",
        "256 async calls at once, 100 KB, server waits 50 ms (wall)",
        (1.0, 1.0),
        do="burst",
        route="wait-50",
        images=(100 * KB,),
        calls=256,
        clock="wall",
    ),
    Row(
        "embed",
        "1,000 images of 60 KB embedded, server waits 50 ms (wall)",
        (1.2, 1.2),
        do="embed",
        route="embed-50",
        images=EMBEDDED,
        form="inputs",
        calls=1,
        clock="wall",
        ours_only=True,
    ),
    Row(
        "embed-async",
        "1,000 images of 60 KB embedded, async, server waits 50 ms (wall)",
        (1.2, 1.2),
        do="aembed",
        route="embed-50",
        images=EMBEDDED,
        form="inputs",
        calls=1,
        clock="wall",
        ours_only=True,
    ),
    Row("chunk", "streamed chunk", (3.0, 3.0), do="stream", route=f"stream-{CHUNKS}", chunks=CHUNKS),
    Row("chunk-async", "streamed chunk, async", do="astream", route=f"stream-{CHUNKS}", chunks=CHUNKS),
]
ROW = {row.name: row for row in ROWS}

IMPORT_TARGET = 1.25
ANOTHER_TARGET = 0.1
"""Milliseconds."""
MEMORY_TARGETS = {"langchain": 0.2, "llama-index": 0.2, "langchain-base64": 1.5}
MEMORY = Row("memory", "peak memory of a 10 MB image call", images=(10 * MB,))
OTHERS = ("another", "memory", "import", "uplink", "sizes", "at-once", "floors")
"""What is measured in addition to the rows."""

SIZES = (1 * KB, 8 * KB, 32 * KB, 128 * KB, 512 * KB, 2 * MB, 8 * MB, 32 * MB)
AT_ONCE = (1, 4, 16, 64, 128, 256, 512)
UPLINK = 10_000_000
"""Bits a second of the simulated uplink."""


def of_size(size: int) -> Row:
    """A call with one image of so many bytes."""
    return Row(f"{size} bytes", f"an image of {size} bytes", images=(size,))


def at_once(calls: int) -> Row:
    """So many calls at once, as in the row of 256."""
    return dataclasses.replace(ROW["256-at-once"], name=f"{calls} at once", calls=calls, targets=None)
