"""PDFs become images of their pages."""

from __future__ import annotations

import asyncio
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from predictionguard_core import (
    AsyncClient,
    ChatRequest,
    Client,
    ImageFormatError,
    ImagePolicy,
    ImageTooLargeError,
    UnsupportedContentError,
)
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.images import decoder, detect
from predictionguard_core.images import pdf as pdf_pages
from predictionguard_core.sandbox import Sandbox
from tests.image_helpers import pdf

VISION = "Qwen2.5-VL-7B-Instruct"
INCH = 72
DOCUMENT = pdf(Image.new("RGB", (2 * INCH, 3 * INCH), "red"), Image.new("RGB", (4 * INCH, INCH), "blue"))


def asked(*sources: Any) -> ChatRequest:
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": source, "detail": "low"}} for source in sources]
    return ChatRequest(
        model=VISION, messages=[{"role": "user", "content": [{"type": "text", "text": "Describe."}, *parts]}]
    )


def render(data: bytes, policy: ImagePolicy) -> list[bytes]:
    header = detect.Header("application/pdf", 0, 0)
    return [page.data for page in decoder.decode(data, header, policy)]


def sizes(drawn: list[bytes]) -> list[tuple[int, int]]:
    return [Image.open(BytesIO(each)).size for each in drawn]


def test_each_page_in_its_order_at_the_resolution_that_is_asked_for() -> None:
    drawn = render(DOCUMENT, ImagePolicy(pdf_dpi=100))
    assert sizes(drawn) == [(200, 300), (400, 100)]
    colors = [Image.open(BytesIO(each)).getpixel((50, 50)) for each in drawn]
    assert [max(range(3), key=lambda band: color[band]) for color in colors] == [0, 2]  # type: ignore[index]


def test_no_edge_is_longer_than_the_policy_allows() -> None:
    assert sizes(render(DOCUMENT, ImagePolicy(max_edge=120))) == [(80, 120), (120, 30)]


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [(ImagePolicy(max_pages=1), ("2", "1")), (ImagePolicy(max_pixels=1000), ("135,000", "1,000"))],
)
def test_limits_say_both_numbers(policy: ImagePolicy, numbers: tuple[str, str]) -> None:
    with pytest.raises(ImageTooLargeError) as caught:
        render(DOCUMENT, policy)
    assert all(number in str(caught.value) for number in numbers)


@pytest.mark.parametrize("damaged", [b"%PDF-1.7", b"%PDF-1.7\n" + b"x" * 1000, DOCUMENT[: len(DOCUMENT) // 4]])
def test_a_damaged_document(damaged: bytes) -> None:
    with pytest.raises(ImageFormatError):
        render(damaged, ImagePolicy())


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_pages, "is_available", lambda: False)
    with pytest.raises(UnsupportedContentError, match=r"predictionguard-integrations\[pdf\]"):
        Client("key", "http://127.0.0.1:9").chat(asked(DOCUMENT))


def test_pages_replace_the_document_in_its_place(sandbox: Sandbox, photos: Path) -> None:
    answer = Client("key", sandbox.url, images=ImagePolicy(pdf_dpi=INCH)).chat(
        asked(photos / "cat.jpg", DOCUMENT, photos / "coffee.jpg")
    )
    assert answer.message.content is not None
    places = [answer.message.content.index(size) for size in ("451 x 300", "144 x 216", "288 x 72", "600 x 400")]
    assert places == sorted(places)
    assert {part["image_url"]["detail"] for part in sandbox.requests[-1]["messages"][0]["content"][1:]} == {"low"}


def test_asynchronously_and_off_the_loop(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    decode = decoder.decode

    def watched(*arguments: Any) -> list[Any]:
        threads.append(threading.current_thread())
        return decode(*arguments)

    monkeypatch.setattr(decoder, "decode", watched)
    answer = asyncio.run(AsyncClient("key", sandbox.url).chat(asked(DOCUMENT)))
    assert "2 images" in str(answer.message.content)
    assert [thread is threading.main_thread() for thread in threads] == [False]


def test_pages_count_as_images(sandbox: Sandbox) -> None:
    with pytest.raises(ImageTooLargeError, match="2 images, the policy allows 1"):
        Client("key", sandbox.url, images=ImagePolicy(max_images=1)).chat(asked(DOCUMENT))
    assert sandbox.requests == []


def test_many_threads_at_once() -> None:
    drawn: list[list[tuple[int, int]]] = []
    threads = [
        threading.Thread(target=lambda: drawn.append(sizes(render(DOCUMENT, ImagePolicy(pdf_dpi=INCH)))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [[(144, 216), (288, 72)]] * 8


def test_an_embedding_takes_one_image(sandbox: Sandbox) -> None:
    client = Client("key", sandbox.url)
    request = EmbeddingRequest(model="bridgetower-large-itm-mlm-itc", input=[EmbeddingInput(image=DOCUMENT)])
    with pytest.raises(UnsupportedContentError, match="2 pages") as caught:
        client.embed(request)
    assert caught.value.block_index == 0
