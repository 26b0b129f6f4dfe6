"""Every Python block of README and docs runs, and prints what the page shows.

The output stands below each `print`, as `#> ...`; `pytest tests/docs --update-examples` writes it. The blocks of a page
share one namespace. They run in an empty folder that holds a link to `notebooks`, against a sandbox. HTML comments
before a block say more about it:

- `<!-- requires: chromadb -->`: runs in `make test-slow`, if that module is installed.
- `<!-- file -->`: is saved under the name in its first line (`# app.py`), for later blocks to run or import.
- `<!-- test file -->`: is saved as a file and run by pytest.
- `<!-- output varies -->`: runs, but its output is not compared.
- `<!-- not run -->`: is only compiled, because it needs a service or runs for ever.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

from predictionguard_core.sandbox import Sandbox
from tests.docs.pages import PAGES, ROOT, name

_LABEL = re.compile(r"<!-- (.*?) -->\s*$")


def label(example: CodeExample) -> str:
    """Return the HTML comment in front of a block, or an empty string."""
    lines = example.path.read_text(encoding="utf-8").splitlines()[: example.start_line - 1]
    found = _LABEL.search("\n".join(lines[-3:]))
    return found[1] if found else ""


def examples(page: Path) -> list[CodeExample]:
    return [each for each in find_examples(page) if each.prefix.split()[:1] == ["python"]]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder like that of a clone, and a sandbox that the environment leads to."""
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")  # no test leaves this machine
    with Sandbox() as box:
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key")
        monkeypatch.setenv("PREDICTIONGUARD_URL", box.url)
        yield tmp_path


def run(page: Path, eval_example: EvalExample, *, with_optional: bool) -> None:
    """Run the blocks of a page in one namespace, and compare what they print."""
    eval_example.set_config(line_length=110)
    namespace: dict[str, object] = {}
    for example in examples(page):
        says = label(example)
        if says == "not run":
            compile(example.source, str(page), "exec")
        elif says == "file":
            compile(example.source, str(page), "exec")
            Path(example.source.splitlines()[0].removeprefix("# ")).write_text(example.source, encoding="utf-8")
        elif says == "test file":
            run_test_file(example)
        elif says.startswith("requires:"):
            packages = says.removeprefix("requires:").replace(",", " ").split()
            if with_optional and all(map(is_installed, packages)):
                namespace |= check(eval_example, example, namespace)
        elif says == "output varies":
            namespace |= eval_example.run(example, module_globals=namespace)
        else:
            namespace |= check(eval_example, example, namespace)


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def check(eval_example: EvalExample, example: CodeExample, namespace: dict[str, object]) -> dict[str, object]:
    how = eval_example.run_print_update if eval_example.update_examples else eval_example.run_print_check
    return how(example, module_globals=namespace)


def run_test_file(example: CodeExample) -> None:
    Path("test_page.py").write_text(example.source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"],
        env={key: value for key, value in os.environ.items() if not key.startswith("PREDICTIONGUARD_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{example.source.count('def test_')} passed" in done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=name)
def test_snippets_run_and_print_what_the_page_shows(page: Path, clone: Path, eval_example: EvalExample) -> None:
    run(page, eval_example, with_optional=False)


# The packages that are required, such as Gradio, leave sockets and event loops open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- requires:" in page.read_text("utf-8")], ids=name)
def test_snippets_that_need_optional_packages_run(page: Path, clone: Path, eval_example: EvalExample) -> None:
    run(page, eval_example, with_optional=True)
    gc.collect()


def test_the_first_snippet_of_the_readme_runs_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = examples(ROOT / "README.md")[0].source
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("PREDICTIONGUARD_")}
    done = subprocess.run(
        [sys.executable, "-c", first],
        cwd=ROOT,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "No AI model" in done.stdout
    assert not done.stderr
