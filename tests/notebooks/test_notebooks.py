"""Every notebook runs from nothing, without a key, and its committed outputs are those of a fresh run.

Outputs have to be of the same kinds in the same order. The words of a cell have to be the same in any order, because
calls that run side by side may end in any order. Ids, progress bars and URLs differ from run to run and are left out.
Of a cell tagged "varies", which prints other packages' messages, only the kinds are compared.
`python -m tests.notebooks` runs the notebooks and saves them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks.run import FOLDER, merge_text, run

NOTEBOOKS = [
    pytest.param(path, marks=pytest.mark.slow if "ray" in path.stem else ()) for path in sorted(FOLDER.glob("*.ipynb"))
]
AT_ONCE = 2
VARIES = "varies"
# What differs from run to run: a progress bar with its times and rates, an id or a hash, a URL with its port.
_CHANGING = re.compile(r"[^\r\n]*\d+%\|[^\r\n]*|\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b|\b127\.0\.0\.1:\d+")
_ROW = re.compile(r"^\d+ +", re.MULTILINE)  # a table's row: numbered in the order in which files were read
_WORD = re.compile(r"[^\s\[\],]+")  # a list's brackets and commas stand with another word where its order is another


@pytest.fixture(scope="session")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Any]]:
    """Return a function that returns a notebook after its run. All selected notebooks run at once, two at a time."""
    folder = tmp_path_factory.mktemp("jupyter")
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PREDICTIONGUARD_")}
    here = [item for item in request.session.items if item.path == Path(__file__)]  # others have a fixture of this name
    wanted = [item.callspec.params["path"] for item in here if "fresh" in item.fixturenames]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(AT_ONCE) as pool:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(folder / name.lower()))
            surroundings[name] = os.environ[name]
        runs: dict[Path, Future[Any]] = {path: pool.submit(run, path, surroundings) for path in wanted}
        yield lambda path: runs[path].result()
        pool.shutdown(cancel_futures=True)


def outputs(notebook: Any) -> list[list[tuple[str, ...]]]:
    """Return the kinds of each cell's outputs: text, images, tables."""
    return [
        [(output.output_type, output.get("name", ""), *sorted(output.get("data", {}))) for output in cell.outputs]
        for cell in code_cells(notebook)
    ]


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def words(cell: Any) -> Counter[str]:
    """Count the words of a cell's outputs, without what differs from run to run and without bare numbers.

    Of two photos that are taken at once, either may be number 1.
    """
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    found = (word for text in texts for word in _WORD.findall(_ROW.sub("", _CHANGING.sub("", text))))
    return Counter(word for word in found if not word.isdigit())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_fresh_run_gives_the_committed_outputs(path: Path, fresh: Callable[[Path], Any]) -> None:
    notebook, committed = fresh(path), nbformat.read(path, as_version=4)
    assert outputs(notebook) == outputs(committed)
    for cell, before in zip(code_cells(notebook), code_cells(committed), strict=True):
        if VARIES not in before.metadata.get("tags", []):
            now, then = words(cell), words(before)
            assert (now - then, then - now) == (Counter(), Counter()), f"after {cell.source[:200]}"


@pytest.mark.parametrize(
    ("text", "other", "is_same"),
    [
        ("call-0123456789abcdef01 is done", "call-fedcba98765432100f is done", True),
        (
            "HTTP 400, request 89c9a537149c4b79bf41786d77218991",
            "HTTP 400, request 81b10b13a0094ac799c8327eef855c63",
            True,
        ),
        ("100%|██| 8/8 [00:00<00:00, 20.35it/s]\na cat", " 50%|█ | 4/8 [00:09]\r100%|██| 8/8 [00:09]\na cat", True),
        ("← This is one.\n← This is two.", "← This is two.\n← This is one.", True),
        ("5  cat.jpg\n6  sky.jpg", "12  sky.jpg\n0   cat.jpg", True),
        ("['cat.jpg', 'sky.jpg']", "['sky.jpg', 'cat.jpg']", True),
        ("http://127.0.0.1:4711/v1", "http://127.0.0.1:80/v1", True),
        ("image 1 shows a cat", "image 2 shows a cat", True),
        ("Main colour: black (90%).", "Main colour: black (91%).", False),
        ("Error code: 400", "Error code: 400 - {'error': 'pii detected'}", False),
        ("only http", "only http: give a path", False),
        ("a cat and a cat", "a cat and a", False),
        ("effaceddeface", "defacedefface", False),
    ],
)
def test_the_comparison_ignores_only_what_varies(text: str, other: str, is_same: bool) -> None:
    cell, one_more = (
        nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", text=each)]) for each in (text, other)
    )
    assert (words(cell) == words(one_more)) is is_same


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_have_an_image_and_no_errors(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any({"image/jpeg", "image/png"} & set(output.get("data", {})) for output in shown), "no image is shown"
    assert [output for output in shown if output.output_type == "error"] == []
    assert [output for output in shown if output.get("name") == "stderr"] == []
    assert not re.search(r"/(home|root|Users)/", path.read_text(encoding="utf-8"))
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run from top to bottom"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_asks_the_service_where_there_is_a_key(path: Path) -> None:
    cells = [cell.source for cell in code_cells(nbformat.read(path, as_version=4))]
    assert "use_if_no_key()" in cells[0]
    assert not [cell for cell in cells if "Sandbox(" in cell]
    assert all("if sandbox:" in cell for cell in cells if "sandbox.requests" in cell)


def test_outputs_stay_in_their_order() -> None:
    text = [nbformat.v4.new_output("stream", text=each) for each in ("one\n", "two\n", "50%\r100%\nthree\n")]
    photo = nbformat.v4.new_output("display_data", data={"text/plain": "photo"})
    merged = merge_text([text[0], text[1], photo, text[2]])
    assert [output.get("text") for output in merged] == ["one\ntwo\n", None, "100%\nthree\n"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)]+)\)", cell.source):
                assert target.startswith("https://") or (FOLDER / target).exists()


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
