"""Every async entry point, with an image from every kind of source.

    python -W error -X dev -m tests.images_end_to_end.async_entry_points

calls each of them in one process, and prints blocking calls and warnings to stderr.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import sys
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # warnings of the frameworks while they are imported
    import pytest
    from llama_index.core.llms import ImageBlock
    from PIL import Image

    from langchain_predictionguard import PredictionGuardEmbeddings
    from predictionguard_core import ImagePolicy
    from predictionguard_core.sandbox import Sandbox
    from tests.image_helpers import pdf
    from tests.images_end_to_end import blocking_calls, entry_points

_ROTATED = Image.Exif()
_ROTATED[0x0112] = 6
PHONE = entry_points.encoded(
    Image.radial_gradient("L").convert("RGB").resize((640, 480)), "JPEG", exif=_ROTATED.tobytes()
)
BMP = entry_points.encoded(Image.linear_gradient("L").resize((300, 200)), "BMP")
PDF = pdf(Image.new("RGB", (144, 72), "red"), Image.new("RGB", (72, 72), "blue"))
IMAGES = {"png": entry_points.PNG, "phone": PHONE, "bmp": BMP, "pdf": PDF}
KINDS = ("path", "url", "data URI", "base64", "bytes", "open file")
_SERVED: dict[str, bytes] = {}


def source(adapter: str, kind: str, data: bytes, folder: Path, host: str) -> Any:
    """Return the image as this kind of source, in the form that the adapter takes; None if it takes none."""
    path = folder / "image"
    path.write_bytes(data)
    host += data[:3].hex()
    _SERVED[data[:3].hex()] = data
    text = {"path": str(path), "url": host, "data URI": entry_points.uri(data)}.get(kind)
    match adapter:
        case "langchain" if text:
            return {"type": "file" if data is PDF else "image", "url": text}
        case "langchain" if kind == "base64":
            return {"type": "file" if data is PDF else "image", "base64": base64.b64encode(data).decode()}
        case "llama_index":
            fields: dict[str, Any] = {
                "path": {"path": path},
                "url": {"url": text},
                "data URI": {"url": text},
                "base64": {"image": base64.b64encode(data)},
                "bytes": {"image": data},
                "open file": {"image": io.BytesIO(data)},
            }
            return ImageBlock(**fields[kind])
        case "embeddings" if data is not PDF:  # a PDF may have several pages
            return {"path": path, "bytes": data, "open file": io.BytesIO(data)}.get(
                kind, text or base64.b64encode(data).decode()
            )
    return None


async def _ainvoke(box: Sandbox, policy: ImagePolicy, image: Any) -> None:
    await entry_points.chat_model(box, policy).ainvoke(entry_points.langchain_messages(image))


async def _astream(box: Sandbox, policy: ImagePolicy, image: Any) -> None:
    async for _ in entry_points.chat_model(box, policy).astream(entry_points.langchain_messages(image)):
        pass


async def _achat(box: Sandbox, policy: ImagePolicy, image: Any) -> None:
    await entry_points.llm(box, policy).achat(entry_points.llama_index_messages(image))


async def _astream_chat(box: Sandbox, policy: ImagePolicy, image: Any) -> None:
    async for _ in await entry_points.llm(box, policy).astream_chat(entry_points.llama_index_messages(image)):
        pass


async def _aembed_images(box: Sandbox, policy: ImagePolicy, image: Any) -> None:
    await PredictionGuardEmbeddings(entry_points.EMBEDS, **entry_points.options(box, policy)).aembed_images([image])


Call = Callable[[Sandbox, ImagePolicy, Any], Awaitable[None]]
ASYNC_ENTRY_POINTS: dict[str, tuple[str, Call]] = {
    "ainvoke": ("langchain", _ainvoke),
    "astream": ("langchain", _astream),
    "achat": ("llama_index", _achat),
    "astream_chat": ("llama_index", _astream_chat),
    "aembed_images": ("embeddings", _aembed_images),
}


class Host:
    """Context manager: a web server on loopback with the images."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = _SERVED[self.path.strip("/")]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing waits for all of them
        self._thread = threading.Thread(target=functools.partial(self._server.serve_forever, 0.02))
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def policy(folder: Path, **more: Any) -> ImagePolicy:
    return ImagePolicy(local_roots=[folder], allow_private_hosts=True, **more)


async def call_with_every_source(entry_point: str, box: Sandbox, folder: Path, host: str) -> int:
    """Call an async entry point with every image from every source it takes. Return the number of calls."""
    count = 0
    adapter, call = ASYNC_ENTRY_POINTS[entry_point]
    for kind in KINDS:
        for data in IMAGES.values():
            image = await asyncio.to_thread(source, adapter, kind, data, folder, host)
            if image is not None:
                await call(box, policy(folder, max_edge=100, strip_metadata=True), image)
                count += 1
    return count


async def _call_all(box: Sandbox, folder: Path, host: str) -> None:
    # A slow machine is no fault.
    asyncio.get_running_loop().slow_callback_duration = float("inf")
    for entry_point in ASYNC_ENTRY_POINTS:
        await call_with_every_source(entry_point, box, folder, host)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Sandbox() as box, Host() as host:
        with pytest.MonkeyPatch.context() as patch:
            found = blocking_calls.record(patch)
            asyncio.run(_call_all(box, Path(name).resolve(), host))
        for each in found:
            sys.stderr.write(f"{each}\n")
        sys.stdout.write(f"{len(box.requests)} requests\n")


if __name__ == "__main__":
    main()
