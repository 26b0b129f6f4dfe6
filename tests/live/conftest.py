"""Fixtures for the live service, and the report of how it differs from the sandbox.

These tests run if PREDICTIONGUARD_API_KEY is set. PREDICTIONGUARD_URL selects another service than the public one.
PREDICTIONGUARD_MODEL selects the vision model; the default is the first that the account has. With
PREDICTIONGUARD_LIVE=sandbox, a sandbox replaces the service, to test these tests themselves.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from predictionguard_core import Client
from predictionguard_core.api.models import Capability, Model
from predictionguard_core.sandbox import Sandbox

# Read at import: a fixture in tests/conftest.py removes these variables before each test.
KEY = os.environ.get("PREDICTIONGUARD_API_KEY", "")
URL = os.environ.get("PREDICTIONGUARD_URL", "")
MODEL = os.environ.get("PREDICTIONGUARD_MODEL", "")
IS_SANDBOX = os.environ.get("PREDICTIONGUARD_LIVE") == "sandbox"
REASON = "PREDICTIONGUARD_API_KEY is not set: these tests ask the live service"
HERE = Path(__file__).parent

found: dict[str, list[str]] = {}
"""The differences between the live service and the sandbox, by request."""


@dataclasses.dataclass(frozen=True)
class Service:
    """URL, API key and models of a service."""

    url: str
    key: str
    models: tuple[Model, ...]

    def model(self, capability: Capability, *, but_not: Capability | None = None) -> str:
        """Return the name of a model with this capability. Skip the test if the account has none."""
        if MODEL and capability == "chat-with-image":
            return MODEL
        for model in self.models:
            if can(model, capability) and not (but_not and can(model, but_not)):
                return model.id
        pytest.skip(f"this account has no model for {capability}")

    def http(self) -> httpx.Client:
        """Return an httpx client for this service."""
        headers = {"Authorization": f"Bearer {self.key}"}
        is_loopback = "//127.0.0.1" in self.url
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=not is_loopback)


def can(model: Model, capability: str) -> bool:
    """Return whether a model lists a capability, spelled with hyphens or underscores."""
    wanted = capability.replace("-", "_")
    return any(is_supported and name.replace("-", "_") == wanted for name, is_supported in model.capabilities.items())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not KEY and not IS_SANDBOX:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """The sandbox that the live service is compared with."""
    with Sandbox(api_key="sandbox") as box:
        yield box


@pytest.fixture(scope="session")
def sandbox_service(sandbox: Sandbox) -> Service:
    return connect(sandbox.url, "sandbox")


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The live service, or a sandbox that replaces it."""
    if IS_SANDBOX:
        with Sandbox(api_key="live") as box:
            yield connect(box.url, "live")
    else:
        with Client(KEY, URL or None) as client:
            url = client.base_url
        yield connect(url, KEY)


def connect(url: str, key: str) -> Service:
    with Client(key, url) as client:
        return Service(url, key, tuple(client.models()))


@pytest.fixture(autouse=True)
def _own_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the environment to the service. Overrides the fixture of tests/conftest.py, which removes proxies."""
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", service.key)
    monkeypatch.setenv("PREDICTIONGUARD_URL", service.url)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not found:
        return
    different = sum(map(bool, found.values()))
    terminalreporter.section("The live service and the sandbox")
    terminalreporter.write_line(f"{len(found)} requests were compared, {different} were answered differently.")
    for probe, lines in found.items():
        for index, each in enumerate(lines):
            terminalreporter.write_line(f"{probe if not index else '':<40} {each}")
