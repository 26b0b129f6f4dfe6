"""Proxies that the environment names: used, bounded by the timeout, and named where they fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from predictionguard_core import APIConnectionError, APITimeoutError, AsyncClient, ChatRequest, Client
from predictionguard_core.errors import ConfigurationError, PredictionGuardError
from predictionguard_core.http import shared_clients
from predictionguard_core.http.proxies import Proxies
from predictionguard_core.images.policy import ImagePolicy
from tests.core.images.samples import question
from tests.faults.server import KEEP, Drip, FaultServer, answer, unused_port

HELLO = ChatRequest(model="m", messages="Hello")
GOOD = answer(200, {"choices": [{"message": {"content": "hello"}}]})
BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No shared client yet: it reads the environment when it is made."""
    registry = shared_clients._Registry()
    monkeypatch.setattr(shared_clients, "_registry", registry)
    yield
    if registry.client is not None:
        registry.client.close()


def ask(is_async: bool, url: str, **options: Any) -> str | None:
    if is_async:
        return asyncio.run(AsyncClient("key", url, **options).chat(HELLO)).message.content
    return Client("key", url, **options).chat(HELLO).message.content


@BOTH
class TestCalls:
    def test_go_through_it(self, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        with FaultServer([GOOD.replace(b"connection: close\r\n", b""), KEEP], GOOD) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{proxy.port}")
            assert ask(is_async, "http://service.example") == "hello"
            (request,) = proxy.requests
            assert request.path == "http://service.example/chat/completions"
            assert request.headers["proxy-authorization"].startswith("Basic ")

    def test_go_past_it_to_this_machine_and_to_hosts_in_no_proxy(
        self, is_async: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{unused_port()}")
        monkeypatch.setenv("NO_PROXY", "service.example")
        with FaultServer(GOOD) as server:
            assert ask(is_async, server.url) == "hello"
            assert ask(is_async, server.url.replace("127.0.0.1", "localhost")) == "hello"
        found = Proxies.from_environment()
        assert found.find("http", "service.example") is None
        assert found.find("http", "other.example") is not None

    def test_end_with_their_timeout_although_the_head_drips(
        self, is_async: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delivered = threading.Event()
        with FaultServer([Drip(GOOD, 0.1), delivered.set]) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(APITimeoutError):
                ask(is_async, "http://service.example", timeout=0.5, max_retries=0)
            assert not delivered.is_set()

    def test_say_which_proxy_can_not_be_reached(self, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        port = unused_port()
        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{port}")
        with pytest.raises(APIConnectionError, match=f"proxy .*http://127.0.0.1:{port}") as caught:
            ask(is_async, "http://service.example", max_retries=0)
        assert "secret" not in f"{caught.value!r}{caught.value}"

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("status", [401, 407])
    def test_ask_a_proxy_that_refuses_the_password_once(
        self, is_async: bool, scheme: str, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with FaultServer(answer(status, "no", proxy_authenticate="Basic")) as proxy:
            monkeypatch.setenv(f"{scheme}_proxy", f"http://user:secret@127.0.0.1:{proxy.port}")
            text = rf"the proxy http://127\.0\.0\.1:{proxy.port} refused .*{status}.*user name and password"
            with pytest.raises(APIConnectionError, match=text) as caught:
                ask(is_async, f"{scheme}://service.example")
            assert len(proxy.requests) == 1
        assert "secret" not in f"{caught.value!r}{caught.value}"

    def test_try_again_where_a_proxy_is_only_busy(self, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        with FaultServer(answer(503, "busy", retry_after="0")) as proxy:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(APIConnectionError, match="503"):
                ask(is_async, "https://service.example", max_retries=1)
            assert len(proxy.requests) == 2

    @pytest.mark.parametrize(
        "value",
        ["http://[::1", "http://proxy:notaport", "gopher://127.0.0.1:9", "http://", "socks5://127.0.0.1:9"],
    )
    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
    def test_name_a_variable_that_can_not_be_used(
        self, is_async: bool, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(ConfigurationError, match=f"a proxy that can't be used: {variable}"):
            ask(is_async, "http://service.example")

    def test_show_no_password_of_a_malformed_url(self, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy:notaport")
        with pytest.raises(ConfigurationError) as caught:
            ask(is_async, "http://service.example")
        assert "secret" not in f"{caught.value!r}{caught.value}"

    def test_do_not_use_it_for_images(self, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        with FaultServer(answer(200, b"x")) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(PredictionGuardError):
                ask_about(is_async, f"http://localhost:{unused_port()}/a.png")
            assert proxy.requests == []

    def test_of_a_users_own_client_name_its_proxy(self, is_async: bool) -> None:
        with FaultServer(answer(407, "no")) as proxy:
            kind: Any = httpx.AsyncClient if is_async else httpx.Client
            own = kind(proxy=f"http://user:secret@127.0.0.1:{proxy.port}")
            with pytest.raises(APIConnectionError, match=r"the proxy refused .*407"):
                ask(is_async, "http://service.example", http_client=own)
            assert len(proxy.requests) == 1


def ask_about(is_async: bool, image_url: str) -> Any:
    options: dict[str, Any] = {"images": ImagePolicy(allow_private_hosts=True)}
    if is_async:
        return asyncio.run(AsyncClient("key", "http://service.example", **options).chat(question(image_url)))
    return Client("key", "http://service.example", **options).chat(question(image_url))
