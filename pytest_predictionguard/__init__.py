"""A pytest plugin: a mock of Prediction Guard's API for each test that asks for one.

    def test_my_chain(predictionguard_sandbox):
        predictionguard_sandbox.fail(429, times=3, model="Qwen2.5-VL-7B-Instruct")
        ...

pytest finds it by itself where this distribution is installed. It is not part of the packages that it serves, and
loads them at the first use: a test session that never asks for a sandbox pays nothing for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from predictionguard_core.sandbox import Sandbox

_KEY = "key-of-the-pytest-fixture"  # not the key of use_if_no_key, which would start a sandbox of its own


@pytest.fixture
def predictionguard_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A running mock of Prediction Guard's API; the test's environment points to it.

    PREDICTIONGUARD_API_KEY and PREDICTIONGUARD_URL are set, and proxies are kept out of the way, until the test ends;
    models that the test makes without a key and URL of their own go there. `requests` holds what was sent, and `fail`,
    `stall`, `cut_stream`, `answer` and others script what happens to the next requests. A test fails if it scripts
    something for a number of requests and no request meets it.
    """
    from predictionguard_core.sandbox import Sandbox

    with Sandbox() as box:
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", _KEY)
        monkeypatch.setenv("PREDICTIONGUARD_URL", box.url)
        for name in ("NO_PROXY", "no_proxy"):
            before = os.environ.get(name, "")
            monkeypatch.setenv(name, before if before == "*" else f"{before},127.0.0.1".lstrip(","))
        yield box
        unmet = ", ".join(map(repr, box.unmet))
    if unmet:
        pytest.fail(f"scripted, but no request met it: {unmet}", pytrace=False)
