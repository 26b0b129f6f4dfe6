"""Certificates: what is wrong with those that the environment names, and servers that are not trusted."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from predictionguard_core import APIConnectionError, AsyncClient, ChatRequest, Client, ImageFetchError
from predictionguard_core.errors import ConfigurationError
from predictionguard_core.http import shared_clients, tls
from predictionguard_core.images.policy import ImagePolicy
from tests.core.images.samples import question
from tests.faults.server import FaultServer, answer

HELLO = ChatRequest(model="m", messages="Hello")
GOOD = answer(200, {"choices": [{"message": {"content": "hello"}}]})
BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
AUTHORITY = trustme.CA()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(GOOD)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    connections = 0

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def handle_error(self, *args: Any) -> None:
        """Print nothing about a client that does not trust us."""


@pytest.fixture
def server() -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No shared client and no TLS context yet: they read the environment when they are made."""
    registry = shared_clients._Registry()
    monkeypatch.setattr(shared_clients, "_registry", registry)
    monkeypatch.setattr(tls, "_cache", tls._Cache())
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    yield
    if registry.client is not None:
        registry.client.close()


def ask(is_async: bool, url: str, request: ChatRequest = HELLO, **options: Any) -> str | None:
    if is_async:
        return asyncio.run(AsyncClient("key", url, **options).chat(request)).message.content
    return Client("key", url, **options).chat(request).message.content


def bad_files(folder: Path) -> dict[str, tuple[str, Path]]:
    empty, garbage, empty_folder = folder / "empty.pem", folder / "garbage.pem", folder / "folder"
    empty.write_bytes(b"")
    garbage.write_bytes(b"\x00not a certificate")
    empty_folder.mkdir()
    return {
        "missing file": ("SSL_CERT_FILE", folder / "missing.pem"),
        "a folder for a file": ("SSL_CERT_FILE", empty_folder),
        "an empty file": ("SSL_CERT_FILE", empty),
        "garbage": ("SSL_CERT_FILE", garbage),
        "missing folder": ("SSL_CERT_DIR", folder / "missing"),
        "a file for a folder": ("SSL_CERT_DIR", empty),
        "an empty folder": ("SSL_CERT_DIR", empty_folder),
    }


@BOTH
def test_a_variable_that_names_no_certificate_is_named(
    is_async: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (variable, path) in bad_files(tmp_path).items():
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(path))
            with pytest.raises(ConfigurationError) as caught:
                ask(is_async, "https://localhost:1")
            assert variable in str(caught.value), name
            assert str(path) in str(caught.value), name
            with FaultServer(GOOD) as server:  # without TLS nobody needs certificates
                assert ask(is_async, server.url) == "hello", name


@BOTH
def test_a_certificate_that_is_not_trusted_is_the_cause_and_asked_for_once(
    is_async: bool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://localhost:{server.server_port}"
    with pytest.raises(APIConnectionError, match=r"certificate of .* is not trusted.*SSL_CERT_FILE") as caught:
        ask(is_async, url)
    assert "REQUESTS_CA_BUNDLE" not in str(caught.value)
    assert server.connections == 1
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/somewhere.pem")
    with pytest.raises(APIConnectionError, match="REQUESTS_CA_BUNDLE is not read"):
        ask(is_async, url)


@BOTH
def test_the_environment_adds_an_authority(
    is_async: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert ask(is_async, f"https://localhost:{server.server_port}") == "hello"


@BOTH
def test_an_image_of_a_host_that_is_not_trusted(is_async: bool, server: Server) -> None:
    with FaultServer(GOOD) as service:
        request = question(f"https://localhost:{server.server_port}/a.png")
        with pytest.raises(ImageFetchError, match=r"localhost .*not trusted.*SSL_CERT_FILE"):
            ask(is_async, service.url, request, images=ImagePolicy(allow_private_hosts=True))
