"""The switches in docs/deployment.md hide images from tracers. Each case runs in a process of its own, because tracers
patch the frameworks and read their environment variables once."""

from __future__ import annotations

import http.server
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from predictionguard_core import Image
from predictionguard_core.sandbox import Sandbox

pytestmark = pytest.mark.slow

PHOTO = Path(__file__).parents[2] / "notebooks" / "photos" / "cat.jpg"
PART_OF_THE_IMAGE = Image.open(PHOTO).data_uri[400:440]
QUESTION = "Describe this image."
ASK_LANGCHAIN = f"""
from langchain_predictionguard import ChatPredictionGuard, Image
content = [{{"type": "text", "text": {QUESTION!r}}}, Image.open({str(PHOTO)!r}).block()]
ChatPredictionGuard("Qwen2.5-VL-7B-Instruct").invoke([{{"role": "user", "content": content}}])
"""
ASK_LLAMA_INDEX = f"""
from pathlib import Path
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index_predictionguard import PredictionGuard
blocks = [TextBlock(text={QUESTION!r}), ImageBlock(image=Path({str(PHOTO)!r}).read_bytes())]
PredictionGuard("Qwen2.5-VL-7B-Instruct").chat([ChatMessage(role="user", blocks=blocks)])
"""
OPENINFERENCE = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from openinference.instrumentation.{framework} import {name}Instrumentor
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
{name}Instrumentor().instrument(tracer_provider=provider)
{ask}
for span in exporter.get_finished_spans():
    print(dict(span.attributes))
"""


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with Sandbox() as box:
        yield {**os.environ, "PREDICTIONGUARD_API_KEY": "any", "PREDICTIONGUARD_URL": box.url}


def run(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not importlib.util.find_spec("openinference"), reason="needs the group recipes")
@pytest.mark.parametrize(
    ("framework", "name", "ask"),
    [("langchain", "LangChain", ASK_LANGCHAIN), ("llama_index", "LlamaIndex", ASK_LLAMA_INDEX)],
    ids=["LangChain", "LlamaIndex"],
)
def test_openinference(framework: str, name: str, ask: str, environment: dict[str, str]) -> None:
    code = OPENINFERENCE.format(framework=framework, name=name, ask=ask)
    shown = run(code, environment)
    assert QUESTION in shown
    assert PART_OF_THE_IMAGE in shown
    assert PART_OF_THE_IMAGE in run(code, {**environment, "OPENINFERENCE_HIDE_INPUT_IMAGES": "true"})
    hidden = run(code, {**environment, "OPENINFERENCE_HIDE_INPUTS": "true"})
    assert "llm.token_count.total" in hidden
    assert PART_OF_THE_IMAGE not in hidden


class LangSmith(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize("hide", ["false", "true"])
def test_langsmith(hide: str, environment: dict[str, str]) -> None:
    handler = type("Handler", (LangSmith,), {"bodies": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        switches = {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": "any",
            "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "LANGSMITH_HIDE_INPUTS": hide,
        }
        wait = "from langchain_core.tracers.langchain import wait_for_all_tracers\nwait_for_all_tracers()"
        run(f"{ASK_LANGCHAIN}\n{wait}", {**environment, **switches})
        server.shutdown()
    sent = b"".join(handler.bodies).decode("latin-1")
    assert "ChatPredictionGuard" in sent
    assert (PART_OF_THE_IMAGE in sent) == (hide == "false")
