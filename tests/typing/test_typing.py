"""The public names as a type checker and an editor see them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import langchain_predictionguard as lc
import llama_index_predictionguard as li

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def mypy_errors() -> dict[str, list[tuple[int, str]]]:
    """Run mypy in strict mode and return its errors for each file: line and text."""
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


def test_correct_user_code_has_no_type_errors_and_each_mistake_has_one() -> None:
    pytest.importorskip("mypy")
    errors = mypy_errors()
    assert errors["user_code.py"] == []
    lines = (HERE / "mistakes.py").read_text(encoding="utf-8").splitlines()
    marked = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    assert len(marked) > 15
    assert sorted({line for line, _ in errors["mistakes.py"]}) == marked


def test_model_is_a_string_in_every_signature() -> None:
    langchain_names = ["ChatPredictionGuard", "PredictionGuard", "PredictionGuardEmbeddings", "PredictionGuardRerank"]
    llama_index_names = [
        name
        for name in li.__all__
        if name.startswith("PredictionGuard") and "model" in inspect.signature(getattr(li, name)).parameters
    ]
    for module, names in ((lc, langchain_names), (li, llama_index_names)):
        assert len(names) > 3
        for name in names:
            signature = inspect.signature(getattr(module, name))
            parameter = signature.parameters["model"]
            assert parameter.annotation in (str, "str"), name
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, name
            assert module is li or "ImagePolicy(" not in str(signature), name


FRESH = """
import inspect
from langchain_predictionguard import ChatPredictionGuard, PredictionGuardEmbeddings
from llama_index_predictionguard import PredictionGuard, PredictionGuardRerank
from predictionguard_core import ChatRequest
for kind in (ChatPredictionGuard, PredictionGuardEmbeddings, PredictionGuard, PredictionGuardRerank, ChatRequest):
    class Derived(kind):
        more: int = 1
    print(kind.__name__, *inspect.signature(kind).parameters)
    print(*inspect.signature(Derived).parameters)
"""


def test_signatures_are_complete_before_the_first_object() -> None:
    found = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True).stdout
    lines = found.splitlines()
    for own, derived in zip(lines[::2], lines[1::2], strict=True):
        name, *parameters = own.split()
        wanted = {"stop"} if name == "ChatRequest" else {"api_key", "base_url", "timeout", "max_retries"}
        assert {"model", *wanted} <= set(parameters), name
        assert set(derived.split()) == {*parameters, "more"}, name


@pytest.mark.parametrize("module", [lc, li])
def test_signatures_list_the_arguments_for_completion(module: Any) -> None:
    for name in module.__all__:
        kind = getattr(module, name)
        if not (inspect.isclass(kind) and name.startswith(("Chat", "Prediction")) and "Error" not in name):
            continue
        parameters = inspect.signature(kind).parameters
        if "model" not in parameters:
            continue  # a check or a reader of documents
        assert {"model", "api_key", "base_url", "timeout", "max_retries"} <= set(parameters)
        assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values()), name
