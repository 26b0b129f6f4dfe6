"""every async entry point, with a picture from every kind of source.

    python -W error -X dev -m tests.images_end_to_end.async_calls

asks by each of them in a process of its own, and prints what held up the loop or was warned of.
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
    warnings.simplefilter("ignore")  # what the frameworks have to say of themselves while they are imported
    import pytest
    from llama_index.core.llms import ImageBlock
    from PIL import Image

    from langchain_predictionguard import PredictionGuardEmbeddings
    from predictionguard_core import ImagePolicy
    from predictionguard_core.sandbox import Sandbox
    from tests.image_helpers import pdf
    from tests.images_end_to_end import entry_points, loop_watch

TURNED = Image.Exif()
TURNED[0x0112] = 6
PHONE = entry_points.encoded(
    Image.radial_gradient("L").convert("RGB").resize((640, 480)), "JPEG", exif=TURNED.tobytes()
)
BMP = entry_points.encoded(Image.linear_gradient("L").resize((300, 200)), "BMP")
PDF = pdf(Image.new("RGB", (144, 72), "red"), Image.new("RGB", (72, 72), "blue"))
PICTURES = {"png": entry_points.PNG, "phone": PHONE, "bmp": BMP, "pdf": PDF}
KINDS = ("path", "url", "data URI", "base64", "bytes", "open file")


def given(wing: str, kind: str, data: bytes, folder: Path, host: str) -> Any:
    """The picture as this wing takes it from this kind of source; None where it takes none of it."""
    path = folder / "picture"
    path.write_bytes(data)
    host += data[:3].hex()
    _SERVED[data[:3].hex()] = data
    text = {"path": str(path), "url": host, "data URI": entry_points.uri(data)}.get(kind)
    match wing:
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
        case "embeddings" if data is not PDF:  # a PDF is several pictures
            return {"path": path, "bytes": data, "open file": io.BytesIO(data)}.get(
                kind, text or base64.b64encode(data).decode()
            )
    return None


async def _ainvoke(box: Sandbox, policy: ImagePolicy, picture: Any) -> None:
    await entry_points.chat_model(box, policy).ainvoke(entry_points.langchain_messages(picture))


async def _astream(box: Sandbox, policy: ImagePolicy, picture: Any) -> None:
    async for _ in entry_points.chat_model(box, policy).astream(entry_points.langchain_messages(picture)):
        pass


async def _achat(box: Sandbox, policy: ImagePolicy, picture: Any) -> None:
    await entry_points.llm(box, policy).achat(entry_points.llama_index_messages(picture))


async def _astream_chat(box: Sandbox, policy: ImagePolicy, picture: Any) -> None:
    async for _ in await entry_points.llm(box, policy).astream_chat(entry_points.llama_index_messages(picture)):
        pass


async def _aembed_images(box: Sandbox, policy: ImagePolicy, picture: Any) -> None:
    await PredictionGuardEmbeddings(entry_points.EMBEDS, **entry_points.options(box, policy)).aembed_images([picture])


Ask = Callable[[Sandbox, ImagePolicy, Any], Awaitable[None]]
ASKS: dict[str, tuple[str, Ask]] = {
    "ainvoke": ("langchain", _ainvoke),
    "astream": ("langchain", _astream),
    "achat": ("llama_index", _achat),
    "astream_chat": ("llama_index", _astream_chat),
    "aembed_images": ("embeddings", _aembed_images),
}

_SERVED: dict[str, bytes] = {}


class Host:
    """A web server on this machine with the pictures."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = _SERVED[self.path.strip("/")]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing waits for all
        self._thread = threading.Thread(target=functools.partial(self._server.serve_forever, 0.02))
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def policy(folder: Path, **more: Any) -> ImagePolicy:
    return ImagePolicy(local_roots=[folder], allow_private_hosts=True, **more)


async def _all(box: Sandbox, folder: Path, host: str) -> None:
    # How long a step took is no part of this: that depends on the machine.
    asyncio.get_running_loop().slow_callback_duration = float("inf")
    for wing, ask in ASKS.values():
        for kind in KINDS:
            for data in PICTURES.values():
                picture = await asyncio.to_thread(given, wing, kind, data, folder, host)
                if picture is not None:
                    await ask(box, policy(folder, max_edge=100, strip_metadata=True), picture)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Sandbox() as box, Host() as host:
        with pytest.MonkeyPatch.context() as patch:
            found = loop_watch.watch(patch)
            asyncio.run(_all(box, Path(name).resolve(), host))
        for each in found:
            sys.stderr.write(f"{each}\n")
        sys.stdout.write(f"{len(box.requests)} requests\n")


if __name__ == "__main__":
    main()
