"""Every form of an image is sent as one data URI typed by its bytes, or refused with its location."""

from __future__ import annotations

import base64
import copy
import functools
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import CachePoint, CitableBlock, CitationBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.llms import AudioBlock, ChatMessage, DocumentBlock, ImageBlock, TextBlock
from llama_index.core.schema import ImageDocument, ImageNode
from pydantic import ValidationError

import llama_index_predictionguard as adapter
from llama_index_predictionguard import ImagePolicy, PredictionGuard
from predictionguard_core.sandbox import Sandbox

Make = Callable[..., PredictionGuard]
FOLLOWS = "The result is an image; it follows in the next user message."


def question(*blocks: Any, role: str = "user") -> list[ChatMessage]:
    return [ChatMessage(role=role, blocks=[TextBlock(text="What is this?"), *blocks])]


def data_uri(data: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def host(photos: Path) -> Iterator[str]:
    """A web server on this machine that serves the photos, whatever type it is asked to claim."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (photos / "cat.jpg").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_image_form_is_sent_as_the_same_data_uri(
    make: Make, box: Sandbox, cat: bytes, photos: Path, host: str, tmp_path: Path
) -> None:
    misnamed, unnamed = tmp_path / "photo.png", tmp_path / "photo"
    misnamed.write_bytes(cat)
    unnamed.write_bytes(cat)
    forms = {
        "bytes": ImageBlock(image=cat),
        "bytes said to be png": ImageBlock(image=cat, image_mimetype="image/png"),
        "base64": ImageBlock(image=base64.b64encode(cat)),
        "data URI": ImageBlock(url=data_uri(cat)),
        "data URI said to be png": ImageBlock(url=data_uri(cat, "image/png")),
        "path": ImageBlock(path=photos / "cat.jpg"),
        "path as text": ImageBlock(path=str(photos / "cat.jpg")),
        "wrong suffix": ImageBlock(path=misnamed),
        "no suffix": ImageBlock(path=unnamed),
        "url": ImageBlock(url=f"{host}/photo"),
    }
    llm = make(images=ImagePolicy(allow_private_hosts=True))
    for form, block in forms.items():
        messages = question(block)
        before = copy.deepcopy(messages)
        llm.chat(messages)
        assert box.requests[-1]["messages"] == [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": data_uri(cat)}},
                ],
            }
        ], form
        assert messages == before, form


def test_an_image_assigned_after_construction(llm: PredictionGuard, box: Sandbox, cat: bytes) -> None:
    messages = question(ImageBlock(image=b""))
    messages[0].blocks[1].image = cat  # type: ignore[union-attr]
    llm.chat(messages)
    assert box.requests[-1]["messages"][0]["content"][1]["image_url"]["url"] == data_uri(cat)


def test_images_in_additional_kwargs_are_sent_once(llm: PredictionGuard, box: Sandbox, photos: Path) -> None:
    documents = [ImageDocument(image_path=photos / name) for name in ("cat.jpg", "coffee.jpg")]
    message = ChatMessage(role="user", content="What are these?", additional_kwargs={"images": documents})
    for _ in range(2):
        llm.chat([message])
        kinds = [part["type"] for part in box.requests[-1]["messages"][0]["content"]]
        assert kinds == ["text", "image_url", "image_url"]


@pytest.mark.parametrize("kind", ["BytesIO", "file"])
def test_an_open_file_is_read_from_its_start_each_time(
    kind: str, llm: PredictionGuard, box: Sandbox, cat: bytes, photos: Path
) -> None:
    with io.BytesIO(cat) if kind == "BytesIO" else open(photos / "cat.jpg", "rb") as file:
        file.seek(7)
        try:
            block = ImageBlock(image=file)
        except ValidationError:
            pytest.skip("this release of llama-index-core takes no open files")
        for _ in range(2):
            llm.chat(question(block))
            assert box.requests[-1]["messages"][0]["content"][1]["image_url"]["url"] == data_uri(cat)
        assert file.tell() == 7


@pytest.mark.parametrize(
    ("detail", "sent"),
    [(None, None), ("low", "low"), ("high", "high"), ("auto", "auto"), ("original", "auto")],
)
def test_detail(detail: str | None, sent: str | None, llm: PredictionGuard, box: Sandbox, cat: bytes) -> None:
    llm.chat(question(ImageBlock(image=cat, detail=detail)))
    image = box.requests[-1]["messages"][0]["content"][1]["image_url"]
    assert image.get("detail") == sent
    assert ("detail" in image) is (sent is not None)


def test_a_phone_photo_is_rotated_upright(llm: PredictionGuard, photos: Path) -> None:
    response = llm.chat(question(ImageBlock(path=photos / "phone_portrait.jpg")))
    assert "480 x 640" in (response.message.content or "")
    assert "portrait" in (response.message.content or "")


def test_order_and_number_of_images(llm: PredictionGuard, box: Sandbox, photos: Path) -> None:
    names = ["cat.jpg", "coffee.jpg", "galaxies.jpg"]
    message = ChatMessage(role="user", blocks=[])
    for name in names:
        message.blocks += [TextBlock(text=name), ImageBlock(path=photos / name)]
    llm.chat([message])
    parts = box.requests[-1]["messages"][0]["content"]
    assert [part.get("text") or part["image_url"]["url"] for part in parts] == [
        each for name in names for each in (name, data_uri((photos / name).read_bytes()))
    ]


async def test_images_in_async_calls(llm: PredictionGuard, photos: Path, cat: bytes) -> None:
    for block in (ImageBlock(image=cat), ImageBlock(path=photos / "cat.jpg"), ImageBlock(url=data_uri(cat))):
        assert "451 x 300" in ((await llm.achat(question(block))).message.content or "")


# Refused, with the place


def refused(llm: PredictionGuard, block: Any, kind: type[adapter.ContentError]) -> adapter.ContentError:
    messages = [ChatMessage(role="user", content="first"), *question(block)]
    with pytest.raises(kind) as caught:
        llm.chat(messages)
    with pytest.raises(kind):
        list(llm.stream_chat(messages))
    assert (caught.value.message_index, caught.value.block_index) == (1, 1)
    return caught.value


@pytest.mark.parametrize(
    ("make_block", "kind"),
    [
        (lambda: ImageBlock(image=b"this is no image"), adapter.ImageFormatError),
        (lambda: ImageBlock(image=b""), adapter.ImageFormatError),
        (lambda: ImageBlock(), adapter.ImageFormatError),
        (lambda: ImageBlock(url="data:image/png;base64,AAAA"), adapter.ImageFormatError),
        (lambda: ImageBlock(url="http://127.0.0.1/cat.jpg"), adapter.ImageBlockedError),
        (lambda: ImageBlock(url="http://169.254.169.254/latest"), adapter.ImageBlockedError),
        (lambda: ImageBlock(url="file:///etc/passwd"), adapter.ImageBlockedError),
        (lambda: ImageBlock(path="/etc/passwd"), adapter.ImageFormatError),
        (lambda: AudioBlock(audio=b"abc", format="mp3"), adapter.UnsupportedContentError),
        (lambda: DocumentBlock(data=b"%PDF-1.7", document_mimetype="application/pdf"), adapter.ImageFormatError),
        (lambda: CitableBlock(title="t", source="s", content="c"), adapter.UnsupportedContentError),
        (
            lambda: CitationBlock(cited_content="c", source="s", title="t", additional_location_info={}),
            adapter.UnsupportedContentError,
        ),
        (lambda: ToolCallBlock(tool_name="t"), adapter.UnsupportedContentError),
        (lambda: ThinkingBlock(content="hm"), adapter.UnsupportedContentError),
    ],
)
def test_content_that_cannot_be_sent_is_refused(
    make_block: Callable[[], Any], kind: type[adapter.ContentError], llm: PredictionGuard, box: Sandbox
) -> None:
    refused(llm, make_block(), kind)
    assert box.requests == []


def test_the_image_policy_is_enforced(make: Make, cat: bytes, photos: Path, tmp_path: Path) -> None:
    too_large = refused(make(images={"max_pixels": 1000}), ImageBlock(image=cat), adapter.ImageTooLargeError)
    assert "135,300" in str(too_large)
    assert "1,000" in str(too_large)
    refused(make(images={"max_bytes": 1000}), ImageBlock(path=photos / "cat.jpg"), adapter.ImageTooLargeError)
    outside = make(images={"local_roots": [str(tmp_path)]})
    refused(outside, ImageBlock(path=photos / "cat.jpg"), adapter.ImageBlockedError)
    with pytest.raises(adapter.ImageTooLargeError, match="2 images"):
        make(images={"max_images": 1}).chat(question(ImageBlock(image=cat), ImageBlock(image=cat)))


def test_a_cache_point_is_not_sent(llm: PredictionGuard, box: Sandbox) -> None:
    llm.chat(question(CachePoint(cache_control={"type": "ephemeral"})))
    assert box.requests[-1]["messages"] == [{"role": "user", "content": "What is this?"}]


def test_errors_do_not_quote_image_data(llm: PredictionGuard, cat: bytes) -> None:
    broken = base64.b64encode(b"\x00" + cat)
    error = refused(llm, ImageBlock(image=broken), adapter.ImageFormatError)
    assert broken[:40].decode() not in repr(error) + str(error)


# In a tool's result


def test_an_image_in_a_tool_result_follows_in_a_user_message(llm: PredictionGuard, box: Sandbox, cat: bytes) -> None:
    calls = [ToolCallBlock(tool_call_id=name, tool_name="look", tool_kwargs={"at": name}) for name in "ab"]
    result = functools.partial(ChatMessage, role="tool")
    history = [
        ChatMessage(role="user", content="Look at a and b"),
        ChatMessage(role="assistant", blocks=calls),
        result(blocks=[TextBlock(text="here"), ImageBlock(image=cat)], additional_kwargs={"tool_call_id": "a"}),
        result(blocks=[TextBlock(text="none")], additional_kwargs={"tool_call_id": "b"}),
        ChatMessage(role="user", content="Well?"),
    ]
    before = copy.deepcopy(history)
    llm.chat(history)
    image = {"type": "image_url", "image_url": {"url": data_uri(cat)}}
    assert box.requests[-1]["messages"][2:] == [
        {"role": "tool", "content": "here", "tool_call_id": "a"},
        {"role": "tool", "content": "none", "tool_call_id": "b"},
        {"role": "user", "content": [image]},
        {"role": "user", "content": "Well?"},
    ]
    assert history == before


def test_images_of_two_tool_results_are_labelled(llm: PredictionGuard, box: Sandbox, cat: bytes) -> None:
    calls = [ToolCallBlock(tool_call_id=name, tool_name="look", tool_kwargs={}) for name in "ab"]
    results = [
        ChatMessage(role="tool", blocks=[ImageBlock(image=cat)], additional_kwargs={"tool_call_id": name})
        for name in "ab"
    ]
    llm.chat([ChatMessage(role="user", content="Look"), ChatMessage(role="assistant", blocks=calls), *results])
    image = {"type": "image_url", "image_url": {"url": data_uri(cat)}}
    assert box.requests[-1]["messages"][2:] == [
        {"role": "tool", "content": FOLLOWS, "tool_call_id": "a"},
        {"role": "tool", "content": FOLLOWS, "tool_call_id": "b"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "From the result of tool call a:"},
                image,
                {"type": "text", "text": "From the result of tool call b:"},
                image,
            ],
        },
    ]


def test_an_invalid_image_in_a_tool_result_is_refused_with_its_location(llm: PredictionGuard) -> None:
    history = [
        ChatMessage(role="user", content="Look"),
        ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="a", tool_name="look")]),
        ChatMessage(
            role="tool",
            blocks=[TextBlock(text="here"), ImageBlock(image=b"no image")],
            additional_kwargs={"tool_call_id": "a"},
        ),
    ]
    with pytest.raises(adapter.ImageFormatError) as caught:
        llm.chat(history)
    assert (caught.value.message_index, caught.value.block_index) == (2, 1)


def test_a_path_or_text_in_place_of_an_image_is_explained(
    llm: PredictionGuard, make_multi: Any, box: Sandbox, tmp_path: Path
) -> None:
    for text in (
        "cat.jpg",
        "photos/my cat.jpeg",
        "C:\\photos\\cat.png",
        "https://example.com/cat.jpg",
        "a cat",
        "x" * 99,
    ):
        with pytest.raises(adapter.ImageFormatError, match=r"image must be bytes or base64, got .*path="):
            llm.chat(question(ImageBlock(image=text)))
        with pytest.raises(adapter.ImageFormatError, match=r"image must be bytes or base64, got .*image_path="):
            make_multi().complete("?", [ImageDocument(image=text)])
    for name in ("cat.jpg", "image/cat.jpg"):
        with pytest.raises(adapter.ImageFormatError, match=f"got '{name}'.*image_path="):
            make_multi().complete("?", [ImageNode(image=name)])
    for path in (tmp_path, tmp_path / "missing.jpg"):
        with pytest.raises(adapter.ImageError, match=r"but a folder|No such file") as caught:
            make_multi().complete("?", [ImageNode(image_path=str(path))])
        assert path.name in str(caught.value)
    assert box.requests == []
