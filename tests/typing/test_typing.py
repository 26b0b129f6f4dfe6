"""The public names as a type checker and an editor see them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import langchain_predictionguard as langchain_wing
import llama_index_predictionguard as llama_wing

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def complaints() -> dict[str, list[tuple[int, str]]]:
    """What mypy, as strict as it gets, says of each file: line and text."""
    pytest.importorskip("mypy")
    files = [HERE / "user_code.py", HERE / "mistakes.py"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--hide-error-context", "--no-pretty", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, list[tuple[int, str]]] = {file.name: [] for file in files}
    for path, line, text in re.findall(r"^(\S+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        found[Path(path).name].append((int(line), text))
    return found


def test_what_users_write_is_understood(complaints: dict[str, list[tuple[int, str]]]) -> None:
    assert complaints["user_code.py"] == []


def test_what_users_get_wrong_is_told(complaints: dict[str, list[tuple[int, str]]]) -> None:
    lines = (HERE / "mistakes.py").read_text().splitlines()
    marked = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    assert len(marked) > 15
    assert sorted({line for line, _ in complaints["mistakes.py"]}) == marked


def test_the_signature_says_that_the_model_is_a_string() -> None:
    of_langchain = ["ChatPredictionGuard", "PredictionGuard", "PredictionGuardEmbeddings", "PredictionGuardRerank"]
    of_llama_index = [
        name
        for name in llama_wing.__all__
        if name.startswith("PredictionGuard") and "model" in inspect.signature(getattr(llama_wing, name)).parameters
    ]
    for module, names in ((langchain_wing, of_langchain), (llama_wing, of_llama_index)):
        assert len(names) > 3
        for name in names:
            signature = inspect.signature(getattr(module, name))
            parameter = signature.parameters["model"]
            assert parameter.annotation in (str, "str"), name
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, name
            assert module is llama_wing or "ImagePolicy(" not in str(signature), name


FRESH = """
import inspect
from {module} import {name}
class Mine({name}):
    more: int = 1
for kind in ({name}, Mine):
    print(*inspect.signature(kind).parameters)
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("langchain_predictionguard", "ChatPredictionGuard"),
        ("langchain_predictionguard", "PredictionGuardEmbeddings"),
        ("llama_index_predictionguard", "PredictionGuard"),
        ("llama_index_predictionguard", "PredictionGuardRerank"),
        ("predictionguard_core", "ChatRequest"),
    ],
)
def test_the_arguments_are_known_before_the_first_object(module: str, name: str) -> None:
    code = FRESH.format(module=module, name=name)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    own, derived = (set(line.split()) for line in found.splitlines())
    connecting = {"api_key", "base_url", "timeout", "max_retries"} if module != "predictionguard_core" else {"stop"}
    assert {"model", *connecting} <= own
    assert derived == own | {"more"}


@pytest.mark.parametrize("module", [langchain_wing, llama_wing])
def test_a_running_notebook_completes_the_arguments(module: Any) -> None:
    for name in module.__all__:
        kind = getattr(module, name)
        if not (inspect.isclass(kind) and name.startswith(("Chat", "Prediction")) and "Error" not in name):
            continue
        parameters = inspect.signature(kind).parameters
        if "model" not in parameters:
            continue  # a check or a reader of documents
        assert {"model", "api_key", "base_url", "timeout", "max_retries"} <= set(parameters)
        assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values()), name
