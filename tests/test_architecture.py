"""The layers, the cost of imports and the files of each package, compared with the code."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent
CORE, SANDBOX = "predictionguard_core", "predictionguard_core.sandbox"
LANGCHAIN, LLAMA_INDEX = "langchain_predictionguard", "llama_index_predictionguard"
PACKAGES = (CORE, LANGCHAIN, LLAMA_INDEX, "pytest_predictionguard")
FRAMEWORKS = {"langchain", "langchain_core", "langgraph", "langsmith", "llama_index"}


def test_imports_point_down_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    """The contracts are in pyproject.toml, below [tool.importlinter]."""
    status = lint_imports(str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_every_module_says_what_it_is_for_and_every_package_is_typed() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists(), f"{package} has no py.typed"
        for path in (ROOT / package).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"


def loaded_after(*imports: str) -> list[set[str]]:
    """Return the modules that are loaded after each of these imports in one fresh interpreter."""
    code = "import sys\n" + "\n".join(f"{each}\nprint(*sys.modules)" for each in imports)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [set(line.split()) for line in done.stdout.splitlines()]


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_core_loads_no_framework_no_optional_dependency_and_no_sandbox() -> None:
    core, client, sandbox = loaded_after(f"import {CORE}", f"import {CORE}.client", f"import {SANDBOX}")
    unwanted = FRAMEWORKS | {"PIL", "numpy", "pypdfium2", "pytest", LANGCHAIN, LLAMA_INDEX}
    assert not packages(core) & unwanted
    assert not packages(client) & unwanted
    assert SANDBOX not in client
    assert not packages(sandbox) & unwanted


@pytest.mark.parametrize(
    ("base", "ours", "other"),
    [
        (
            "from langchain_core.language_models import BaseChatModel",
            "from langchain_predictionguard import ChatPredictionGuard",
            {"llama_index", LLAMA_INDEX},
        ),
        (
            "from llama_index.core.llms.function_calling import FunctionCallingLLM",
            "from llama_index_predictionguard import PredictionGuard",
            {"langchain_core", LANGCHAIN},
        ),
    ],
    ids=[LANGCHAIN, LLAMA_INDEX],
)
def test_an_adapter_loads_little_more_than_its_base_class(base: str, ours: str, other: set[str]) -> None:
    before, after = map(packages, loaded_after(base, ours))
    added = after - before - sys.stdlib_module_names
    assert added <= {CORE, LANGCHAIN, LLAMA_INDEX, "pybase64", "httpx", "httpcore", "h11", "anyio", "certifi", "idna"}
    assert not after & (other | {"pytest"})


@pytest.mark.parametrize("name", [*PACKAGES[:3], SANDBOX])
def test_every_public_name_is_there_and_dir_shows_no_other(name: str) -> None:
    module = importlib.import_module(name)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []
    assert len(set(module.__all__)) == len(module.__all__)
    if name != SANDBOX:
        assert {each for each in dir(module) if not each.startswith("_")} <= set(module.__all__)
