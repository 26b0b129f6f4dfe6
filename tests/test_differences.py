"""How this project differs from the general OpenAI clients: the table in docs/migrating.md, row by row, and more.

Both sides talk to the sandbox or a fault server over a real socket. The general clients are pinned in pyproject.toml
(group `compared`), so that the table is true for known versions.
"""

from __future__ import annotations

import base64
import copy
import importlib.metadata
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from PIL import Image

from langchain_predictionguard import ChatPredictionGuard
from langchain_predictionguard import PIIDetectedError as LangChainPIIDetectedError
from llama_index_predictionguard import PredictionGuard
from predictionguard_core import AuthenticationError, ImageError, PIIDetectedError, StreamInterruptedError
from predictionguard_core.sandbox import Sandbox
from tests.faults.server import FaultServer, event_stream
from tests.image_helpers import serve_publicly

langchain_openai = pytest.importorskip("langchain_openai")
openai_like = pytest.importorskip("llama_index.llms.openai_like")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
VISION = "Qwen2.5-VL-7B-Instruct"
KEY = "sk-secret-of-the-tests"
# A stream without finish reason and [DONE] that ends correctly as far as HTTP is concerned.
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
INTERRUPTED = event_stream({**CHUNK, "choices": [{"index": 0, "delta": {"content": "Half of"}, "finish_reason": None}]})
TEXT_RESPONSE = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "A lamp."}],
}

# The rows of the table in docs/migrating.md, and the tests of each.
ROWS = {
    "an image URL": "TestURL",
    "base64 without a mime type": "TestBase64",
    "a PNG named `.jpg`": "TestType",
    "a block that names `/etc/passwd`": "TestFiles",
    "a phone photo held upright": "TestUpright",
    "streaming about an image": "TestStreaming",
    "an image in a tool result": "TestToolResult",
    "a stream that stops early": "TestInterruptedStream",
    '"pii detected"': "TestChecks",
    "a response with `text` instead of `message`": "TestTextResponse",
    "the key": "TestKey",
}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def cat(photos: Path) -> bytes:
    return (photos / "cat.jpg").read_bytes()


def ours(url: str) -> tuple[ChatPredictionGuard, PredictionGuard]:
    options: dict[str, Any] = {"api_key": KEY, "base_url": url, "max_retries": 0}
    return ChatPredictionGuard(VISION, **options), PredictionGuard(VISION, **options)


def openai_clients(url: str) -> tuple[Any, Any]:
    chat = langchain_openai.ChatOpenAI(model=VISION, api_key=KEY, base_url=url, max_retries=0)
    facts = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 16_384}
    return chat, openai_like.OpenAILike(model=VISION, api_key=KEY, api_base=url, max_retries=0, **facts)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def lc_messages(block: dict[str, Any]) -> list[HumanMessage]:
    return [HumanMessage([{"type": "text", "text": "What is this?"}, block])]


def li_messages(**image: Any) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(**image)])]


