"""Every notebook runs from nothing, without a key, and shows what its committed form shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PREDICTIONGUARD_API_KEY", "PREDICTIONGUARD_URL", "PREDICTIONGUARD_MODEL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def outputs(notebook: Any) -> list[list[tuple[str, ...]]]:
    """What each cell puts out, by kind: text of any wording, pictures, tables."""
    return [
        [(output.output_type, *sorted(output.get("data", {}))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_shows_what_is_committed(path: Path, clean: None) -> None:
    committed = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(fresh, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert outputs(fresh) == outputs(committed)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_as_a_reader_wants_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any({"image/jpeg", "image/png"} & set(output.get("data", {})) for output in shown), "no picture is shown"
    assert [output for output in shown if output.output_type == "error"] == []
    assert [output for output in shown if output.get("name") == "stderr"] == []
    assert str(Path.home()) not in path.read_text()
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run from top to bottom"


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
