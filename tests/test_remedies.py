"""Frequent mistakes: the error of each says what to do."""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from llama_index.core.llms import ChatMessage as LlamaMessage
from llama_index.core.llms import ImageBlock

from langchain_predictionguard import ChatPredictionGuard, PredictionGuardEmbeddings
from langchain_predictionguard.middleware import PredictionGuardMiddleware
from llama_index_predictionguard import (
    PredictionGuard,
    PredictionGuardEmbedding,
    PredictionGuardMultiModal,
    PredictionGuardRerank,
)
from predictionguard_core import (
    ChatRequest,
    Client,
    ConfigurationError,
    ContentError,
    Image,
    ImagePolicy,
    InputChecks,
    PredictionGuardError,
)
from predictionguard_core.sandbox import Sandbox
from tests.faults.server import unused_port

VISION, EMBEDDING = "Qwen2.5-VL-7B-Instruct", "bridgetower-large-itm-mlm-itc"
CAT = Path(__file__).parents[1] / "notebooks" / "photos" / "cat.jpg"
SVG = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'></svg>").decode()


@pytest.fixture
def account(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key")
    monkeypatch.setenv("PREDICTIONGUARD_URL", sandbox.url)
    return sandbox


class AsyncFile:
    """Like aiofiles' and Starlette's."""

    async def seekable(self) -> bool:
        return True

    async def read(self, size: int = -1) -> bytes:
        return b""


def _closed() -> Any:
    with open(CAT, "rb") as file:
        return file


def chat(**options: Any) -> ChatPredictionGuard:
    return ChatPredictionGuard(**{"model": VISION, "max_retries": 0, **options})


def ask_with(**image: Any) -> Any:
    return chat().invoke([{"role": "user", "content": [{"type": "image", **image}]}])


SETTINGS: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: ChatPredictionGuard(), "python -m predictionguard_core models"),
    "an empty model": (lambda: PredictionGuard(""), "python -m predictionguard_core models"),
    "a model that is no text": (lambda: PredictionGuard(model=None), "must be the name of a model"),
    "no model, LlamaIndex": (lambda: PredictionGuard(), "python -m predictionguard_core models"),
    "no model, to rerank": (lambda: PredictionGuardRerank(), "python -m predictionguard_core models"),
    "a misspelt option": (lambda: chat(temprature=1), "did you mean temperature?"),
    "a misspelt option of LlamaIndex's": (lambda: PredictionGuard(VISION, max_token=1), "did you mean max_tokens?"),
    "a misspelt option of a call": (lambda: chat().invoke("x", max_completion_token=1), "did you mean"),
    "a misspelt option of a request": (lambda: ChatRequest(model="m", messages="x", topp=1), "did you mean top_p?"),
    "an option of somebody else's": (lambda: chat(organization="x"), "organization: there is no such option"),
    "a misspelt check": (lambda: chat(input_checks={"PII": "block"}), "did you mean pii?"),
    "a misspelt option of a call, under its own name": (lambda: chat().invoke("x", input_check={}), "input_checks?"),
    "a model's option, in a call": (lambda: chat().invoke("x", timeout=3), "when creating the model"),
    "the other side's check": (lambda: chat(output_checks={"pii": "block"}), "there are toxicity, factuality"),
    "a check that there is not": (
        lambda: InputChecks(pii="mask"),
        "input_checks.pii must be 'block' or 'replace', got 'mask'",
    ),
    "a check that there is not, LlamaIndex": (
        lambda: PredictionGuard(VISION, input_checks={"pii": "mask"}),
        "input_checks.pii must be 'block' or 'replace', got 'mask'",
    ),
    "a number that is too small": (lambda: chat(max_tokens=0), "max_tokens must be at least 1, got 0"),
    "a number that is too large": (lambda: PredictionGuard(VISION, temperature=3), "must be at most 2, got 3"),
    "a number as a word": (lambda: chat(temperature="hot"), "temperature must be a number, got str"),
    "an unknown image option": (lambda: chat(images={"max_size": 1}), "did you mean 'max_pixels'?"),
    "an unknown image option, LlamaIndex": (
        lambda: PredictionGuard(VISION, images={"max_size": 1}),
        "ImagePolicy has no option 'max_size'; did you mean 'max_pixels'?",
    ),
    "an unknown image option, as an argument": (
        lambda: ImagePolicy(max_egde=1),  # type: ignore[call-arg]
        "ImagePolicy has no option 'max_egde'; did you mean 'max_edge'?",
    ),
    "a misspelt option of the core's client": (
        lambda: Client(api_kye="x"),  # type: ignore[call-arg]
        "Client has no option 'api_kye'; did you mean 'api_key'?",
    ),
    "a text in place of a request": (
        lambda: Client().chat("hi"),  # type: ignore[arg-type]
        "expected a ChatRequest, got 'hi'. Pass ChatRequest(model=..., messages=...)",
    ),
    "messages in place of a request": (
        lambda: next(Client().stream([{"role": "user", "content": "hi"}])),  # type: ignore[arg-type]
        "expected a ChatRequest, got list. Pass ChatRequest(model=..., messages=...)",
    ),
    "a text in place of a request for vectors": (
        lambda: Client().embed("hi"),  # type: ignore[arg-type]
        "Pass EmbeddingRequest(model=..., input=...)",
    ),
    "one root": (lambda: chat(images={"local_roots": "/tmp"}), "ImagePolicy.local_roots must be a list"),
    "one root, typed": (lambda: ImagePolicy(local_roots="/tmp"), "must be a list"),
    "a bad stop": (lambda: chat().invoke("x", stop=3), "stop must be a string, got 3"),
    "the header, not the key": (lambda: chat(api_key="Bearer abc"), "without quotes or 'Bearer'"),
    "quotes about the key": (lambda: chat(api_key="'abc'"), "without quotes or 'Bearer'"),
    "an endpoint, not the base URL": (lambda: chat(base_url="http://x/v1/chat/completions/"), "leave it out"),
    "the key of the documentation": (lambda: chat(api_key="..."), "the API key is the placeholder '...'; set"),
    "no scheme": (lambda: chat(base_url="localhost:8080"), "https://api.predictionguard.com, got localhost:8080"),
    "a misspelt scheme": (lambda: chat(base_url="htp://api.example.com/v1"), "got htp://api.example.com; check"),
    "a URL with a query": (lambda: chat(base_url="http://x?a=1"), "leave out ? or # and what follows"),
    "a positional option": (lambda: ChatPredictionGuard(VISION, "key"), "such as api_key="),  # type: ignore[call-arg]
    "a positional option, LlamaIndex": (lambda: PredictionGuard(VISION, "key"), "such as api_key="),  # type: ignore[call-arg]
    "vLLM's option": (lambda: chat(repetition_penalty=1), "in extra_body={...}"),
    "vLLM's option, LlamaIndex": (lambda: PredictionGuard(VISION, seed=1), "in additional_kwargs={...}"),
    "another integration's URL": (lambda: chat(endpoint="http://x"), "use base_url"),
    "another integration's key": (lambda: PredictionGuard(VISION, token="x"), "use api_key"),
    "a system prompt": (lambda: chat(system_prompt="x"), "put a system message first"),
    "streaming, LlamaIndex": (lambda: PredictionGuard(VISION, streaming=True), "call stream_chat or stream_complete"),
    "OpenAILike's option": (lambda: PredictionGuard(VISION, is_chat_model=True), "leave it out"),
    "an option that embeddings do not have": (
        lambda: PredictionGuardEmbeddings(EMBEDDING, batchsize=1),
        "there are model, ",
    ),
    "a class without fields": (lambda: chat().with_structured_output(AsyncFile), "Derive it from pydantic.BaseModel"),
    "a type of one value": (lambda: chat().with_structured_output(int), "a pydantic class"),
    "a switch as a word": (lambda: PredictionGuardMiddleware(check_input="no"), "must be True or False, got 'no'"),  # type: ignore[arg-type]
    "an image by its constructor": (lambda: Image("cat.jpg"), "call Image.open(...)"),  # type: ignore[arg-type]
    "no such capability": (lambda: chat().list_models("vision"), "chat-with-image"),
    "no JSON mode": (lambda: chat().invoke("x", response_format={}), "with_structured_output"),
}
CONTENT: dict[str, tuple[Callable[[], Any], str]] = {
    "a path as text": (lambda: ask_with(url="photo.jpg"), "pass a pathlib.Path"),
    "a path as text, by its name": (lambda: ask_with(url="holiday/photo.jpg"), "the image 'photo.jpg' is neither"),
    "a path as base64": (lambda: ask_with(base64="holiday/photo.jpg"), "a path is not base64"),
    "a text file": (lambda: Image.open(__file__), "send JPEG, PNG, WebP or GIF (file 'test_remedies.py')"),
    "a text file, in a message": (lambda: ask_with(url=Path(__file__)), "(file 'test_remedies.py')"),
    "a text block without text": (
        lambda: chat().invoke([{"role": "user", "content": [{"type": "text", "content": "x"}]}]),
        "a text block needs a string as 'text'",
    ),
    "an Image in a list, from a tool": (
        lambda: chat().invoke(
            [
                AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}]),
                ToolMessage(f"[{Image.open(CAT)!r}]", tool_call_id="1"),
            ]
        ),
        "Return [image.block()] instead",
    ),
    "a wrong role": (
        lambda: ChatRequest(model="m", messages=[{"role": "bot", "content": "x"}]),
        "message 0: role must be 'system'",
    ),
    "a file URL": (lambda: ask_with(url="file:///tmp/photo.jpg"), "Pass a pathlib.Path"),
    "a bucket": (lambda: ask_with(url="s3://bucket/photo.jpg"), "pass its bytes"),
    "a private host": (lambda: ask_with(url="http://127.0.0.1/photo.jpg"), "allow_private_hosts=True"),
    "an SVG": (lambda: ask_with(base64=SVG), "save it as PNG or JPEG"),
    "a web page": (lambda: ask_with(base64=base64.b64encode(b"<html>").decode()), "pass the URL of the image file"),
    "no source": (lambda: ask_with(), "give it 'url'"),
    "an object that is no image": (lambda: ask_with(url=object()), "a data URI"),
    "a file id": (lambda: ask_with(file_id="x"), "send the image itself"),
    "an image in place of content": (
        lambda: ChatRequest(model="m", messages=[{"role": "user", "content": Image.open(CAT)}]),
        'got Image. Send an image as a part: {"type": "image_url", "image_url": {"url": image}}',
    ),
    "an image in place of a part": (
        lambda: ChatRequest(model="m", messages=[{"role": "user", "content": [Image.open(CAT)]}]),
        'got Image. Send an image as a part: {"type": "image_url", "image_url": {"url": image}}',
    ),
    "a file that is not there": (lambda: Image.open("no-such-cat.jpg"), "Check the path"),
    "a folder": (lambda: Image.open("/"), "is not a regular file but a folder: pass the path of an image"),
    "a closed file": (lambda: Image.open(_closed()), "it is closed. Pass an open file, its path or its bytes"),
    "a closed document": (lambda: Client().extract(_closed()), "it is closed. Pass an open file, its path or its"),
    "an async file": (lambda: Image.open(AsyncFile()), "its read() is async. Pass the bytes: await file.read()"),
    "an async document": (lambda: Client().extract(AsyncFile()), "Pass the bytes: await file.read()"),  # type: ignore[arg-type]
    "a file in text mode": (lambda: Image.open(io.StringIO("text")), 'Open it in binary mode: open(path, "rb")'),
    "one text in place of a list": (
        lambda: PredictionGuardEmbeddings(model="bge-m3").embed_documents("one text"),  # type: ignore[arg-type]
        "embed_query",
    ),
    "one image in place of a list": (
        lambda: PredictionGuardEmbeddings(model=EMBEDDING).embed_images(Path("a.png")),  # type: ignore[arg-type]
        "put one image in brackets",
    ),
    "one image in place of a list, LlamaIndex": (
        lambda: PredictionGuardEmbedding(EMBEDDING).get_image_embedding_batch("a.png"),
        "for one image, call get_image_embedding",
    ),
    "a path in place of a block": (
        lambda: PredictionGuardMultiModal(VISION).complete("x", ["photo.jpg"]),  # type: ignore[list-item]
        "ImageBlock(path=...)",
    ),
    "a block of nothing": (
        lambda: PredictionGuard(VISION).chat([LlamaMessage(role="user", blocks=[ImageBlock()])]),
        "set image, path or url",
    ),
}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a model that is not there": (lambda: chat(model="gpt-4o").invoke("x"), "python -m predictionguard_core models"),
    "a model that can't": (lambda: chat(model="bge-m3").invoke("x"), "python -m predictionguard_core models"),
    "a path that is not there": (lambda: chat(base_url=Client().base_url + "/v2").invoke("x"), "PREDICTIONGUARD_URL"),
    "nobody there": (lambda: chat(base_url=f"http://127.0.0.1:{unused_port()}").invoke("x"), "check the URL"),
    "a sandbox that has ended": (
        lambda: chat(base_url=f"http://127.0.0.1:{unused_port()}").invoke("x"),
        "If this is a sandbox, start it again",
    ),
    "https to a server that speaks http": (
        lambda: chat(base_url=Client().base_url.replace("http:", "https:")).invoke("x"),
        "this server speaks http, not https",
    ),
    "a streamed answer about an image": (
        lambda: list(chat(vision_streaming=True).stream([HumanMessage([Image.open(CAT).block()])])),
        "Leave vision_streaming=True out",
    ),
}


