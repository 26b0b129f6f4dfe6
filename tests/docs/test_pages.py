"""README, CONTRIBUTING and docs: commands exist, links lead somewhere, files that are named are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from predictionguard_core.sandbox import __main__ as sandbox_command
from tests.docs.pages import PAGES, REPOSITORY, ROOT, blocks, name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = set(PROJECT["project"]["optional-dependencies"])
COMMANDS = [
    pytest.param(line, id=f"{name(page)}: {line}")
    for page in PAGES
    for language, text in blocks(page)
    if language == "sh"
    for line in text.splitlines()
    if line.strip() and not line.startswith("#")
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("line", COMMANDS)
def test_command_exists(line: str) -> None:
    match shlex.split(line, comments=True):
        case ["make", *arguments]:
            dry = ["make", "-n", *arguments]
            done = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
            assert done.returncode == 0, done.stderr
        case ["pip", "install", *arguments]:
            for argument in arguments:
                found = re.match(r"(?:\.|predictionguard-integrations)\[([a-z,-]+)\]", argument)
                if found:
                    assert set(found[1].split(",")) <= EXTRAS
        case ["python", "-m", "predictionguard_core.sandbox", *arguments]:
            sandbox_command.parser().parse_args(arguments)
        case ["python", "-m", "pytest", *arguments]:
            for path in (each for each in arguments if not each.startswith("-")):
                assert (ROOT / path.partition("::")[0]).exists(), path
        case ["python", script, *_] if script.startswith("notebooks/"):
            assert (ROOT / script).exists()
        case ["python3", "-m", "venv", ".venv", "&&", ".", ".venv/bin/activate"]:
            pass
        case ["export", assignment]:
            assert re.match(r"[A-Z_]+=", assignment)
        case [program, *_]:
            known = {"cd", "curl", "docker", "git", "gradio", "jupyter", "mkdir", "pip", "pytest", "python", "ray"}
            assert program in known | {"streamlit", "uvicorn"}, f"this test does not know {program}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_to_this_repository_lead_to_files(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        target = link.partition("#")[0]
        if target.startswith(REPOSITORY):
            assert (ROOT / target.removeprefix(REPOSITORY)).exists(), link
        elif not target.startswith(("https://", "mailto:")) and target:
            assert page.name != "README.md", f"{link} would lead nowhere on PyPI"
            assert (page.parent / target).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_are_there(page: Path) -> None:
    folders = ("", "predictionguard_core/", "langchain_predictionguard/", "llama_index_predictionguard/", "docs/")
    for path in re.findall(r"`((?:\w+/)+\w+\.(?:py|md|ipynb|toml))`", page.read_text(encoding="utf-8")):
        assert any((ROOT / folder / path).exists() for folder in folders), path


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
