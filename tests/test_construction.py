"""Creating a model or client is cheap: it opens no connection, resolves no host and creates no TLS context."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PREPARE = """
import ssl, sys
recorded = []
original_new = ssl.SSLContext.__new__
def counting_new(cls, *args, **kwargs):
    recorded.append("a TLS context")
    return original_new(cls, *args, **kwargs)
def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"):
        recorded.append(event)
arguments = {"model": "any", "api_key": "a-worthless-key", "base_url": "https://127.0.0.1:1"}
"""
CREATE = """
ssl.SSLContext.__new__ = counting_new
sys.addaudithook(hook)
created = [each(**arguments) for each in classes for _ in range(3)]
assert not recorded, recorded
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run the code in a new process: an audit hook cannot be removed."""
    command = [sys.executable, "-c", PREPARE + code + CREATE]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


CLASSES = """
import langchain_predictionguard as lc, llama_index_predictionguard as li, predictionguard_core as core
classes = [
    lambda api_key, base_url, model: core.Client(api_key, base_url),
    lambda api_key, base_url, model: core.AsyncClient(api_key, base_url),
    lc.ChatPredictionGuard, lc.PredictionGuard, lc.PredictionGuardEmbeddings, lc.PredictionGuardRerank,
    li.PredictionGuard, li.PredictionGuardMultiModal, li.PredictionGuardEmbedding, li.PredictionGuardRerank,
]
"""


def test_creating_a_model_opens_no_connection_and_no_tls_context() -> None:
    process = run(CLASSES)
    assert process.returncode == 0, process.stderr


def test_a_tls_context_would_be_noticed() -> None:
    """Prove that the test above can fail: httpx.Client creates a TLS context."""
    assert "a TLS context" in run("import httpx\nclasses = [lambda **_: httpx.Client()]").stderr
