"""`python -m predictionguard_core models`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from predictionguard_core.__main__ import main
from predictionguard_core.sandbox import Sandbox

VISION = "Qwen2.5-VL-7B-Instruct"


@pytest.fixture
def account(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key")
    monkeypatch.setenv("PREDICTIONGUARD_URL", sandbox.url)
    return sandbox


def test_lists_the_models_that_accept_images(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--vision"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["MODEL", "CONTEXT", "CAPABILITIES"]
    assert [row.split()[:2] for row in rows] == [[VISION, "16,384"], ["llava-1.5-7b-hf", "4,096"]]
    assert all("chat_with_image" in row for row in rows)


def test_lists_all_and_those_with_a_capability(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5
    assert main(["models", "--capability", "rerank"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "bge-reranker-v2-m3"


def test_as_json(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--vision", "--json"]) == 0
    assert VISION in [model["id"] for model in json.loads(capsys.readouterr().out)]


def test_an_account_without_such_a_model(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    account.fail(200, body={"object": "list", "data": []})
    assert main(["models", "--vision"]) == 1
    assert f"{account.url} lists no model with the capability chat-with-image" in capsys.readouterr().err


def test_an_error_names_its_remedy_and_shows_no_traceback(
    account: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    account.fail(403)
    assert main(["models"]) == 1
    assert "Check PREDICTIONGUARD_API_KEY" in capsys.readouterr().err
    monkeypatch.delenv("PREDICTIONGUARD_API_KEY")
    assert main(["models", "--url", account.url]) == 1
    assert capsys.readouterr().err.startswith("ConfigurationError: no API key: set PREDICTIONGUARD_API_KEY")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "list the models"),
        (["models", "--help"], 0, "--vision"),
        (["models", "--capability", "sight"], 2, "chat-with-image"),
        (["models", "--vision", "--capability", "rerank"], 2, "not allowed with"),
        ([], 2, "COMMAND"),
    ],
)
def test_usage_and_help(arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    printed = capsys.readouterr()
    assert words in printed.out + printed.err


def test_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "predictionguard_core", "--help"]
    assert "list the models" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
