"""Fixtures and settings of all tests: a running sandbox, photos, an environment without keys and proxies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from predictionguard_core.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
SLOW_FOLDERS = [ROOT / "tests" / name for name in ("benchmarks", "endurance", "faults", "package")]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # LangChain's suite has benchmarks. pytest-benchmark, which comes with it, would print that xdist disables them.
    if hasattr(config.option, "benchmark_disable"):
        config.option.benchmark_disable = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(folder in item.path.parents for folder in SLOW_FOLDERS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _clean_environment() -> Iterator[None]:
    """Remove the key, URL and proxies of the user's environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("PREDICTIONGUARD_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder with the photos of the notebooks."""
    return ROOT / "notebooks" / "photos"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox for this test alone."""
    with Sandbox() as box:
        yield box
