from __future__ import annotations

from collections.abc import Iterator

import pytest

from predictionguard_core.sandbox import Sandbox
from tests.images_end_to_end.fake_network import Decoy, FakeNetwork


@pytest.fixture(scope="session")
def _service() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture
def box(_service: Sandbox) -> Sandbox:
    """A sandbox that has forgotten the requests of other tests."""
    _service.clear()
    return _service


@pytest.fixture
def network(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    """This test's network."""
    return FakeNetwork(monkeypatch, int(box.url.rpartition(":")[2].strip("/")))


@pytest.fixture(scope="session")
def _decoy() -> Iterator[Decoy]:
    with Decoy() as decoy:
        yield decoy


@pytest.fixture
def decoy(_decoy: Decoy) -> Decoy:
    """A server that must not be reached, with its count of connections at zero."""
    _decoy.hits = 0
    return _decoy
