"""Images in every form that people have them, in messages, prompt templates and checkpointers."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage, messages_from_dict, messages_to_dict
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from PIL import Image as PillowImage

from langchain_predictionguard import ChatPredictionGuard, ContentError, Image, PredictionGuardEmbeddings
from predictionguard_core.sandbox import Sandbox
from tests.langchain.test_chat_models import CAT, CAT_64, CAT_URI, PHOTOS, SIZE, question, sent_images

CAT_PATH = PHOTOS / "cat.jpg"


class Upload(io.BytesIO):
    """An uploaded file as web frameworks give it: a file object with a name and a type."""

    name, type = "cat.jpg", "image/jpeg"


def test_objects_in_blocks(chat: ChatPredictionGuard, box: Sandbox) -> None:
    with CAT_PATH.open("rb") as file:
        for source in (CAT_PATH, CAT, bytearray(CAT), io.BytesIO(CAT), file, Upload(CAT), Image.open(CAT_PATH)):
            for key in ("url", "image", "base64", "data"):
                if hasattr(source, "seek"):
                    source.seek(0)
                chat.invoke([question({"type": "image", key: source})])
                assert sent_images(box) == [CAT_URI], (key, type(source))


def test_pil_images(chat: ChatPredictionGuard, box: Sandbox) -> None:
    for source in (PillowImage.open(CAT_PATH), PillowImage.new("RGB", (451, 300)), PillowImage.new("P", (451, 300))):
        for block in (
            {"type": "image", "url": source},
            {"type": "image", "image": source},
            {"type": "image_url", "image_url": {"url": source}},
        ):
            assert SIZE in chat.invoke([question(block)]).text
            assert SIZE in "".join(chunk.text for chunk in chat.stream([question(block)]))


def test_an_array_is_refused_with_the_conversion(chat: ChatPredictionGuard) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ContentError, match="fromarray") as caught:
        chat.invoke([question({"type": "image", "url": numpy.zeros((4, 4, 3))})])
    assert (caught.value.message_index, caught.value.block_index) == (0, 1)


def test_image_block_is_plain_and_is_sent_byte_for_byte(chat: ChatPredictionGuard, box: Sandbox) -> None:
    block = Image.open(CAT_PATH).block()
    assert block == {"type": "image", "base64": CAT_64, "mime_type": "image/jpeg"}
    assert json.loads(json.dumps(block)) == block
    chat.invoke([question(block)])
    assert sent_images(box) == [CAT_URI]


def test_image_block_in_prompt_templates(chat: ChatPredictionGuard, box: Sandbox) -> None:
    image = Image.open(CAT_PATH)
    template = ChatPromptTemplate.from_messages(
        [("user", [{"type": "text", "text": "{ask}"}, image.block()]), MessagesPlaceholder("more")]
    )
    (template | chat).invoke({"ask": "What?", "more": [HumanMessage([image.block()])]})
    assert sent_images(box) == [CAT_URI, CAT_URI]
    variable = ChatPromptTemplate.from_messages([("user", [{"type": "image_url", "image_url": {"url": "{photo}"}}])])
    (variable | chat).invoke({"photo": image.data_uri})
    assert sent_images(box) == [CAT_URI]


def test_objects_in_prompt_templates(chat: ChatPredictionGuard, box: Sandbox) -> None:
    for source in (CAT_PATH, PillowImage.open(CAT_PATH)):
        template = ChatPromptTemplate.from_messages(
            [("user", [{"type": "text", "text": "{ask}"}, {"type": "image", "url": source}])]
        )
        assert SIZE in (template | chat).invoke({"ask": "How large?"}).text


def test_a_path_as_a_template_variable_is_refused_with_a_remedy_that_works(chat: ChatPredictionGuard) -> None:
    template = ChatPromptTemplate.from_messages([("user", [{"type": "image_url", "image_url": {"url": "{photo}"}}])])
    with pytest.raises(ContentError, match=r"Image\.open") as caught:
        (template | chat).invoke({"photo": CAT_PATH})
    assert (caught.value.message_index, caught.value.block_index) == (0, 0)


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


def test_image_block_survives_a_checkpointer_and_json(chat: ChatPredictionGuard, box: Sandbox) -> None:
    graph = StateGraph(State)
    graph.add_node("chat", lambda state: {"messages": [chat.invoke(state["messages"])]})
    graph.add_edge(START, "chat")
    app = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    message = question(Image.open(CAT_PATH).block())
    app.invoke({"messages": [message]}, config)
    app.invoke({"messages": [HumanMessage("And now?")]}, config)
    assert sent_images(box) == [CAT_URI]
    assert len({each.id for each in app.get_state(config).values["messages"]}) == 4
    assert CAT_64 in message.model_dump_json()
    chat.invoke(messages_from_dict(messages_to_dict([message])))
    assert sent_images(box) == [CAT_URI]


def test_tracers_see_the_image(chat: ChatPredictionGuard) -> None:
    seen: list[Any] = []

    class Tracer(BaseCallbackHandler):
        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
            seen.append(messages)

    chat.invoke([question(Image.open(CAT_PATH).block())], {"callbacks": [Tracer()]})
    assert seen[0][0][0].content[1] == {"type": "image_url", "image_url": {"url": CAT_URI}}


TEXTS: dict[str, dict[str, Any]] = {
    "base64": {"type": "file", "base64": base64.b64encode(b"a,b\n1,2").decode(), "mime_type": "text/csv"},
    "bytes": {"type": "file", "base64": b"a,b\n1,2", "mime_type": "text/csv"},
    "no mime type": {"type": "file", "base64": base64.b64encode(b"a,b\n1,2").decode()},
    "v0": {
        "type": "file",
        "source_type": "base64",
        "data": base64.b64encode(b"a,b\n1,2").decode(),
        "mime_type": "text/csv",
    },
    "OpenAI": {
        "type": "file",
        "file": {"filename": "a.csv", "file_data": "data:text/csv;base64," + base64.b64encode(b"a,b\n1,2").decode()},
    },
    "data URI": {"type": "file", "url": "data:text/csv,a%2Cb%0A1%2C2"},
    "Anthropic": {
        "type": "document",
        "source": {"type": "base64", "media_type": "text/csv", "data": base64.b64encode(b"a,b\n1,2").decode()},
    },
}


def test_text_files_are_sent_as_text(chat: ChatPredictionGuard, box: Sandbox) -> None:
    for name, block in TEXTS.items():
        chat.invoke([HumanMessage(["Sum up.", block])])
        assert box.requests[-1]["messages"][0]["content"] == "Sum up.\na,b\n1,2", name


def test_a_file_that_is_neither_text_nor_image_is_refused(chat: ChatPredictionGuard) -> None:
    for data in (b"PK\x03\x04\0\0", "naïve".encode("latin-1")):
        with pytest.raises(ContentError) as caught:
            chat.invoke([HumanMessage([{"type": "file", "base64": base64.b64encode(data).decode()}])])
        assert (caught.value.message_index, caught.value.block_index) == (0, 0)


@pytest.fixture
def embeddings(box: Sandbox) -> PredictionGuardEmbeddings:
    return PredictionGuardEmbeddings("bridgetower-large-itm-mlm-itc", api_key="key", base_url=box.url)


async def test_vector_stores_ask_for_embeddings_by_uri(
    embeddings: PredictionGuardEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = embeddings.embed_images([CAT])
    monkeypatch.chdir(PHOTOS)
    monkeypatch.setenv("HOME", str(PHOTOS))
    for uri in (str(CAT_PATH), "cat.jpg", "~/cat.jpg", f"file://{CAT_PATH}", CAT_URI, CAT_64, CAT_PATH):
        assert embeddings.embed_image(uris=[uri]) == wanted
        assert await embeddings.aembed_image(uris=[uri]) == wanted
    with pytest.raises(ContentError):
        embeddings.embed_image(uris="cat.jpg")
    await embeddings.aclose()


def test_pil_images_and_files_are_embedded(embeddings: PredictionGuardEmbeddings) -> None:
    wanted = embeddings.embed_images([CAT])
    assert embeddings.embed_images([io.BytesIO(CAT), Image.open(CAT_PATH), Path(CAT_PATH)]) == wanted * 3
    assert len(embeddings.embed_images([PillowImage.open(CAT_PATH)])) == 1
