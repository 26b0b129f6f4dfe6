"""The classic interface: `complete(prompt, image_documents)` and the rest."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import Document, ImageDocument, ImageNode, NodeWithScore, TextNode

import llama_index_predictionguard as adapter
from llama_index_predictionguard import PredictionGuardMultiModal
from predictionguard_core.sandbox import Sandbox

Make = Callable[..., PredictionGuardMultiModal]
ASK = "What is this?"


@pytest.fixture
def llm(make_multi: Make) -> PredictionGuardMultiModal:
    return make_multi()


def data_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def test_every_image_form_is_sent_as_the_same_data_uri(
    make_multi: Make, box: Sandbox, cat: bytes, photos: Path, tmp_path: Path
) -> None:
    llm = make_multi(images={"local_roots": [str(photos), str(tmp_path)]})
    path, text = str(photos / "cat.jpg"), base64.b64encode(cat).decode()
    misnamed = tmp_path / "cat.png"
    misnamed.write_bytes(cat)
    forms = {
        "node, base64": ImageNode(image=text),
        "node, data URI as base64": ImageNode(image=data_uri(cat)),
        "node, path": ImageNode(image_path=path),
        "node, wrong suffix": ImageNode(image_path=str(misnamed), image_mimetype="image/png"),
        "node, data URI": ImageNode(image_url=data_uri(cat)),
        "node, file path below the roots": ImageNode(metadata={"file_path": path}),
        "document, base64": ImageDocument(image=text),
        "document, path": ImageDocument(image_path=path),
        "document, file path below the roots": ImageDocument(metadata={"file_path": path}),
        "block": ImageBlock(image=cat),
        "retrieved": NodeWithScore(node=ImageNode(image=text), score=0.5),
    }
    for form, document in forms.items():
        before = copy.deepcopy(document)
        completion = llm.complete(ASK, image_documents=[document])
        assert "451 x 300" in completion.text, form
        assert box.requests[-1]["messages"] == [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": ASK},
                    {"type": "image_url", "image_url": {"url": data_uri(cat)}},
                ],
            }
        ], form
        assert document == before, form


def test_the_text_of_a_node_precedes_its_image(
    llm: PredictionGuardMultiModal, box: Sandbox, cat: bytes, photos: Path
) -> None:
    text = base64.b64encode(cat).decode()
    llm.complete(ASK, [ImageNode(image=text, text="a cat"), ImageDocument(image_path=photos / "cat.jpg", text="too")])
    parts = box.requests[-1]["messages"][0]["content"]
    assert [part.get("text", part["type"]) for part in parts] == [ASK, "a cat", "image_url", "too", "image_url"]


def test_an_image_document_of_a_reader(llm: PredictionGuardMultiModal, photos: Path) -> None:
    path = str(photos / "cat.jpg")
    document = ImageDocument(text="", image=None, image_path=path, metadata={"file_path": path, "file_size": 1})
    assert "451 x 300" in llm.complete(ASK, [document]).text


def test_a_file_path_in_metadata_needs_a_root(llm: PredictionGuardMultiModal, box: Sandbox, photos: Path) -> None:
    for document in (ImageNode, ImageDocument):
        with pytest.raises(adapter.ImageFormatError, match="local_roots"):
            llm.complete(ASK, [document(metadata={"file_path": str(photos / "cat.jpg")})])
    assert box.requests == []


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (TextNode(text="words"), adapter.UnsupportedContentError),
        (Document(text="words", metadata={"file_path": "/etc/passwd"}), adapter.UnsupportedContentError),
        (ImageNode(), adapter.UnsupportedContentError),
        (ImageDocument(), adapter.UnsupportedContentError),
        ("photo.jpg", adapter.UnsupportedContentError),
        (ImageBlock(), adapter.ImageFormatError),
        (ImageNode(image="no image"), adapter.ImageFormatError),
        (ImageNode(image_path="/etc/passwd"), adapter.ImageFormatError),
        (ImageNode(image_path="/no/such/file.jpg"), adapter.ImageFormatError),
        (ImageNode(image_path="/dev/zero"), adapter.ImageBlockedError),
        (ImageNode(image_url="http://127.0.0.1/x.jpg"), adapter.ImageBlockedError),
        (ImageNode(image_url="file:///etc/passwd"), adapter.ImageBlockedError),
    ],
)
def test_content_that_cannot_be_sent_is_refused(
    document: Any, kind: type[adapter.ContentError], llm: PredictionGuardMultiModal, box: Sandbox, cat: bytes
) -> None:
    with pytest.raises(kind) as caught:
        llm.complete(ASK, [ImageBlock(image=cat), document])
    assert (caught.value.message_index, caught.value.block_index) == (None, 1)
    assert box.requests == []


async def test_every_method(llm: PredictionGuardMultiModal, photos: Path, box: Sandbox) -> None:
    documents = [ImageNode(image_path=str(photos / "cat.jpg"))]
    blocks = [TextBlock(text=ASK), ImageBlock(path=photos / "cat.jpg")]
    messages = [ChatMessage(role="user", blocks=blocks)]
    completions = [llm.complete(ASK, documents), await llm.acomplete(ASK, documents)]
    completions += list(llm.stream_complete(ASK, documents))
    completions += [chunk async for chunk in await llm.astream_complete(ASK, documents)]
    chats = [llm.chat(messages), await llm.achat(messages)]
    chats += list(llm.stream_chat(messages))
    chats += [chunk async for chunk in await llm.astream_chat(messages)]
    answers = [each.text for each in completions] + [each.message.content for each in chats]
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert "451 x 300" in answers[0]
    for each in completions + chats:
        assert each.additional_kwargs["finish_reason"] == "stop"
        assert each.raw["usage"]["total_tokens"] == each.additional_kwargs["total_tokens"] > 100
    assert len({str(body["messages"]) for body in box.requests}) == 1


def test_a_prompt_without_images_is_streamed(llm: PredictionGuardMultiModal) -> None:
    chunks = list(llm.stream_complete("hello there", []))
    assert len(chunks) > 5
    assert "".join(chunk.delta or "" for chunk in chunks) == chunks[-1].text == llm.complete("hello there").text


def test_metadata(make_multi: Make) -> None:
    metadata = make_multi(max_tokens=9, images={"max_images": 3}).metadata
    assert metadata.model_dump() == {
        "context_window": 16_384,
        "num_output": 9,
        "num_input_files": 3,
        "is_function_calling_model": True,
        "model_name": "Qwen2.5-VL-7B-Instruct",
        "is_chat_model": True,
    }


def test_callbacks_report_the_call_without_the_key(make_multi: Make, cat: bytes) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = make_multi(callback_manager=CallbackManager([debug]))
    llm.complete(ASK, [ImageBlock(image=cat)])
    ((start, end),) = debug.get_llm_inputs_outputs()
    assert "sk-not-to-be-seen" not in repr((start.payload, end.payload))


def test_options_of_a_call_override_those_of_the_model(
    llm: PredictionGuardMultiModal, box: Sandbox, cat: bytes
) -> None:
    llm.complete(ASK, [ImageBlock(image=cat)], temperature=0.1, max_tokens=40)
    assert (box.requests[-1]["temperature"], box.requests[-1]["max_completion_tokens"]) == (0.1, 40)
    with pytest.raises(adapter.ConfigurationError, match="temprature"):
        llm.complete(ASK, [ImageBlock(image=cat)], temprature=0.1)
