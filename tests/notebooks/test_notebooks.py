"""Every notebook runs from nothing, without a key, and shows what its committed form shows."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
AT_ONCE = 2
_PATIENCE = 600  # seconds, for a kernel to start or to hand over what a cell put out


@pytest.fixture(scope="session")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Any]]:
    """Gives a notebook after its run. All that are asked for are run from the start, two at a time."""
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


def run(path: Path, surroundings: dict[str, str]) -> Any:
    """The notebook with what its cells put out when run from nothing in these surroundings."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        startup_timeout=_PATIENCE,
        iopub_timeout=_PATIENCE,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    asyncio.run(client.async_execute(env=surroundings))  # `execute` leaves a thread's event loop open
    return notebook


def outputs(notebook: Any) -> list[list[tuple[str, ...]]]:
    """What each cell puts out, by kind: text of any wording, pictures, tables."""
    return [
        [(output.output_type, output.get("name", ""), *sorted(output.get("data", {}))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_shows_what_is_committed(path: Path, fresh: Callable[[Path], Any]) -> None:
    assert outputs(fresh(path)) == outputs(nbformat.read(path, as_version=4))


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_asks_the_service_where_there_is_a_key(path: Path) -> None:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    with_sandbox = [cell for cell in cells if re.search(r"\bbox\b|\bSandbox\(", cell)]
    assert with_sandbox
    for cell in with_sandbox:
        assert 'if not os.environ.get("PREDICTIONGUARD_API_KEY")' in cell or 'if "box" in globals()' in cell


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)]+)\)", cell.source):
                assert target.startswith("https://") or (FOLDER / target).exists()


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