@pytest.mark.parametrize("mistake", SETTINGS)
def test_a_mistake_in_the_settings(mistake: str, account: Sandbox) -> None:
    make, remedy = SETTINGS[mistake]
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert remedy in str(caught.value)
    assert account.requests == []


def test_a_refused_value_is_not_shown_if_it_is_long_or_private(account: Sandbox) -> None:
    key = "q1VuOjnffJ3NO2oFN8Q9m8vghYc84ld13jaqdF7E"
    private: list[Callable[[], Any]] = [
        lambda: chat(max_tokens=key),
        lambda: PredictionGuard(VISION, temperature=key),
        lambda: ChatRequest(model=VISION, messages=[{"role": "hunter2", "content": "x"}]),
        lambda: chat(base_url=key),
        lambda: chat(base_url=f"{key}.{key}.{key}"),
        lambda: ask_with(url=f"{key}.hunter2"),
    ]
    for make in private:
        with pytest.raises(PredictionGuardError) as caught:
            make()
        assert key not in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("mistake", CONTENT)
def test_a_mistake_in_the_content(mistake: str, account: Sandbox) -> None:
    make, remedy = CONTENT[mistake]
    with pytest.raises(ContentError) as caught:
        make()
    assert remedy in str(caught.value)
    assert account.requests == []


