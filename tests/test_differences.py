"""The README's table of what is different here, row by row: what this project does, and what the general clients do.

Both sides talk to the sandbox, or to a server that answers as the row says, over a real socket. The general clients are
pinned (pyproject.toml, group `compared`), so that a row is true of a version that can be named.
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
KEY = "sk-not-to-be-seen"
# A stream that ends without a finish reason and without [DONE], in good order as far as HTTP goes.
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CUT_OFF = event_stream({**CHUNK, "choices": [{"index": 0, "delta": {"content": "Half of"}, "finish_reason": None}]})
TEXT_REPLY = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "A lamp."}],
}

ROWS = {
    "An image URL": "TestURL",
    "Base64 without a mime type, or bare in `image_url`": "TestBase64",
    "A PNG named `.jpg`": "TestType",
    "A block or text that names `/etc/passwd`": "TestFiles",
    "A photo from a phone held upright": "TestUpright",
    "Streaming a question about a picture": "TestStreaming",
    "A picture in a tool's result": "TestToolResult",
    "A stream that stops short": "TestCutOff",
    "Token counts of a stream": "TestUsage",
    '"pii detected"': "TestChecks",
    "A reply with `text` in place of `message`": "TestTextReply",
    "`pickle`, `deepcopy`": "TestCopies",
    "The key": "TestKey",
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


def theirs(url: str) -> tuple[Any, Any]:
    chat = langchain_openai.ChatOpenAI(model=VISION, api_key=KEY, base_url=url, max_retries=0)
    facts = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 16_384}
    return chat, openai_like.OpenAILike(model=VISION, api_key=KEY, api_base=url, max_retries=0, **facts)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def asked(block: dict[str, Any]) -> list[HumanMessage]:
    return [HumanMessage([{"type": "text", "text": "What is this?"}, block])]


def shown(**picture: Any) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(**picture)])]


def sent(box: Sandbox) -> list[str]:
    """The address of each picture in what was sent last."""
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
        assert "451 x 300" in chat.invoke(asked({"type": "image", "url": self.URL})).text
        assert sent(box) == [f"data:image/jpeg;base64,{encoded(cat)}"]
        assert "451 x 300" in str(llm.chat(shown(url=self.URL)))

    def test_theirs(self, box: Sandbox) -> None:
        chat, llm = theirs(box.url)
        for ask in (
            lambda: chat.invoke(asked({"type": "image", "url": self.URL})),
            lambda: llm.chat(shown(url=self.URL)),
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
            assert "451 x 300" in chat.invoke(asked(block)).text
            assert sent(box) == [uri]
        assert "451 x 300" in str(llm.chat(shown(image=encoded(cat).encode())))

    def test_theirs(self, box: Sandbox, cat: bytes) -> None:
        chat, _ = theirs(box.url)
        with pytest.raises(ValueError, match="mime_type"):
            chat.invoke(asked({"type": "image", "base64": encoded(cat)}))
        with pytest.raises(Exception, match="must be a data URI"):
            chat.invoke(asked({"type": "image_url", "image_url": {"url": encoded(cat)}}))
        with pytest.raises(Exception, match="must be an object"):
            chat.invoke(asked({"type": "image_url", "image_url": f"data:image/jpeg;base64,{encoded(cat)}"}))


class TestType:
    @pytest.fixture
    def misnamed(self, tmp_path: Path) -> Path:
        path = tmp_path / "photo.jpg"
        Image.new("RGB", (8, 8)).save(path, "PNG")
        return path

    def test_ours(self, box: Sandbox, misnamed: Path) -> None:
        chat, llm = ours(box.url)
        block = {"type": "image", "base64": encoded(misnamed.read_bytes()), "mime_type": "image/jpeg"}
        chat.invoke(asked(block))
        assert sent(box)[0].startswith("data:image/png;")
        llm.chat(shown(path=misnamed))
        assert sent(box)[0].startswith("data:image/png;")

    def test_theirs(self, box: Sandbox, misnamed: Path) -> None:
        chat, llm = theirs(box.url)
        chat.invoke(asked({"type": "image", "base64": encoded(misnamed.read_bytes()), "mime_type": "image/jpeg"}))
        assert sent(box)[0].startswith("data:image/jpeg;")
        llm.chat(shown(path=misnamed))
        assert sent(box)[0].startswith("data:image/jpeg;")


class TestFiles:
    PATH = "/etc/passwd"

    def test_ours(self, box: Sandbox) -> None:
        chat, llm = ours(box.url)
        for ask in (
            lambda: chat.invoke(asked({"type": "image", "url": self.PATH})),
            lambda: chat.invoke(asked({"type": "image_url", "image_url": f"file://{self.PATH}"})),
            lambda: llm.chat(shown(path=self.PATH)),
            lambda: llm.chat(shown(url=f"file://{self.PATH}")),
            lambda: chat.invoke(asked({"type": "image", "url": f"{box.url}/models"})),
            lambda: llm.chat(shown(url=f"{box.url}/models")),
        ):
            with pytest.raises(ImageError):
                ask()
        assert box.requests == []

    def test_theirs(self, box: Sandbox) -> None:
        _, llm = theirs(box.url)
        with pytest.raises(Exception, match="is not a JPEG"):
            llm.chat(shown(path=self.PATH))
        assert encoded(Path(self.PATH).read_bytes()) in sent(box)[0]


class TestUpright:
    def test_ours(self, box: Sandbox, photos: Path) -> None:
        photo = (photos / "phone_portrait.jpg").read_bytes()
        chat, llm = ours(box.url)
        answers = [
            chat.invoke(asked({"type": "image", "base64": encoded(photo)})).text,
            str(llm.chat(shown(image=photo))),
        ]
        for answer in answers:
            assert "480 x 640" in answer
            assert "not turned upright" not in answer

    def test_theirs(self, box: Sandbox, photos: Path) -> None:
        photo = (photos / "phone_portrait.jpg").read_bytes()
        chat, llm = theirs(box.url)
        block = {"type": "image", "base64": encoded(photo), "mime_type": "image/jpeg"}
        assert "not turned upright" in chat.invoke(asked(block)).text
        assert "not turned upright" in str(llm.chat(shown(image=photo)))


class TestStreaming:
    def test_ours(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = ours(box.url)
        chunks = [chunk for chunk in chat.stream(asked({"type": "image", "base64": encoded(cat)})) if chunk.content]
        assert len(chunks) == 1
        assert "451 x 300" in str(chunks[0].content)
        assert ["451 x 300" in str(chunk) for chunk in llm.stream_chat(shown(image=cat))] == [True]
        assert not any(request.get("stream") for request in box.requests)

    def test_theirs(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = theirs(box.url)
        block = {"type": "image", "base64": encoded(cat), "mime_type": "image/jpeg"}
        for ask in (lambda: list(chat.stream(asked(block))), lambda: list(llm.stream_chat(shown(image=cat)))):
            with pytest.raises(Exception, match="not currently supported"):
                ask()


class TestToolResult:
    CALL = {"id": "1", "type": "function", "function": {"name": "photo", "arguments": "{}"}}

    def in_langchain(self, chat: Any, cat: bytes) -> str:
        call = AIMessage("", tool_calls=[{"name": "photo", "args": {}, "id": "1"}])
        picture = {"type": "image", "base64": encoded(cat), "mime_type": "image/jpeg"}
        result = ToolMessage([{"type": "text", "text": "Done."}, picture], tool_call_id="1")
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

    def test_theirs(self, box: Sandbox, cat: bytes) -> None:
        chat, llm = theirs(box.url)
        with pytest.raises(Exception, match="not supported in messages of role tool"):
            self.in_langchain(chat, cat)
        assert "451 x 300" not in self.in_llama_index(llm, cat)
        assert sent(box) == []


class TestCutOff:
    def test_ours(self) -> None:
        with FaultServer(CUT_OFF) as server:
            chat, llm = ours(server.url)
            for ask in (lambda: list(chat.stream("x")), lambda: list(llm.stream_complete("x"))):
                with pytest.raises(StreamInterruptedError):
                    ask()

    def test_theirs(self) -> None:
        with FaultServer(CUT_OFF) as server:
            chat, llm = theirs(server.url)
            assert "".join(str(chunk.content) for chunk in chat.stream("x")) == "Half of"
            assert [chunk.text for chunk in llm.stream_complete("x")][-1] == "Half of"


class TestUsage:
    def test_ours(self, box: Sandbox) -> None:
        chat, llm = ours(box.url)
        counted = [chunk.usage_metadata for chunk in chat.stream("Hello") if chunk.usage_metadata]
        assert [usage["total_tokens"] > 0 for usage in counted] == [True]
        assert list(llm.stream_complete("Hello"))[-1].additional_kwargs["total_tokens"] > 0

    def test_theirs(self, box: Sandbox) -> None:
        chat, llm = theirs(box.url)
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

    def test_theirs(self, box: Sandbox) -> None:
        chat, llm = theirs(box.url)
        checks = {"input": {"pii": "block"}}
        told = []
        for ask in (
            lambda: chat.invoke(self.WORDS, extra_body=checks),
            lambda: chat.invoke("x", temperature=9),
            lambda: llm.complete(self.WORDS, extra_body=checks),
            lambda: llm.complete("x", temperature=9),
        ):
            with pytest.raises(Exception, match="Error code: 400") as caught:
                ask()
            told.append(type(caught.value))
        # The same class as for any other bad request.
        assert told[0] is told[1]
        assert told[2] is told[3]


class TestTextReply:
    def test_ours(self, box: Sandbox) -> None:
        box.fail(200, body=TEXT_REPLY, times=2)
        chat, llm = ours(box.url)
        assert chat.invoke("x").text == "A lamp."
        assert llm.chat([ChatMessage(role="user", content="x")]).message.content == "A lamp."

    def test_theirs(self, box: Sandbox) -> None:
        box.fail(200, body=TEXT_REPLY, times=2)
        chat, llm = theirs(box.url)
        for ask in (lambda: chat.invoke("x"), lambda: llm.chat([ChatMessage(role="user", content="x")])):
            with pytest.raises(AttributeError):
                ask()


class TestCopies:
    def test_ours(self, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "another")
        for model in ours(box.url):
            pickled = pickle.dumps(model)
            assert KEY.encode() not in pickled
            for twin in (pickle.loads(pickled), copy.deepcopy(model)):
                assert twin.invoke("x").text if isinstance(twin, ChatPredictionGuard) else twin.complete("x").text

    @pytest.mark.filterwarnings("ignore")
    def test_theirs(self, box: Sandbox) -> None:
        chat, llm = theirs(box.url)
        chat.invoke("x"), llm.complete("x")
        for fails in (lambda: pickle.dumps(chat), lambda: copy.deepcopy(chat), lambda: copy.deepcopy(llm)):
            with pytest.raises(TypeError, match="cannot pickle"):
                fails()
        assert KEY.encode() in pickle.dumps(llm)


class TestKey:
    def test_ours(self, box: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
        chat, llm = ours(box.url)
        for shown_form in (repr(chat), str(chat.model_dump()), chat.model_dump_json(), repr(llm), str(llm.to_dict())):
            assert KEY not in shown_form
        assert KEY not in str(llm.model_dump())
        box.fail(403, f"{KEY} is not good here", times=2)
        with caplog.at_level("DEBUG"):
            for ask in (lambda: chat.invoke("x"), lambda: llm.complete("x")):
                with pytest.raises(AuthenticationError) as caught:
                    ask()
                assert KEY not in str(caught.value)
        assert "predictionguard_core" in caplog.text
        assert KEY not in caplog.text

    def test_theirs(self, box: Sandbox) -> None:
        _, llm = theirs(box.url)
        for shown_form in (repr(llm), str(llm.to_dict()), str(llm.model_dump())):
            assert KEY in shown_form


class TestTheTable:
    README = (ROOT / "README.md").read_text()

    def test_each_row_has_its_test_and_each_test_its_row(self) -> None:
        section = self.README.partition("## Why not an OpenAI client")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| ([^|]+?) \| [^|]+\| [^|]+\|$", section, re.MULTILINE)
        assert rows == list(ROWS)
        for test in ROWS.values():
            assert {"test_ours", "test_theirs"} <= vars(globals()[test]).keys()

    def test_it_names_the_versions_that_were_tried(self) -> None:
        for name in ("langchain-openai", "llama-index-llms-openai-like"):
            assert f"`{name}` {importlib.metadata.version(name)}" in self.README
