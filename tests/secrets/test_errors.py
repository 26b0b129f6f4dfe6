"""Neither the key nor a picture is in an error: whatever the service shows of them, and whatever went wrong here."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

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
from tests.secrets.watch import DATA_URI, KEY, PICTURE, shown, told

MIRRORS = ["400", "401", "403", "404", "413", "422", "429", "500", "503", "page", "json", "broken", "status", "event"]
MIRRORS += ["rubbish", "type"]


def errors_of(*works: Callable[[], Any]) -> list[BaseException]:
    """What each raises. One that raises nothing, as what it says may be taken for an answer, has nothing to show."""
    found: list[BaseException] = []
    for work in works:
        try:
            work()
        except Exception as error:
            found.append(error)
    return found


def pictures_asked(url: str, **options: Any) -> list[Callable[[], Any]]:
    """Every door by which a picture goes in, with one in it."""
    given = {"api_key": KEY, "base_url": url, "max_retries": 0, **options}
    asked = question(PICTURE, vision_streaming=True)
    chat = lc.ChatPredictionGuard("m", **given, vision_streaming=True)
    messages = [HumanMessage([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": DATA_URI}}])]
    llm = li.PredictionGuard("m", **given, vision_streaming=True)
    eyes = li.PredictionGuardMultiModal("m", **given)
    blocks = [ChatMessage(role="user", blocks=[TextBlock(text="a"), ImageBlock(image=PICTURE)])]
    nodes = [ImageNode(image=b64(PICTURE))]
    client, twin = Client(**given), AsyncClient(**given)

    async def read(chunks: Any) -> list[Any]:
        return [each async for each in (await chunks if asyncio.iscoroutine(chunks) else chunks)]

    return [
        lambda: client.chat(asked),
        lambda: list(client.stream(asked)),
        lambda: asyncio.run(twin.chat(asked)),
        lambda: asyncio.run(read(twin.stream(asked))),
        lambda: client.embed(EmbeddingRequest(model="m", input=[EmbeddingInput(image=PICTURE)])),
        lambda: chat.invoke(messages),
        lambda: list(chat.stream(messages)),
        lambda: asyncio.run(chat.ainvoke(messages)),
        lambda: asyncio.run(read(chat.astream(messages))),
        lambda: lc.PredictionGuardEmbeddings("m", **given).embed_images([PICTURE]),
        lambda: llm.chat(blocks),
        lambda: list(llm.stream_chat(blocks)),
        lambda: asyncio.run(llm.achat(blocks)),
        lambda: asyncio.run(read(llm.astream_chat(blocks))),
        lambda: eyes.complete("a", nodes),
        lambda: li.PredictionGuardEmbedding("m", **given).get_image_embedding(PICTURE),
    ]


def texts_asked(url: str, **options: Any) -> list[Callable[[], Any]]:
    """Every kind of object, asked for a number, in each of its forms."""
    works: list[Callable[[], Any]] = []
    for kind in KINDS:
        model = kind.make(url, api_key=KEY, **options)
        works += _asked(kind, model)
    return works


def _asked(kind: Kind, model: Any) -> list[Callable[[], Any]]:
    async def awaited() -> Any:
        assert kind.aask
        return await kind.aask(model, 1)

    async def read() -> Any:
        assert kind.astream
        return [each async for each in kind.astream(model, 1)]

    works: list[Callable[[], Any]] = []
    if kind.ask:
        works.append(lambda: kind.ask and kind.ask(model, 1))
    if kind.aask:
        works.append(lambda: asyncio.run(awaited()))
    if kind.stream:
        works.append(lambda: list(kind.stream(model, 1)) if kind.stream else None)
    if kind.astream:
        works.append(lambda: asyncio.run(read()))
    return works


def hide(errors: list[BaseException]) -> None:
    assert errors
    for error in errors:
        assert shown(told(error)) == [], type(error).__name__
        assert shown(pickle.dumps(error)) == []
        assert shown(told(pickle.loads(pickle.dumps(error)))) == []
        assert shown(told(copy.deepcopy(error))) == []


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_service_that_shows_what_it_was_sent(mirror: str, echo: Echo) -> None:
    hide(errors_of(*texts_asked(f"{echo.url}/mirror-{mirror}"), *pictures_asked(f"{echo.url}/mirror-{mirror}")))


def test_nobody_there(echo: Echo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    hide(errors_of(*texts_asked(url), *pictures_asked(url)))


def test_no_answer_in_time(echo: Echo) -> None:
    hide(errors_of(*texts_asked(f"{echo.url}/silent", timeout=0.02)[:8]))
    hide(errors_of(*pictures_asked(f"{echo.url}/silent", timeout=0.02)))


def test_a_stream_that_breaks_off(echo: Echo) -> None:
    hide(errors_of(*pictures_asked(f"{echo.url}/broken")))


@pytest.mark.parametrize("how", ["silent", "refuse", "broken"])
def test_traces_that_show_variables(how: str, echo: Echo) -> None:
    """As error reporters and `rich` make them: the variables of each frame, here and in what we call.

    What a caller gave stands in the caller's own frames; the key has to stand in none.
    """
    for error in errors_of(*pictures_asked(f"{echo.url}/{how}", timeout=0.2)):
        waiting: list[BaseException | None] = [error]
        while waiting:
            each = waiting.pop()
            if each is not None:
                waiting += [each.__cause__, each.__context__]
                trace = traceback.TracebackException.from_exception(each, capture_locals=True)
                frames = [frame for frame in trace.stack if "/tests/" not in frame.filename]
                for frame in frames:
                    assert shown(repr(frame.locals), pictures=False) == [], f"{frame.filename} {frame.name}"


WRONG_KEYS: list[Any] = [KEY.encode(), [KEY], {"key": KEY}, (KEY,), KEY + "\n\u2028", KEY + "é"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("key", WRONG_KEYS, ids=lambda key: type(key).__name__)
def test_a_key_of_the_wrong_type(kind: Kind, key: Any) -> None:
    for error in errors_of(lambda: kind.make("http://127.0.0.1:9", api_key=key)):
        assert isinstance(error, PredictionGuardError)
        assert shown(told(error)) == []


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    "options",
    [
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
    ],
    ids=repr,
)
def test_an_option_that_is_wrong_beside_a_key_that_is_right(kind: Kind, options: Any) -> None:
    for error in errors_of(lambda: kind.make("http://127.0.0.1:9", **{"api_key": KEY, **options})):
        assert shown(told(error)) == []


BROKEN = b64(PICTURE)[:-40] + "****"
WRONG_PICTURES: list[Any] = [
    PICTURE[40:],
    BROKEN,
    f"data:image/png;base64,{BROKEN}",
    b"\x89PNG\r\n\x1a\n" + PICTURE[100:],
    base64.b85encode(PICTURE).decode(),
    [PICTURE],
    {"image": PICTURE},
    DATA_URI.replace("image/png", "audio/wav"),
    PICTURE.decode("latin-1"),
]


@pytest.mark.parametrize("given", WRONG_PICTURES, ids=lambda given: type(given).__name__)
def test_a_picture_that_can_not_be_sent(given: Any) -> None:
    options: dict[str, Any] = {"api_key": KEY, "base_url": "http://127.0.0.1:9", "max_retries": 0}
    client, chat = Client(**options), lc.ChatPredictionGuard("m", **options)
    hide(
        errors_of(
            lambda: client.chat(question(given)),
            lambda: client.chat(ChatRequest(model="m", messages=[{"role": "user", "content": [{"type": given}]}])),
            lambda: client.chat(ChatRequest(model="m", messages=[{"role": given, "content": "a"}])),
            lambda: ChatRequest(model="m", messages=given if isinstance(given, list) else [given]),
            lambda: ChatRequest(model="m", messages="a", temperature=given),
            lambda: client.embed(EmbeddingRequest(model="m", input=[EmbeddingInput(image=given)])),
            lambda: chat.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": given}}])]),
            lambda: chat.invoke([HumanMessage([{"type": "image", "base64": given}])]),
            lambda: chat.invoke([HumanMessage([{"type": "audio", "base64": given, "mime_type": "audio/wav"}])]),
            lambda: lc.PredictionGuardEmbeddings("m", **options).embed_images([given]),
            lambda: li.PredictionGuardMultiModal("m", **options).complete("a", [given]),
            lambda: li.PredictionGuardEmbedding("m", **options).get_image_embedding(given),
        )
    )
