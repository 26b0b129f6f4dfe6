"""API key, URL, timeout, retries: the argument, else the environment, else the default."""

from __future__ import annotations

import pickle
import socket
from typing import Any

import pytest
from pydantic import SecretStr

from predictionguard_core import settings
from predictionguard_core.errors import ConfigurationError

KEY = "pg-s3cr3t"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "from-environment")
    monkeypatch.setenv("PREDICTIONGUARD_URL", "https://environment.example/v1")
    return monkeypatch


def test_the_defaults() -> None:
    found = settings.resolve_settings(KEY)
    assert found.api_key.get_secret_value() == KEY
    assert (found.base_url, found.timeout, found.max_retries) == ("https://api.predictionguard.com", 120.0, 2)


def test_the_environment_goes_before_the_default(environment: Any) -> None:
    found = settings.resolve_settings()
    assert found.api_key.get_secret_value() == "from-environment"
    assert found.base_url == "https://environment.example/v1"


@pytest.mark.parametrize("key", [KEY, SecretStr(KEY), f" {KEY}\n"])
def test_the_argument_goes_before_the_environment(environment: Any, key: Any) -> None:
    found = settings.resolve_settings(key, "http://argument.example:8080/", timeout=3, max_retries=0)
    assert found.api_key.get_secret_value() == KEY
    assert (found.base_url, found.timeout, found.max_retries) == ("http://argument.example:8080", 3.0, 0)


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_argument_counts_as_unset(environment: Any, empty: Any) -> None:
    found = settings.resolve_settings(empty, empty)
    assert (found.api_key.get_secret_value(), found.base_url) == ("from-environment", "https://environment.example/v1")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        ("https://api.example/v1///", "https://api.example/v1"),
        ("  https://api.example/v1\n", "https://api.example/v1"),
        ("HTTPS://API.example/V1", "https://api.example/V1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_a_base_url_may_have_a_path_and_loses_its_trailing_slash(given: str, used: str) -> None:
    assert settings.resolve_settings(KEY, given).base_url == used


@pytest.mark.parametrize(
    "url",
    [
        "api.example",
        "api.example:443",
        "/v1",
        "ftp://api.example",
        "file:///etc/passwd",
        "http://",
        "https:///v1",
        "http://[::1",
        "http://api.example:port",
        "http://api.example:0",
        "http://api.example:70000",
        "https://user:hunter2@api.example",
        "https://user@api.example",
        "https://api.example?key=1",
        "https://api.example#x",
        "https://api.example/\x00",
        "  ",
    ],
)
def test_an_invalid_base_url_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as argument:
        settings.resolve_settings(KEY, url)
    monkeypatch.setattr("os.environ", {"PREDICTIONGUARD_URL": url})
    with pytest.raises(ConfigurationError) as variable:
        settings.resolve_settings(KEY)
    assert "hunter2" not in f"{argument.value} {variable.value}"


@pytest.mark.parametrize("key", [None, "", "  ", SecretStr("")])
def test_without_a_key_the_error_says_where_to_put_it(key: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"PREDICTIONGUARD_API_KEY.*sandbox"):
        settings.resolve_settings(key)


@pytest.mark.parametrize("key", ["s3cr3t\r\nX-Evil: 1", "s3cr3t\x00", "s3cr3té", "s3cr3t\u2026"])
def test_a_key_that_a_header_can_not_carry_is_refused_unquoted(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.resolve_settings(key)
    assert "s3cr3t" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"timeout": True},
        {"timeout": "10"},
        {"timeout": 1e10},
        {"timeout": 10**400},
        {"max_retries": -1},
        {"max_retries": 1.0},
        {"max_retries": True},
        {"max_retries": "2"},
    ],
)
def test_an_invalid_number_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        settings.resolve_settings(KEY, **options)


def test_the_key_is_in_no_repr() -> None:
    found = settings.resolve_settings(KEY)
    assert KEY not in repr(found) + str(found)


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert pickle.loads(pickle.dumps(settings.resolve_settings(KEY).base_url))


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings", "rerank", "models", "tokenize"])
def test_a_base_url_that_ends_with_an_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ends with /{endpoint}"):
        settings.resolve_settings("key", f"https://service.example/v1/{endpoint}/")
