"""The retired `langchain-predictionguard` is noticed, and the error names the repair."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import langchain_predictionguard
from predictionguard_core.retired_package import find_damage, warn_if_installed


def test_warns_where_both_are_installed(tmp_path: Path) -> None:
    (tmp_path / "langchain_predictionguard-0.3.0.dist-info").mkdir()
    with pytest.warns(UserWarning, match=r"pip uninstall -y langchain-predictionguard .*--force-reinstall"):
        warn_if_installed(str(tmp_path / "langchain_predictionguard" / "__init__.py"))


def test_is_silent_otherwise(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_installed(str(tmp_path / "langchain_predictionguard" / "__init__.py"))
        warn_if_installed(langchain_predictionguard.__file__)
    assert find_damage() is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"embeddings.py": ""}, "has lost its files"),
        ({"__init__.py": "from langchain_predictionguard.chat_models import *"}, "is the retired package"),
    ],
)
def test_the_command_line_names_the_repair(tmp_path: Path, files: dict[str, str], message: str) -> None:
    folder = tmp_path / "langchain_predictionguard"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    code = (
        "import sys; from predictionguard_core.retired_package import find_damage; "
        f"sys.path[:] = [{str(tmp_path)!r}]; print(find_damage())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert message in done.stdout
    assert "pip install --force-reinstall" in done.stdout
