"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from predictionguard_core.sandbox import Sandbox
from tests.stand_ins import public_photo

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PHOTO = ROOT / "notebooks" / "photos" / "cat.jpg"


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a reader has: a key, a photograph, and the address of one that can be had."""
    (tmp_path / "photo.jpg").write_bytes(PHOTO.read_bytes())
    monkeypatch.chdir(tmp_path)
    public_photo(monkeypatch, PHOTO.read_bytes())
    with Sandbox() as box:
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key")
        monkeypatch.setenv("PREDICTIONGUARD_URL", box.url)
        yield


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0][:60])
def test_python_runs(block: str, surroundings: None, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    if "print(" in block:
        assert capsys.readouterr().out.strip()


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 4
