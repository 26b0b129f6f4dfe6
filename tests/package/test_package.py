"""The wheel in a clean environment for each extra, its metadata, and the source distribution."""

from __future__ import annotations

import base64
import email.message
import email.parser
import io
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from predictionguard_core import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ["", *PROJECT["optional-dependencies"]]
PACKAGES = {
    "predictionguard_core",
    "langchain_predictionguard",
    "llama_index_predictionguard",
    "pytest_predictionguard",
}


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Return what a command prints; if it fails, the error shows all of its output."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution of this tree."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, folder=ROOT)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="session")
def sdist(built: Path) -> Path:
    return next(built.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as file:
        name = next(each for each in file.namelist() if each.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(file.read(name).decode())


@pytest.fixture(scope="session")
def environments(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Path]]]:
    """For each extra ("" for none) the Python of an environment with the wheel, that extra and nothing else."""
    folder = tmp_path_factory.mktemp("environments")

    def make(extra: str) -> Path:
        home = folder / (extra or "none")
        run(sys.executable, "-m", "venv", "--without-pip", home, folder=folder)
        python = home / "bin" / "python"
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", "--retries", "2")
        run(*pip, wanted, folder=folder)
        return python

    with ThreadPoolExecutor(2) as pool:
        yield {extra: pool.submit(make, extra) for extra in sorted(EXTRAS, key=len, reverse=True)}


PREPARED = """
import base64, os
from predictionguard_core import ChatRequest, Client, Image, PredictionGuardError
from predictionguard_core.sandbox import Sandbox

UPRIGHT, ON_ITS_SIDE, PDF = map(base64.b64decode, os.environ["IMAGES"].split())
VISION = "Qwen2.5-VL-7B-Instruct"
box = Sandbox().start()
os.environ.update(PREDICTIONGUARD_API_KEY="any", PREDICTIONGUARD_URL=box.url)

def ask(data):
    part = {"type": "image_url", "image_url": {"url": data}}
    with Client() as client:
        messages = [{"role": "user", "content": [part]}]
        return client.chat(ChatRequest(model=VISION, messages=messages)).message.content

def expect(do, *words):
    try:
        text = str(do())
    except (ImportError, PredictionGuardError) as error:
        text = str(error)
    assert all(word in text for word in words), text

assert "PNG" in ask(UPRIGHT)
"""
"""What needs no extra, and what the code of each extra uses."""

WITH = {
    "langchain": """
from langchain_predictionguard import ChatPredictionGuard
assert ChatPredictionGuard(VISION).invoke("hello").text
""",
    "llama-index": """
from llama_index_predictionguard import PredictionGuard, PredictionGuardMultiModal
assert PredictionGuard(VISION).complete("hello").text
assert PredictionGuardMultiModal(VISION).complete("hello", []).text
from llama_index.llms.predictionguard import PredictionGuard as same
assert same is PredictionGuard
from llama_index.embeddings.predictionguard import PredictionGuardEmbedding
from llama_index.multi_modal_llms.predictionguard import PredictionGuardMultiModal
from llama_index.postprocessor.predictionguard_rerank import PredictionGuardRerank
""",
    "agents": "from langchain_predictionguard.middleware import PredictionGuardMiddleware",
    "images": "image = Image.open(ON_ITS_SIDE); assert (image.width, image.height) == (2, 4)",
    "pdf": "expect(lambda: ask(PDF), 'The image is a JPEG')",
    "sandbox": "expect(lambda: ask(UPRIGHT), 'Main colour')",
}
WITHOUT = {
    "langchain": "expect(lambda: __import__('langchain_predictionguard'), 'is not installed', {remedy!r})",
    "llama-index": "expect(lambda: __import__('llama_index_predictionguard'), 'is not installed', {remedy!r})",
    "agents": "expect(lambda: __import__('langchain_predictionguard.middleware'), 'pip install')",
    "images": "expect(lambda: Image.open(ON_ITS_SIDE), {remedy!r})",
    "pdf": "expect(lambda: ask(PDF), {remedy!r})",
    "sandbox": "expect(lambda: ask(UPRIGHT), {remedy!r})",
}
PILLOW = {"images", "sandbox"}
BRINGS = {
    "": set(),
    "langchain": {"langchain"},
    "agents": {"langchain", "agents"},
    "llama-index": {"llama-index", *PILLOW},  # it depends on Pillow itself
    "images": PILLOW,
    "pdf": {"pdf", *PILLOW},
    "sandbox": PILLOW,
    "all": {"langchain", "agents", "llama-index", "pdf", *PILLOW},
}


