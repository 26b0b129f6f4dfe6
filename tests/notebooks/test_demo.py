"""`make demo`: a file or an address, and a question of any letters."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from predictionguard_core import ImageBlockedError
from tests.stand_ins import public_photo

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "notebooks" / "photos" / "cat.jpg"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("PREDICTIONGUARD_API_KEY", "PREDICTIONGUARD_URL", "PREDICTIONGUARD_MODEL"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("demo", ROOT / "notebooks" / "demo.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_takes_a_file(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(str(PHOTO), "What is this?")
    told = capsys.readouterr().out
    assert "cat.jpg: image/jpeg, 451 x 300 pixels" in told
    assert told.count("The image is a JPEG, 451 x 300 pixels") == 2


@pytest.mark.parametrize("address", ["https://example.com/cat.jpg", "HTTP://example.com/cat.jpg"])
def test_takes_an_address(
    address: str, demo: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    public_photo(monkeypatch, PHOTO.read_bytes())
    demo.main(address, "What is this?")
    told = capsys.readouterr().out
    assert address in told
    assert told.count("The image is a JPEG, 451 x 300 pixels") == 2


def test_dials_no_inner_address(demo: Any) -> None:
    with pytest.raises(ImageBlockedError, match="not public"):
        demo.main("http://127.0.0.1/cat.jpg", "What is this?")


@pytest.mark.parametrize("name", ["QUESTION", "IMAGE"])
@pytest.mark.parametrize("text", ["Is it worth $HOME, $$5 or $(shell echo six)?", "a 'quoted' \"word\" # and more", ""])
def test_make_hands_over_what_it_was_given(name: str, text: str) -> None:
    rule = f"told: ; @printenv {name}"
    command = ["make", "--no-print-directory", f"--eval={rule}", "told", f"{name}={text}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout == f"{text}\n", done.stderr