@pytest.mark.parametrize("mistake", REFUSED)
def test_requests_that_the_service_refuses(mistake: str, account: Sandbox) -> None:
    make, remedy = REFUSED[mistake]
    with pytest.raises(PredictionGuardError) as caught:
        make()
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (302, "The URL leads elsewhere"),
        (401, "PREDICTIONGUARD_API_KEY"),
        (403, "PREDICTIONGUARD_API_KEY"),
        (404, "python -m predictionguard_core models"),
        (413, "max_edge"),
        (429, "max_retries"),
        (503, "max_retries"),
    ],
)
def test_a_status_comes_with_its_remedy(status: int, remedy: str, account: Sandbox) -> None:
    account.fail(status)
    with pytest.raises(PredictionGuardError) as caught:
        chat().invoke("x")
    assert remedy in str(caught.value)


def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (lambda: chat(), lambda: PredictionGuard(VISION), Client):
        with pytest.raises(ConfigurationError, match=r"set PREDICTIONGUARD_API_KEY.*python -m predictionguard_core"):
            make()


def test_a_host_that_does_not_exist(account: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ContentError, match="check its spelling"):
        ask_with(url="http://no-such-host.example/photo.jpg")


def test_a_file_that_is_not_there(account: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="No such file"):
        ask_with(url=tmp_path / "photo.jpg")
