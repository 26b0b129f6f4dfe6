"""`make demo`: an image file, a PDF or a URL, and a question of any characters."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from predictionguard_core import PredictionGuardError
from tests.image_helpers import serve_publicly

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "notebooks" / "photos" / "cat.jpg"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("PREDICTIONGUARD_API_KEY", "PREDICTIONGUARD_URL", "PREDICTIONGUARD_MODEL"):
        monkeypatch.setenv(name, "")  # restores what use_if_no_key changes
    spec = importlib.util.spec_from_file_location("demo", ROOT / "notebooks" / "demo.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_accepts_a_file(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(str(PHOTO), "What is this?")
    output = capsys.readouterr().out
    assert "cat.jpg: image/jpeg, 451 x 300 pixels\n" in output
    assert output.count("451 x 300 pixels, landscape") == 2


def test_says_that_no_model_was_asked(demo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(str(PHOTO), "What is this?")
    assert "No AI model was asked." in capsys.readouterr().out


def test_says_what_it_converted(demo: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.open(PHOTO).save(tmp_path / "cat.bmp")
    demo.main(str(tmp_path / "cat.bmp"), "What is this?")
    assert "cat.bmp: image/jpeg, 451 x 300 pixels, converted from the file" in capsys.readouterr().out


def test_accepts_a_pdf(demo: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.open(PHOTO).save(tmp_path / "cat.pdf", resolution=150)
    demo.main(str(tmp_path / "cat.pdf"), "What is this?")
    output = capsys.readouterr().out
    assert "cat.pdf: PDF, each page is converted to a JPEG image" in output
    assert output.count("451 x 300 pixels, landscape") == 2


@pytest.mark.parametrize("url", ["https://example.com/cat.jpg", "HTTP://example.com/cat.jpg"])
def test_accepts_a_url(
    url: str, demo: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_publicly(monkeypatch, PHOTO.read_bytes())
    demo.main(url, "What is this?")
    output = capsys.readouterr().out
    assert url in output
    assert output.count("451 x 300 pixels, landscape") == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("http://127.0.0.1/cat.jpg", "public http\\(s\\) hosts only"),
        ("no_such_file.jpg", "there is no file no_such_file.jpg"),
        (str(PHOTO.parent), "photos is a folder. Give one image file or PDF file"),
        (__file__, "this file can't be sent: the bytes are of no known image type"),
    ],
)
def test_errors_fit_a_command_line(image: str, message: str, demo: Any) -> None:
    with pytest.raises(PredictionGuardError) as raised:
        demo.main(image, "What is this?")
    advice = demo.advice(raised.value)
    assert re.search(message, advice)
    assert "ImagePolicy" not in advice


@pytest.mark.parametrize("name", ["QUESTION", "IMAGE"])
@pytest.mark.parametrize("text", ["Is it worth $HOME, $$5 or $(shell echo six)?", "a 'quoted' \"word\" # and more", ""])
def test_make_passes_the_text_on_unchanged(name: str, text: str) -> None:
    rule = f"show: ; @printenv {name}"
    command = ["make", "--no-print-directory", f"--eval={rule}", "show", f"{name}={text}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout == f"{text}\n", done.stderr
