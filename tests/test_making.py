"""Making a model is cheap: nothing goes over the network and no TLS context is made, whoever makes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PREPARATION = """
import ssl, sys
seen = []
make = ssl.SSLContext.__new__
def counted(cls, *args, **kwargs):
    seen.append("a TLS context")
    return make(cls, *args, **kwargs)
def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"):
        seen.append(event)
arguments = {"model": "any", "api_key": "a-key-of-no-worth", "base_url": "https://127.0.0.1:1"}
"""
MAKING = """
ssl.SSLContext.__new__ = counted
sys.addaudithook(note)
made = [each(**arguments) for each in classes for _ in range(3)]
assert not seen, seen
"""


@pytest.mark.parametrize(
    "classes",
    [
        "from langchain_predictionguard import ChatPredictionGuard as A, PredictionGuard as B,"
        " PredictionGuardEmbeddings as C, PredictionGuardRerank as D; classes = A, B, C, D",
        "from llama_index_predictionguard import PredictionGuard as A, PredictionGuardMultiModal as B,"
        " PredictionGuardEmbedding as C, PredictionGuardRerank as D; classes = A, B, C, D",
        "from predictionguard_core import Client as A, AsyncClient as B; classes = A, B; del arguments['model']",
    ],
    ids=["langchain", "llama-index", "core"],
)
def test_touches_nothing(classes: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PREPARATION + classes + MAKING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_this_page_can_tell() -> None:
    code = PREPARATION + "import httpx\nclasses = [lambda **_: httpx.Client()]" + MAKING
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert "a TLS context" in run.stderr