def sent_urls(box: Sandbox) -> list[str]:
    """Return the URL of each image in the last request."""
    found = []
    for message in box.requests[-1]["messages"]:
        parts = message["content"] if isinstance(message["content"], list) else []
        found += [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return found


class TestURL:
    URL = "https://example.com/photo.jpg"

    def test_ours(self, box: Sandbox, cat: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        serve_publicly(monkeypatch, cat)
        chat, llm = ours(box.url)
        assert "451 x 300" in chat.invoke(lc_messages({"type": "image", "url": self.URL})).text
        assert sent_urls(box) == [f"data:image/jpeg;base64,{encoded(cat)}"]
        assert "451 x 300" in str(llm.chat(li_messages(url=self.URL)))

    def test_openai_clients(self, box: Sandbox) -> None:
        chat, llm = openai_clients(box.url)
        for ask in (
            lambda: chat.invoke(lc_messages({"type": "image", "url": self.URL})),
            lambda: llm.chat(li_messages(url=self.URL)),
        ):
            with pytest.raises(Exception, match="must be a data URI"):
                ask()


class TestBase64:
    def test_ours(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = ours(box.url)
        uri = f"data:image/jpeg;base64,{encoded(cat)}"
        for block in (
            {"type": "image", "base64": encoded(cat)},
            {"type": "image_url", "image_url": {"url": encoded(cat)}},
            {"type": "image_url", "image_url": uri},
        ):
            assert "451 x 300" in chat.invoke(lc_messages(block)).text
            assert sent_urls(box) == [uri]
        assert "451 x 300" in str(llm.chat(li_messages(image=encoded(cat).encode())))

    def test_openai_clients(self, box: Sandbox, cat: bytes) -> None:
        chat, _ = openai_clients(box.url)
        with pytest.raises(ValueError, match="mime_type"):
            chat.invoke(lc_messages({"type": "image", "base64": encoded(cat)}))
        with pytest.raises(Exception, match="must be a data URI"):
            chat.invoke(lc_messages({"type": "image_url", "image_url": {"url": encoded(cat)}}))
        with pytest.raises(Exception, match="must be an object"):
            chat.invoke(lc_messages({"type": "image_url", "image_url": f"data:image/jpeg;base64,{encoded(cat)}"}))


class TestType:
    @pytest.fixture
    def misnamed(self, tmp_path: Path) -> Path:
        path = tmp_path / "photo.jpg"
        Image.new("RGB", (8, 8)).save(path, "PNG")
        return path

    def test_ours(self, box: Sandbox, misnamed: Path) -> None:
        chat, llm = ours(box.url)
        block = {"type": "image", "base64": encoded(misnamed.read_bytes()), "mime_type": "image/jpeg"}
        chat.invoke(lc_messages(block))
        assert sent_urls(box)[0].startswith("data:image/png;")
        llm.chat(li_messages(path=misnamed))
        assert sent_urls(box)[0].startswith("data:image/png;")

    def test_openai_clients(self, box: Sandbox, misnamed: Path) -> None:
        chat, llm = openai_clients(box.url)
        chat.invoke(lc_messages({"type": "image", "base64": encoded(misnamed.read_bytes()), "mime_type": "image/jpeg"}))
        assert sent_urls(box)[0].startswith("data:image/jpeg;")
        llm.chat(li_messages(path=misnamed))
        assert sent_urls(box)[0].startswith("data:image/jpeg;")


class TestFiles:
    PATH = "/etc/passwd"

    def test_ours(self, box: Sandbox) -> None:
        chat, llm = ours(box.url)
        for ask in (
            lambda: chat.invoke(lc_messages({"type": "image", "url": self.PATH})),
            lambda: chat.invoke(lc_messages({"type": "image_url", "image_url": f"file://{self.PATH}"})),
            lambda: llm.chat(li_messages(path=self.PATH)),
            lambda: llm.chat(li_messages(url=f"file://{self.PATH}")),
            lambda: chat.invoke(lc_messages({"type": "image", "url": f"{box.url}/models"})),
            lambda: llm.chat(li_messages(url=f"{box.url}/models")),
        ):
            with pytest.raises(ImageError):
                ask()
        assert box.requests == []

    def test_openai_clients(self, box: Sandbox) -> None:
        _, llm = openai_clients(box.url)
        with pytest.raises(Exception, match="is not a JPEG"):
            llm.chat(li_messages(path=self.PATH))
        assert encoded(Path(self.PATH).read_bytes()) in sent_urls(box)[0]


class TestUpright:
    def test_ours(self, box: Sandbox, photos: Path) -> None:
        photo = (photos / "phone_portrait.jpg").read_bytes()
        chat, llm = ours(box.url)
        answers = [
            chat.invoke(lc_messages({"type": "image", "base64": encoded(photo)})).text,
            str(llm.chat(li_messages(image=photo))),
        ]
        for answer in answers:
            assert "480 x 640" in answer
            assert "not turned upright" not in answer

    def test_openai_clients(self, box: Sandbox, photos: Path) -> None:
        photo = (photos / "phone_portrait.jpg").read_bytes()
        chat, llm = openai_clients(box.url)
        block = {"type": "image", "base64": encoded(photo), "mime_type": "image/jpeg"}
        assert "not turned upright" in chat.invoke(lc_messages(block)).text
        assert "not turned upright" in str(llm.chat(li_messages(image=photo)))


class TestStreaming:
    def test_ours(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = ours(box.url)
        chunks = [
            chunk for chunk in chat.stream(lc_messages({"type": "image", "base64": encoded(cat)})) if chunk.content
        ]
        assert len(chunks) == 1
        assert "451 x 300" in str(chunks[0].content)
        assert ["451 x 300" in str(chunk) for chunk in llm.stream_chat(li_messages(image=cat))] == [True]
        assert not any(request.get("stream") for request in box.requests)

    def test_openai_clients(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = openai_clients(box.url)
        block = {"type": "image", "base64": encoded(cat), "mime_type": "image/jpeg"}
        for ask in (
            lambda: list(chat.stream(lc_messages(block))),
            lambda: list(llm.stream_chat(li_messages(image=cat))),
        ):
            with pytest.raises(Exception, match="not currently supported"):
                ask()


class TestToolResult:
    CALL = {"id": "1", "type": "function", "function": {"name": "photo", "arguments": "{}"}}

    def in_langchain(self, chat: Any, cat: bytes) -> str:
        call = AIMessage("", tool_calls=[{"name": "photo", "args": {}, "id": "1"}])
        image = {"type": "image", "base64": encoded(cat), "mime_type": "image/jpeg"}
        result = ToolMessage([{"type": "text", "text": "Done."}, image], tool_call_id="1")
        return str(chat.invoke([HumanMessage("Take a photo."), call, result]).text)

    def in_llama_index(self, llm: Any, cat: bytes) -> str:
        call = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [self.CALL]})
        blocks = [TextBlock(text="Done."), ImageBlock(image=cat)]
        result = ChatMessage(role="tool", blocks=blocks, additional_kwargs={"tool_call_id": "1"})
        return str(llm.chat([ChatMessage(role="user", content="Take a photo."), call, result]))

    def test_ours(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = ours(box.url)
        for answer in (self.in_langchain(chat, cat), self.in_llama_index(llm, cat)):
            assert "451 x 300" in answer
            roles = [message["role"] for message in box.requests[-1]["messages"]]
            assert roles == ["user", "assistant", "tool", "user"]

    def test_openai_clients(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = openai_clients(box.url)
        with pytest.raises(Exception, match="not supported in messages of role tool"):
            self.in_langchain(chat, cat)
        assert "451 x 300" not in self.in_llama_index(llm, cat)
        assert sent_urls(box) == []


class TestInterruptedStream:
    def test_ours(self) -> None:
        with FaultServer(INTERRUPTED) as server:
            chat, llm = ours(server.url)
            for ask in (lambda: list(chat.stream("x")), lambda: list(llm.stream_complete("x"))):
                with pytest.raises(StreamInterruptedError):
                    ask()

    def test_openai_clients(self) -> None:
        with FaultServer(INTERRUPTED) as server:
            chat, llm = openai_clients(server.url)
            assert "".join(str(chunk.content) for chunk in chat.stream("x")) == "Half of"
            assert [chunk.text for chunk in llm.stream_complete("x")][-1] == "Half of"


class TestUsage:
    def test_ours(self, box: Sandbox) -> None:
        chat, llm = ours(box.url)
        counted = [chunk.usage_metadata for chunk in chat.stream("Hello") if chunk.usage_metadata]
        assert [usage["total_tokens"] > 0 for usage in counted] == [True]
        assert list(llm.stream_complete("Hello"))[-1].additional_kwargs["total_tokens"] > 0

    def test_openai_clients(self, box: Sandbox) -> None:
        chat, llm = openai_clients(box.url)
        assert [chunk.usage_metadata for chunk in chat.stream("Hello") if chunk.usage_metadata] == []
        last = list(llm.stream_complete("Hello"))[-1]
        assert last.raw is None or getattr(last.raw, "usage", None) is None
        assert all("stream_options" not in request for request in box.requests)


class TestChecks:
    WORDS = "Write to ann@example.com."

    def test_ours(self, box: Sandbox) -> None:
        chat, llm = ours(box.url)
        for ask, kind in (
            (lambda: chat.invoke(self.WORDS, input_checks={"pii": "block"}), LangChainPIIDetectedError),
            (lambda: llm.complete(self.WORDS, input_checks={"pii": "block"}), PIIDetectedError),
        ):
            with pytest.raises(kind) as caught:
                ask()
            assert caught.value.message == "pii detected"

    def test_openai_clients(self, box: Sandbox) -> None:
        chat, llm = openai_clients(box.url)
        checks = {"input": {"pii": "block"}}
        kinds = []
        for ask in (
            lambda: chat.invoke(self.WORDS, extra_body=checks),
            lambda: chat.invoke("x", temperature=9),
            lambda: llm.complete(self.WORDS, extra_body=checks),
            lambda: llm.complete("x", temperature=9),
        ):
            with pytest.raises(Exception, match="Error code: 400") as caught:
                ask()
            kinds.append(type(caught.value))
        # The class is the same as for any other invalid request.
        assert kinds[0] is kinds[1]
        assert kinds[2] is kinds[3]


class TestTextResponse:
    def test_ours(self, box: Sandbox) -> None:
        box.fail(200, body=TEXT_RESPONSE, times=2)
        chat, llm = ours(box.url)
        assert chat.invoke("x").text == "A lamp."
        assert llm.chat([ChatMessage(role="user", content="x")]).message.content == "A lamp."

    def test_openai_clients(self, box: Sandbox) -> None:
        box.fail(200, body=TEXT_RESPONSE, times=2)
        chat, llm = openai_clients(box.url)
        for ask in (lambda: chat.invoke("x"), lambda: llm.chat([ChatMessage(role="user", content="x")])):
            with pytest.raises(AttributeError):
                ask()


class TestCopies:
    def test_ours(self, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "another")
        for model in ours(box.url):
            pickled = pickle.dumps(model)
            assert KEY.encode() not in pickled
            for each in (pickle.loads(pickled), copy.deepcopy(model)):
                assert each.invoke("x").text if isinstance(each, ChatPredictionGuard) else each.complete("x").text

    @pytest.mark.filterwarnings("ignore")
    def test_openai_clients(self, box: Sandbox) -> None:
        chat, llm = openai_clients(box.url)
        chat.invoke("x"), llm.complete("x")
        for fails in (lambda: pickle.dumps(chat), lambda: copy.deepcopy(chat), lambda: copy.deepcopy(llm)):
            with pytest.raises(TypeError, match="cannot pickle"):
                fails()
        assert KEY.encode() in pickle.dumps(llm)


class TestKey:
    def test_ours(self, box: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
        chat, llm = ours(box.url)
        for text in (repr(chat), str(chat.model_dump()), chat.model_dump_json(), repr(llm), str(llm.to_dict())):
            assert KEY not in text
        assert KEY not in str(llm.model_dump())
        box.fail(403, f"{KEY} is not valid", times=2)
        with caplog.at_level("DEBUG"):
            for ask in (lambda: chat.invoke("x"), lambda: llm.complete("x")):
                with pytest.raises(AuthenticationError) as caught:
                    ask()
                assert KEY not in str(caught.value)
        assert "predictionguard_core" in caplog.text
        assert KEY not in caplog.text

    def test_openai_clients(self, box: Sandbox) -> None:
        _, llm = openai_clients(box.url)
        for text in (repr(llm), str(llm.to_dict()), str(llm.model_dump())):
            assert KEY in text


class TestTable:
    PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")

    def test_each_row_has_a_pair_of_tests(self) -> None:
        table = self.PAGE.partition("| | here | OpenAI clients |")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| ([^|]+?) \| [^|]+\| [^|]+\|$", table, re.MULTILINE)
        assert rows == list(ROWS)
        for test in ROWS.values():
            assert {"test_ours", "test_openai_clients"} <= vars(globals()[test]).keys()

    def test_versions_are_the_tested_ones(self) -> None:
        for name in ("langchain-openai", "llama-index-llms-openai-like"):
            assert f"`{name}` {importlib.metadata.version(name)}" in self.PAGE
