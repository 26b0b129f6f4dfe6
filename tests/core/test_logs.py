"""Logs: one DEBUG line per request, without message content."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from predictionguard_core import ChatRequest, Client, NotFoundError
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.sandbox import Sandbox


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "predictionguard_core"]


def question(image: Path, model: str = "Qwen2.5-VL-7B-Instruct") -> ChatRequest:
    parts = [{"type": "text", "text": "a private word"}, {"type": "image_url", "image_url": {"url": image}}]
    return ChatRequest(model=model, messages=[{"role": "user", "content": parts}])


def test_a_request_is_one_line(sandbox: Sandbox, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = Client("key-of-the-tests", sandbox.url)
    with caplog.at_level(logging.DEBUG):
        client.chat(question(photos / "cat.jpg"))
        with pytest.raises(NotFoundError):
            client.chat(question(photos / "cat.jpg", model="no-such-model"))
        client.embed(
            EmbeddingRequest(model="bridgetower-large-itm-mlm-itc", input=[EmbeddingInput(image=photos / "cat.jpg")])
        )
    good, bad, listed, embedded = lines(caplog)
    assert good.startswith("POST /chat/completions model=Qwen2.5-VL-7B-Instruct bytes=")
    assert "images=['<image/jpeg 451×300 sha256:" in good
    assert "attempts=1 outcome=200" in good
    assert "outcome=NotFoundError" in bad
    assert listed.startswith("GET /models model=None bytes=0 images=[] attempts=1 outcome=200")  # for a suggestion
    assert "images=['<image/jpeg 451×300 sha256:" in embedded
    assert not [word for word in ("private", "key-of-the-tests", "/9j/") if word in caplog.text]


def test_nothing_is_logged_by_default(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    Client("key", sandbox.url).chat(ChatRequest(model="Qwen2.5-VL-7B-Instruct", messages="Hello"))
    assert capfd.readouterr() == ("", "")
