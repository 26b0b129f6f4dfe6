"""The live service: where it is, which models it has, and what it does otherwise than the sandbox.

The suite runs where PREDICTIONGUARD_API_KEY is set (and PREDICTIONGUARD_URL, if it is not the public service).
PREDICTIONGUARD_MODEL names the vision model, if it is not to be the account's first. PREDICTIONGUARD_LIVE=sandbox runs
it against a sandbox in place of the service, which tests the suite itself.
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

# Read while tests are collected: the fixtures of the other tests take all of it out of the environment.
KEY = os.environ.get("PREDICTIONGUARD_API_KEY", "")
URL = os.environ.get("PREDICTIONGUARD_URL", "")
MODEL = os.environ.get("PREDICTIONGUARD_MODEL", "")
IS_SANDBOX = os.environ.get("PREDICTIONGUARD_LIVE") == "sandbox"
REASON = "PREDICTIONGUARD_API_KEY is not set: these tests ask the live service"
HERE = Path(__file__).parent

found: dict[str, list[str]] = {}
"""To each probe what the live service does otherwise."""


@dataclasses.dataclass(frozen=True)
class Service:
    """Where questions go, with which key, and the models there."""

    url: str
    key: str
    models: tuple[Model, ...]

    def model(self, capability: Capability, *, but_not: Capability | None = None) -> str:
        """The name of a model that can do this; skips the test where the account has none."""
        if MODEL and capability == "chat-with-image":
            return MODEL
        for model in self.models:
            if can(model, capability) and not (but_not and can(model, but_not)):
                return model.id
        pytest.skip(f"this account has no model for {capability}")

    def http(self) -> httpx.Client:
        """A plain client of this service's."""
        headers = {"Authorization": f"Bearer {self.key}"}
        is_near = "//127.0.0.1" in self.url
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=not is_near)


def can(model: Model, capability: str) -> bool:
    """Whether a model says that it has a capability, however it is spelled."""
    wanted = capability.replace("-", "_")
    return any(is_so and name.replace("-", "_") == wanted for name, is_so in model.capabilities.items())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not KEY and not IS_SANDBOX:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """What the live service is compared to."""
    with Sandbox(api_key="sandbox") as box:
        yield box


@pytest.fixture(scope="session")
def stand_in(sandbox: Sandbox) -> Service:
    return known(sandbox.url, "sandbox")


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The live service, or the sandbox in its place."""
    if IS_SANDBOX:
        with Sandbox(api_key="live") as box:
            yield known(box.url, "live")
    else:
        with Client(KEY, URL or None) as client:
            url = client.base_url
        yield known(url, KEY)


def known(url: str, key: str) -> Service:
    with Client(key, url) as client:
        return Service(url, key, tuple(client.models()))


@pytest.fixture(autouse=True)
def _own_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the fixture of the other tests: an environment that leads to the service, by way of its proxies."""
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", service.key)
    monkeypatch.setenv("PREDICTIONGUARD_URL", service.url)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not found:
        return
    other = sum(map(bool, found.values()))
    terminalreporter.section("The live service and the sandbox")
    terminalreporter.write_line(f"{len(found)} requests were compared, {other} were answered otherwise.")
    for probe, told in found.items():
        for index, each in enumerate(told):
            terminalreporter.write_line(f"{probe if not index else '':<40} {each}")
