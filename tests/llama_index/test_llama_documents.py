"""A PDF in a document block is asked about by pictures of its pages."""

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

from llama_index_predictionguard import ImageFormatError, ImagePolicy, PredictionGuard
from predictionguard_core.sandbox import Sandbox
from tests.stand_ins import pdf

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
    given: dict[str, dict[str, Any]] = {
        "bytes": {"data": DOCUMENT},
        "base64": {"data": text},
        "open file": {"data": BytesIO(DOCUMENT)},
        "path": {"path": path},
        "data URI": {"url": f"data:application/pdf;base64,{text.decode()}"},
    }
    try:
        return DocumentBlock(**given[request.param])
    except ValueError:
        pytest.skip("this release of llama-index-core takes no such document")


def test_its_pages_are_seen_in_their_order(pages: PredictionGuard, block: DocumentBlock) -> None:
    answer = str(pages.chat(asked(block)).message.content)
    assert answer.index("144 x 216") < answer.index("288 x 72")


async def test_asynchronously(pages: PredictionGuard, block: DocumentBlock) -> None:
    answer = str((await pages.achat(asked(block))).message.content)
    assert answer.index("144 x 216") < answer.index("288 x 72")


def test_a_document_that_is_no_pdf_is_refused_with_its_place(pages: PredictionGuard, box: Sandbox) -> None:
    with pytest.raises(ImageFormatError) as caught:
        pages.chat(asked(DocumentBlock(data=b"Dear Sir or Madam, this is a letter.", title="letter.txt")))
    assert (caught.value.message_index, caught.value.block_index) == (0, 1)
    assert box.requests == []
