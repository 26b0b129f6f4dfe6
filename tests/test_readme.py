"""What the README and CONTRIBUTING say: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import predictionguard_core.__main__ as command
from predictionguard_core.sandbox import Sandbox
from predictionguard_core.sandbox import __main__ as sandbox_command
from tests.stand_ins import public_photo

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
BLOCKS = [
    (name, language, text)
    for name, page in PAGES.items()
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
]
PYTHON = [text for _, language, text in BLOCKS if language == "python"]
LINES = [
    line
    for _, language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if line.strip() and not line.startswith("#")
]
PHOTO = ROOT / "notebooks" / "photos" / "cat.jpg"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
TRIED = {
    re.split(r"[<=>;]", package)[0]
    for group in PROJECT["dependency-groups"].values()
    for package in group
    if isinstance(package, str)
}
"""The packages beside this one that the tests, the notebooks among them, run on."""


def first_line(text: str) -> str:
    return text.strip().splitlines()[0][:60]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A key, and an address where it is good."""
    with Sandbox() as box:
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key")
        monkeypatch.setenv("PREDICTIONGUARD_URL", box.url)
        yield box


@pytest.fixture
def surroundings(account: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a reader has, too: a photograph, and the address of one that can be had."""
    (tmp_path / "photo.jpg").write_bytes(PHOTO.read_bytes())
    monkeypatch.chdir(tmp_path)
    public_photo(monkeypatch, PHOTO.read_bytes())


@pytest.mark.parametrize("block", [each for each in PYTHON if "def test_" not in each], ids=first_line)
def test_python_runs(block: str, surroundings: None, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    if "print(" in block:
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("block", [each for each in PYTHON if "def test_" in each], ids=first_line)
def test_tests_pass(block: str, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{block.count('def test_')} passed" in done.stdout


@pytest.mark.parametrize("line", LINES)
def test_commands_exist(line: str, account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    match shlex.split(line, comments=True):
        case ["make", *arguments]:
            dry = ["make", "-n", *arguments]
            done = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
            assert done.returncode == 0, done.stderr
        case ["pip", "install", what, *others]:
            found = re.fullmatch(r"(?:\.|predictionguard-integrations)(?:\[([a-z,-]+)\])?", what)
            assert found, what
            assert set((found[1] or "all").split(",")) <= set(EXTRAS)
            assert set(others) <= TRIED | {"jupyterlab"}
        case ["jupyter", "lab", folder]:
            assert list((ROOT / folder).glob("*.ipynb"))
        case ["python", "-m", "predictionguard_core", *arguments]:
            assert command.main(arguments) == 0
            assert capsys.readouterr().out
        case ["python", "-m", "predictionguard_core.sandbox", *arguments]:
            sandbox_command.parser().parse_args(arguments)
        case ["python", "-m", "pytest", *arguments]:
            for path in (each for each in arguments if not each.startswith("-")):
                assert (ROOT / path.partition("::")[0]).exists(), path
        case ["export", assignment]:
            assert assignment.partition("=")[0] in ("PREDICTIONGUARD_API_KEY", "PREDICTIONGUARD_URL")
        case other:
            pytest.fail(f"this test does not know how to try {other}")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", PAGES[name])
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        assert (ROOT / path).exists(), link
        if anchor:
            page = (ROOT / (path or name)).read_text()
            heads = [head.strip().lower() for head in re.findall(r"^#+ (.*)", page, re.MULTILINE)]
            assert anchor in [re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads], link


def test_the_drawing_of_the_house_shows_every_room() -> None:
    drawing = PAGES["CONTRIBUTING.md"].partition("## The house")[2].partition("Imports point down")[0]
    shown = set(re.findall(r"\w+", drawing))
    core = ROOT / "predictionguard_core"
    rooms = {path.stem for path in [*core.glob("*.py"), *core.glob("*/__init__.py")] if path.stem[:2] != "__"}
    rooms |= {path.parent.name for path in core.glob("*/__init__.py")}
    assert len(rooms) > 30
    assert rooms - shown == set()


def test_files_that_are_named_are_there() -> None:
    for path in re.findall(r"`([\w/]+\.py)`", PAGES["CONTRIBUTING.md"]):
        homes = (ROOT, ROOT / "predictionguard_core", ROOT / "predictionguard_core" / "sandbox")
        assert path == "messages.py" or any((home / path).exists() for home in homes), path


def test_every_block_is_tried() -> None:
    assert {language for _, language, _ in BLOCKS} <= {"python", "sh"}
    assert len(PYTHON) >= 6
    assert len(LINES) >= 8
