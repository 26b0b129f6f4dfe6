"""Document blocks: a PDF is sent as images of its pages, text as text."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import DocumentBlock
from llama_index.core.llms import ChatMessage, TextBlock
from PIL import Image

from llama_index_predictionguard import ImageBlockedError, ImageFormatError, ImagePolicy, PredictionGuard
from predictionguard_core.sandbox import Sandbox
from tests.image_helpers import pdf

DOCUMENT = pdf(Image.new("RGB", (144, 216), "red"), Image.new("RGB", (288, 72), "blue"))


def asked(block: Any) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=[TextBlock(text="Describe."), block])]


@pytest.fixture
def pages(make: Callable[..., PredictionGuard]) -> PredictionGuard:
    return make(images=ImagePolicy(pdf_dpi=72))


@pytest.fixture(params=["bytes", "base64", "open file", "path", "data URI"])
def block(request: pytest.FixtureRequest, tmp_path: Path) -> DocumentBlock:
    path = tmp_path / "paper.bin"
    path.write_bytes(DOCUMENT)
    text = base64.b64encode(DOCUMENT)
    fields: dict[str, dict[str, Any]] = {
        "bytes": {"data": DOCUMENT},
        "base64": {"data": text},
        "open file": {"data": BytesIO(DOCUMENT)},
        "path": {"path": path},
        "data URI": {"url": f"data:application/pdf;base64,{text.decode()}"},
    }
    try:
        return DocumentBlock(**fields[request.param])
    except ValueError:
        pytest.skip("this release of llama-index-core takes no such document")


def test_pages_are_sent_in_order(pages: PredictionGuard, block: DocumentBlock) -> None:
    answer = str(pages.chat(asked(block)).message.content)
    assert answer.index("144 x 216") < answer.index("288 x 72")


async def test_pages_in_async_calls(pages: PredictionGuard, block: DocumentBlock) -> None:
    answer = str((await pages.achat(asked(block))).message.content)
    assert answer.index("144 x 216") < answer.index("288 x 72")


TEXT = "city,temperature\nParis,21\nZürich,17\n"


@pytest.mark.parametrize("form", ["bytes", "base64", "open file", "path", "data URI", "markdown path"])
async def test_text_is_sent_as_text(form: str, pages: PredictionGuard, box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / ("notes.md" if form.startswith("markdown") else "cities.csv")
    path.write_text(TEXT)
    encoded = base64.b64encode(TEXT.encode())
    fields: dict[str, dict[str, Any]] = {
        "bytes": {"data": TEXT.encode()},
        "base64": {"data": encoded, "document_mimetype": "text/csv"},
        "open file": {"data": BytesIO(TEXT.encode())},
        "path": {"path": path},
        "data URI": {"url": f"data:text/csv;base64,{encoded.decode()}"},
        "markdown path": {"path": str(path)},
    }
    block = DocumentBlock(**fields[form])
    pages.chat(asked(block))
    await pages.achat(asked(block))
    assert [body["messages"][0]["content"] for body in box.requests] == [f"Describe.\n{TEXT}"] * 2


def test_the_title_of_a_text_document_is_sent(pages: PredictionGuard, box: Sandbox) -> None:
    pages.chat(asked(DocumentBlock(data=TEXT.encode(), title="cities.csv")))
    assert box.requests[-1]["messages"][0]["content"] == f"Describe.\ncities.csv:\n{TEXT}"


def test_a_text_file_is_read_only_below_the_local_roots(make: Callable[..., PredictionGuard], tmp_path: Path) -> None:
    path = tmp_path / "secrets.csv"
    path.write_text(TEXT)
    with pytest.raises(ImageBlockedError) as caught:
        make(images={"local_roots": [str(tmp_path / "public")]}).chat(asked(DocumentBlock(path=path)))
    assert (caught.value.message_index, caught.value.block_index) == (0, 1)


@pytest.mark.parametrize("data", [b"\x00\x01\x02 binary", b"\xff\xfe\xfd\xfc"])
def test_a_document_of_another_kind_is_refused_with_its_location(
    data: bytes, pages: PredictionGuard, box: Sandbox
) -> None:
    with pytest.raises(ImageFormatError, match="must be a PDF, an image or text in UTF-8") as caught:
        pages.chat(asked(DocumentBlock(data=data)))
    assert (caught.value.message_index, caught.value.block_index) == (0, 1)
    assert box.requests == []
