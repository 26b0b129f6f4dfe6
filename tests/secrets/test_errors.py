"""No error contains the API key or image bytes, even if the service returns what it was sent."""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import ImageNode

import langchain_predictionguard as lc
import llama_index_predictionguard as li
from predictionguard_core import AsyncClient, Client, PredictionGuardError
from predictionguard_core.api.chat import ChatRequest
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from tests.core.images.samples import b64, question
from tests.endurance.conftest import Echo
from tests.endurance.kinds import KINDS, Kind
from tests.faults.server import unused_port
from tests.secrets.find_secrets import DATA_URI, IMAGE, KEY, error_text, find_secrets

# Responses of the echo server that contain the request: by status, or by form of the body.
MIRRORS = ["400", "401", "429", "503", "page", "json", "broken", "status", "event", "rubbish", "type"]


def errors_of(*calls: Callable[[], Any]) -> list[BaseException]:
    """Return the errors of these calls. A call may succeed: some mirrored texts are valid responses."""
    found: list[BaseException] = []
    for call in calls:
        try:
            call()
        except Exception as error:
            found.append(error)
    return found


def image_calls(url: str, **options: Any) -> list[Callable[[], Any]]:
    """Return every call that accepts an image, with one in it."""
    settings = {"api_key": KEY, "base_url": url, "max_retries": 0, **options}
    request = question(IMAGE, vision_streaming=True)
    chat = lc.ChatPredictionGuard("m", **settings, vision_streaming=True)
    messages = [HumanMessage([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": DATA_URI}}])]
    llm = li.PredictionGuard("m", **settings, vision_streaming=True)
    multi_modal = li.PredictionGuardMultiModal("m", **settings)
    blocks = [ChatMessage(role="user", blocks=[TextBlock(text="a"), ImageBlock(image=IMAGE)])]
    nodes = [ImageNode(image=b64(IMAGE))]
    client, async_client = Client(**settings), AsyncClient(**settings)

    async def read(chunks: Any) -> list[Any]:
        return [each async for each in (await chunks if asyncio.iscoroutine(chunks) else chunks)]

    return [
        lambda: client.chat(request),
        lambda: list(client.stream(request)),
        lambda: asyncio.run(async_client.chat(request)),
        lambda: asyncio.run(read(async_client.stream(request))),
        lambda: client.embed(EmbeddingRequest(model="m", input=[EmbeddingInput(image=IMAGE)])),
        lambda: chat.invoke(messages),
        lambda: list(chat.stream(messages)),
        lambda: asyncio.run(chat.ainvoke(messages)),
        lambda: asyncio.run(read(chat.astream(messages))),
        lambda: lc.PredictionGuardEmbeddings("m", **settings).embed_images([IMAGE]),
        lambda: llm.chat(blocks),
        lambda: list(llm.stream_chat(blocks)),
        lambda: asyncio.run(llm.achat(blocks)),
        lambda: asyncio.run(read(llm.astream_chat(blocks))),
        lambda: multi_modal.complete("a", nodes),
        lambda: li.PredictionGuardEmbedding("m", **settings).get_image_embedding(IMAGE),
    ]


def text_calls(url: str, **options: Any) -> list[Callable[[], Any]]:
    """Return every call of every class, with a text."""
    calls: list[Callable[[], Any]] = []
    for kind in KINDS:
        model = kind.make(url, api_key=KEY, **options)
        calls += _calls_of(kind, model)
    return calls


def _calls_of(kind: Kind, model: Any) -> list[Callable[[], Any]]:
    async def ask_async() -> Any:
        assert kind.aask
        return await kind.aask(model, 1)

    async def read_async() -> Any:
        assert kind.astream
        return [each async for each in kind.astream(model, 1)]

    calls: list[Callable[[], Any]] = []
    if kind.ask:
        calls.append(lambda: kind.ask and kind.ask(model, 1))
    if kind.aask:
        calls.append(lambda: asyncio.run(ask_async()))
    if kind.stream:
        calls.append(lambda: list(kind.stream(model, 1)) if kind.stream else None)
    if kind.astream:
        calls.append(lambda: asyncio.run(read_async()))
    return calls


def check_no_secrets(errors: list[BaseException]) -> None:
    assert errors, "no call raised an error"
    for error in errors:
        assert find_secrets(error_text(error)) == [], type(error).__name__
        pickled = pickle.dumps(error)
        assert find_secrets(pickled) == [], f"pickle of {type(error).__name__}"
        assert find_secrets(error_text(pickle.loads(pickled))) == [], f"unpickled {type(error).__name__}"
        assert find_secrets(error_text(copy.deepcopy(error))) == [], f"copy of {type(error).__name__}"


@pytest.mark.parametrize("mirror", MIRRORS)
def test_response_that_contains_the_request(mirror: str, echo: Echo) -> None:
    url = f"{echo.url}/mirror-{mirror}"
    check_no_secrets(errors_of(*text_calls(url), *image_calls(url)))


def test_keys_that_change_with_each_request() -> None:
    """A service may return the key of a request that began long before the latest."""
    count = itertools.count()
    begun, all_begun = itertools.count(1), threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if next(begun) == 40:
            all_begun.set()
        all_begun.wait(10)
        return httpx.Response(400, json={"error": f"bad key {request.headers['authorization']}"})

    client = Client(
        lambda: f"rotating-{next(count):08d}",
        "http://service.example",
        http_client=httpx.Client(transport=httpx.MockTransport(answer)),
    )

    def ask(_: int) -> str:
        with pytest.raises(PredictionGuardError, match="bad key") as caught:
            client.chat(ChatRequest(model="m", messages="Hello"))
        return error_text(caught.value)

    with ThreadPoolExecutor(40) as threads:
        assert not any("rotating-" in text for text in threads.map(ask, range(40)))


def test_connection_refused(echo: Echo) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    check_no_secrets(errors_of(*text_calls(url), *image_calls(url)))


def test_timeout(echo: Echo) -> None:
    check_no_secrets(errors_of(*text_calls(f"{echo.url}/silent", timeout=0.02)[:8]))
    check_no_secrets(errors_of(*image_calls(f"{echo.url}/silent", timeout=0.02)))


def test_interrupted_stream(echo: Echo) -> None:
    check_no_secrets(errors_of(*image_calls(f"{echo.url}/broken")))


@pytest.mark.parametrize("response", ["silent", "refuse", "broken"])
def test_local_variables_in_tracebacks(response: str, echo: Echo) -> None:
    """Error reporters and `rich` show the local variables of each frame, ours and those of the libraries below.

    The image is in the caller's own frames, so only the key is looked for, outside of the tests' frames.
    """
    timeout = 0.05 if response == "silent" else 10
    for error in errors_of(*image_calls(f"{echo.url}/{response}", timeout=timeout)):
        pending: list[BaseException | None] = [error]
        while pending:
            each = pending.pop()
            if each is not None:
                pending += [each.__cause__, each.__context__]
                trace = traceback.TracebackException.from_exception(each, capture_locals=True)
                frames = [frame for frame in trace.stack if "/tests/" not in frame.filename]
                for frame in frames:
                    found = find_secrets(repr(frame.locals), images=False)
                    assert found == [], f"{frame.filename} {frame.name}"


INVALID_KEYS: list[Any] = [KEY.encode(), [KEY], {"key": KEY}, (KEY,), KEY + "\n\u2028", KEY + "é"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_invalid_key(kind: Kind) -> None:
    for key in INVALID_KEYS:
        for error in errors_of(lambda key=key: kind.make("http://127.0.0.1:9", api_key=key)):  # type: ignore[misc]
            assert isinstance(error, PredictionGuardError), repr(key)
            assert find_secrets(error_text(error)) == [], repr(key)


INVALID_OPTIONS: list[dict[str, Any]] = [
    {"temperature": "hot"},
    {"timeout": -1},
    {"max_retries": "x"},
    {"no_such": 1},
    {"model": ""},
    {"base_url": f"http://user:{KEY}@127.0.0.1"},
    {"base_url": f"http://127.0.0.1/?key={KEY}"},
    {"http_client": KEY},
    {"images": {"local_roots": 5}},
    {"no_such": KEY},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_invalid_option(kind: Kind) -> None:
    for options in INVALID_OPTIONS:
        arguments = {"api_key": KEY, **options}
        for error in errors_of(lambda arguments=arguments: kind.make("http://127.0.0.1:9", **arguments)):  # type: ignore[misc]
            assert find_secrets(error_text(error)) == [], options


BROKEN_BASE64 = b64(IMAGE)[:-40] + "****"
INVALID_IMAGES: dict[str, Any] = {
    "without its beginning": IMAGE[40:],
    "broken base64": BROKEN_BASE64,
    "data URI of broken base64": f"data:image/png;base64,{BROKEN_BASE64}",
    "damaged PNG": b"\x89PNG\r\n\x1a\n" + IMAGE[100:],
    "base85": base64.b85encode(IMAGE).decode(),
    "list": [IMAGE],
    "dict": {"image": IMAGE},
    "data URI of audio": DATA_URI.replace("image/png", "audio/wav"),
    "bytes as text": IMAGE.decode("latin-1"),
}


@pytest.mark.parametrize("image", INVALID_IMAGES.values(), ids=INVALID_IMAGES)
def test_invalid_image(image: Any) -> None:
    options: dict[str, Any] = {"api_key": KEY, "base_url": "http://127.0.0.1:9", "max_retries": 0}
    client, chat = Client(**options), lc.ChatPredictionGuard("m", **options)
    check_no_secrets(
        errors_of(
            lambda: client.chat(question(image)),
            lambda: client.chat(ChatRequest(model="m", messages=[{"role": "user", "content": [{"type": image}]}])),
            lambda: client.chat(ChatRequest(model="m", messages=[{"role": image, "content": "a"}])),
            lambda: ChatRequest(model="m", messages=image if isinstance(image, list) else [image]),
            lambda: ChatRequest(model="m", messages="a", temperature=image),
            lambda: client.embed(EmbeddingRequest(model="m", input=[EmbeddingInput(image=image)])),
            lambda: chat.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": image}}])]),
            lambda: chat.invoke([HumanMessage([{"type": "image", "base64": image}])]),
            lambda: chat.invoke([HumanMessage([{"type": "audio", "base64": image, "mime_type": "audio/wav"}])]),
            lambda: lc.PredictionGuardEmbeddings("m", **options).embed_images([image]),
            lambda: li.PredictionGuardMultiModal("m", **options).complete("a", [image]),
            lambda: li.PredictionGuardEmbedding("m", **options).get_image_embedding(image),
        )
    )
