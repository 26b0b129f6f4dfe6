"""What every test may use: a running stand-in API, the photographs, and an environment that decides nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from predictionguard_core.sandbox import Sandbox

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Without this machine's key, address and proxies."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("PREDICTIONGUARD_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder with the photographs of the notebooks."""
    return ROOT / "notebooks" / "photos"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A stand-in API of this test's own."""
    with Sandbox() as box:
        yield box