def encoded(image: Image.Image, kind: str, **options: Any) -> str:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="session")
def images() -> str:
    """An image, one that EXIF orientation 6 turns on its side, and a PDF of one page."""
    image = Image.new("RGB", (4, 2), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    return " ".join([encoded(image, "PNG"), encoded(image, "JPEG", exif=exif), encoded(image, "PDF")])


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
def test_the_wheel_alone(extra: str, environments: dict[str, Future[Path]], images: str, tmp_path: Path) -> None:
    code = PREPARED
    for each in WITH:
        remedy = f'pip install "predictionguard-integrations[{each}]"'
        code += "\n" + (WITH[each] if each in BRINGS[extra] else WITHOUT[each].format(remedy=remedy))
    try:
        python = environments[extra].result()
    except AssertionError as error:
        if "after connection broken by" in str(error):
            pytest.skip("pip can't reach its index")
        raise
    # Isolated (-I), so that neither the working folder nor PYTHONPATH is imported from.
    run(python, "-I", "-c", code, folder=tmp_path, IMAGES=images)


def test_every_extra_has_its_code() -> None:
    assert set(BRINGS) == set(EXTRAS)
    assert set(WITH) == set(WITHOUT) == set(EXTRAS) - {"", "all"}


class TestWheel:
    def test_holds_the_packages_and_nothing_else(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as file:
            names = file.namelist()
        info = f"predictionguard_integrations-{__version__}.dist-info"
        assert {name.partition("/")[0] for name in names} == {*PACKAGES, "llama_index", info}
        assert sorted(name for name in names if name.startswith("llama_index/")) == [
            "llama_index/embeddings/predictionguard.py",
            "llama_index/llms/predictionguard.py",
            "llama_index/multi_modal_llms/predictionguard.py",
            "llama_index/postprocessor/predictionguard_rerank.py",
        ]
        assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
        assert f"{info}/licenses/LICENSE" in names
        assert not [name for name in names if "test" in name.partition("/")[2] or name.endswith((".ipynb", ".jpg"))]
        in_tree = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
        assert {name for name in in_tree if "/import_paths/" not in name} <= set(names)

    def test_is_for_every_platform(self, wheel: Path) -> None:
        assert wheel.name == f"predictionguard_integrations-{__version__}-py3-none-any.whl"

    def test_has_the_plugin_for_pytest(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as file:
            name = next(each for each in file.namelist() if each.endswith("entry_points.txt"))
            assert "[pytest11]\npredictionguard = pytest_predictionguard" in file.read(name).decode()


class TestMetadata:
    def test_says_what_it_is(self, metadata: email.message.Message) -> None:
        assert metadata["Name"] == "predictionguard-integrations"
        assert metadata["Version"] == __version__
        assert metadata["Summary"] == PROJECT["description"]
        assert metadata["License-Expression"] == "MIT"
        assert metadata["Requires-Python"] == ">=3.11"
        assert metadata["Description-Content-Type"] == "text/markdown"
        assert str(metadata.get_payload()).startswith("# predictionguard-integrations")

    def test_names_every_extra_and_no_placeholder_url(self, metadata: email.message.Message) -> None:
        assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
        for url in metadata.get_all("Project-URL", []):
            assert "example" not in url

    def test_pins_nothing(self, metadata: email.message.Message) -> None:
        needs = metadata.get_all("Requires-Dist", [])
        assert needs
        assert [each for each in needs if re.search(r"[^<>!=]==|@", each.partition(";")[0])] == []

    def test_classifiers_name_the_supported_pythons(self, metadata: email.message.Message) -> None:
        named = [each.rsplit(" ", 1)[1] for each in metadata.get_all("Classifier", []) if re.search(r"3\.\d+$", each)]
        assert named == ["3.11", "3.12", "3.13", "3.14"]


class TestSourceDistribution:
    def test_a_wheel_can_be_built_from_it(self, sdist: Path, wheel: Path, tmp_path: Path) -> None:
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
        run(sys.executable, "-m", "pip", "wheel", *options, sdist, folder=tmp_path)
        again = next(tmp_path.glob("*.whl"))
        with zipfile.ZipFile(again) as one, zipfile.ZipFile(wheel) as other:
            assert sorted(one.namelist()) == sorted(other.namelist())

    def test_holds_what_its_tests_need(self, sdist: Path) -> None:
        with tarfile.open(sdist) as file:
            names = {name.partition("/")[2] for name in file.getnames()}
        wanted = (
            "README.md",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            "LICENSE",
            "Makefile",
            "pyproject.toml",
            "tests/conftest.py",
        )
        assert set(wanted) <= names
        assert any(name.startswith("notebooks/photos/") for name in names)
