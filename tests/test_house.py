"""The house's own rules, held against the code: who may import whom, how long a file may be, which names are public."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE, SANDBOX = "predictionguard_core", "predictionguard_core.sandbox"
LANGCHAIN, LLAMA_INDEX = "langchain_predictionguard", "llama_index_predictionguard"
WINGS = (LANGCHAIN, LLAMA_INDEX)
PLUGIN = "pytest_predictionguard"
FRAMEWORKS = {"langchain", "langchain_core", "langchain_community", "langgraph", "langsmith", "llama_index"}
LONGEST_FILE = 320
"""Lines. A file that passes 300 asks to be two rooms."""

# A module imports from floors below its own; beside it stands only what `NEIGHBOURS` allows.
FLOORS = [
    {"errors", "version", "catalogue", "lazy", "quick"},
    {"statuses", "policy"},
    {"wire"},
    {"steps"},
    {
        "tails",
        "formats",
        "metadata",
        "headers",
        "pixels",
        "pages",
        "payloads",
        "files",
        "images",
        "tokens",
        "events",
        "settings",
        "fetch",
        "deadlines",
        "endings",
        "slots",
    },
    {"calls"},
    {"answers", "transports"},
    {"intake"},
    {"exchange"},
    {"pools", "guards"},
    {"downloads"},
    {"later"},
    {"connection"},
    {"client"},
    {""},  # the package itself
    {"__main__"},
]
NEIGHBOURS = {
    "wire": {"wire"},
    "formats": {"tails"},
    "metadata": {"formats"},
    "headers": {"formats", "metadata"},
    "pixels": {"formats", "metadata"},
    "images": {"files", "headers", "pages", "payloads", "pixels"},
    "tokens": {"images"},
}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """(dotted name, path) of each module of a package and of those below it."""
    for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


ALL = [each for package in (CORE, *WINGS, PLUGIN) for each in modules(package)]
CORE_ROOMS = [each for each in modules(CORE) if not each[0].startswith(SANDBOX)]


def each_of(found: Iterable[tuple[str, Path]]) -> pytest.MarkDecorator:
    found = list(found)
    return pytest.mark.parametrize(("name", "path"), found, ids=[name for name, _ in found])


def imports(source: str, name: str = "") -> set[str]:
    """Every module that a source imports, wherever in it, those for the type checker included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*name.split(".")[: -node.level], *([base] if base else [])])
            # `from package import module` names a module, too.
            below = [f"{base}.{alias.name}" for alias in node.names]
            rooms = [each for each in below if is_module(each)]
            found |= set(rooms) if len(rooms) == len(below) else {base, *rooms}
    return found


def is_module(dotted: str) -> bool:
    path = ROOT / dotted.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def room(dotted: str) -> str:
    """The core's room that a module belongs to: `wire` for `predictionguard_core.wire.chat`."""
    return dotted.partition(".")[2].partition(".")[0]


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def is_of(dotted: str, package: str) -> bool:
    return dotted == package or dotted.startswith(f"{package}.")


def misplaced(name: str, source: str) -> set[str]:
    """The rooms that a module of the core imports though they are not below it."""
    own = room(name)
    used = {room(each) for each in imports(source, name) if is_of(each, CORE)}
    return {each for each in used if each not in NEIGHBOURS.get(own, set()) and floor(each) >= floor(own)}


class TestFloors:
    def test_every_room_of_the_core_has_its_floor(self) -> None:
        known = set().union(*FLOORS)
        assert {room(name) for name, _ in CORE_ROOMS} <= known
        assert all(is_module(f"{CORE}.{each}") for each in known if each)

    @each_of(CORE_ROOMS)
    def test_imports_point_down(self, name: str, path: Path) -> None:
        assert misplaced(name, path.read_text()) == set()

    @each_of(modules(CORE))
    def test_the_core_knows_no_framework_and_no_wing(self, name: str, path: Path) -> None:
        used = {each.partition(".")[0] for each in imports(path.read_text(), name)}
        assert not used & (FRAMEWORKS | set(WINGS))

    @each_of(CORE_ROOMS)
    def test_the_core_does_not_know_its_stand_in(self, name: str, path: Path) -> None:
        assert not [each for each in imports(path.read_text(), name) if is_of(each, SANDBOX)]

    @each_of(modules(SANDBOX))
    def test_the_stand_in_knows_nothing_of_the_core(self, name: str, path: Path) -> None:
        used = [each for each in imports(path.read_text(), name) if is_of(each, CORE)]
        assert [each for each in used if not is_of(each, SANDBOX)] == []

    @pytest.mark.parametrize(
        ("name", "path", "other", "framework"),
        [(*each, LLAMA_INDEX, "llama_index") for each in modules(LANGCHAIN)]
        + [(*each, LANGCHAIN, "langchain") for each in modules(LLAMA_INDEX)],
    )
    def test_the_wings_never_meet(self, name: str, path: Path, other: str, framework: str) -> None:
        used = {each.partition(".")[0] for each in imports(path.read_text(), name)}
        assert not [
            each for each in used if each == other or (each.startswith(framework) and each != name.partition(".")[0])
        ]

    @pytest.mark.parametrize(
        ("name", "source", "bad"),
        [
            ("predictionguard_core.errors", "from predictionguard_core.api import ChatRequest", {"wire"}),
            ("predictionguard_core.errors", "from predictionguard_core import wire", {"wire"}),
            ("predictionguard_core.api.chat", "import predictionguard_core.images.sources", {"images"}),
            ("predictionguard_core.api.chat", "from predictionguard_core.api.base import Sent", set()),
            ("predictionguard_core.api.chat", "from .. import images", {"images"}),
            ("predictionguard_core.images.sources", "from predictionguard_core import files, fetch", {"fetch"}),
            (
                "predictionguard_core.images.sources",
                "def f():\n    from predictionguard_core import client",
                {"client"},
            ),
            ("predictionguard_core.streaming", "from predictionguard_core import ChatRequest", {""}),
            ("predictionguard_core.client", "from predictionguard_core import pools, exchange", set()),
        ],
    )
    def test_this_page_can_tell(self, name: str, source: str, bad: set[str]) -> None:
        assert misplaced(name, source) == bad


def loaded_by(module: str) -> set[str]:
    """The top-level packages that importing a module loads, in a fresh interpreter."""
    return loaded_after(f"import {module}")


def loaded_after(code: str) -> set[str]:
    """The same after a statement."""
    code = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


class TestImporting:
    @pytest.mark.parametrize("module", [CORE, f"{CORE}.client", SANDBOX])
    def test_the_core_costs_no_framework_and_no_pillow(self, module: str) -> None:
        assert not loaded_by(module) & (FRAMEWORKS | {"PIL", "numpy", "pypdfium2", *WINGS})

    def test_the_core_does_not_load_its_stand_in(self) -> None:
        code = f"import {CORE}, sys; assert not [name for name in sys.modules if name.startswith({SANDBOX!r})]"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=True)

    @pytest.mark.parametrize(
        ("wing", "needs", "other"),
        [(LANGCHAIN, "langchain_core", "llama_index"), (LLAMA_INDEX, "llama_index", "langchain_core")],
    )
    def test_a_wing_does_not_load_the_others_framework(self, wing: str, needs: str, other: str) -> None:
        if importlib.util.find_spec(needs) is None:
            pytest.skip(f"{needs} is not installed")
        found = loaded_by(wing)
        assert {wing, needs} <= found
        assert not {other, *WINGS} & (found - {wing})

    @pytest.mark.parametrize(
        ("base", "ours"),
        [
            (
                "from langchain_core.language_models import BaseChatModel",
                "from langchain_predictionguard import ChatPredictionGuard",
            ),
            (
                "from llama_index.core.llms.function_calling import FunctionCallingLLM",
                "from llama_index_predictionguard import PredictionGuard",
            ),
        ],
        ids=WINGS,
    )
    def test_an_adapter_loads_nothing_that_its_base_class_does_not(self, base: str, ours: str) -> None:
        more = loaded_after(f"{base}\n{ours}") - loaded_after(base)
        assert more <= {CORE, *WINGS, "pybase64"}

    def test_making_a_model_takes_no_http_client(self) -> None:
        make = "from predictionguard_core import Client\nClient('key', 'http://127.0.0.1:9')"
        assert not loaded_after(make) & {"httpx", "httpcore", "PIL"}


class TestFiles:
    @each_of(ALL)
    def test_none_is_too_long(self, name: str, path: Path) -> None:
        lines = len(path.read_text().splitlines())
        assert lines <= LONGEST_FILE

    @each_of(ALL)
    def test_each_says_what_it_is_for(self, name: str, path: Path) -> None:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring

    @each_of(ALL)
    def test_each_has_a_lower_case_name(self, name: str, path: Path) -> None:
        assert path.name == path.name.lower()

    @pytest.mark.parametrize("package", [CORE, *WINGS, PLUGIN])
    def test_each_package_says_that_it_is_typed(self, package: str) -> None:
        assert (ROOT / package / "py.typed").exists()


ERRORS = [
    "PredictionGuardError", "ConfigurationError", "ContentError", "UnsupportedContentError", "ImageError",
    "ImageFormatError", "ImageTooLargeError", "ImageBlockedError", "ImageFetchError", "APIConnectionError",
    "APITimeoutError", "APIStatusError", "InvalidRequestError", "CheckFailedError", "PIIDetectedError",
    "PromptInjectionError", "ToxicityError", "FactualityError", "ContextOverflowError", "AuthenticationError",
    "PermissionDeniedError", "NotFoundError", "RequestTooLargeError", "RateLimitError", "ServerError",
    "InvalidResponseError", "StreamInterruptedError",
]  # fmt: skip
PUBLIC = {
    CORE: ["Client", "AsyncClient", "ImagePolicy", "InputChecks", "OutputChecks", *ERRORS],
    SANDBOX: ["Sandbox"],
    LANGCHAIN: ["ChatPredictionGuard", "PredictionGuard", "PredictionGuardEmbeddings", "PredictionGuardRerank"],
    LLAMA_INDEX: ["PredictionGuard", "PredictionGuardMultiModal", "PredictionGuardEmbedding", "PredictionGuardRerank"],
}
METHODS = {
    "Client": ["chat", "stream", "complete", "embed", "rerank", "models", "close", "__enter__", "__exit__"],
    "AsyncClient": ["chat", "stream", "complete", "embed", "rerank", "models", "aclose", "__aenter__", "__aexit__"],
}


class TestPublicNames:
    @pytest.mark.parametrize(
        ("package", "name"), [(package, name) for package, names in PUBLIC.items() for name in names]
    )
    def test_can_be_imported_and_are_listed(self, package: str, name: str) -> None:
        if package in WINGS:
            pytest.importorskip("langchain_core" if package == LANGCHAIN else "llama_index.core")
        module = importlib.import_module(package)
        assert hasattr(module, name)
        assert name in module.__all__

    @pytest.mark.parametrize("package", [CORE, SANDBOX, *WINGS])
    def test_what_is_listed_is_there(self, package: str) -> None:
        if package in WINGS:
            pytest.importorskip("langchain_core" if package == LANGCHAIN else "llama_index.core")
        module = importlib.import_module(package)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
        assert len(set(module.__all__)) == len(module.__all__)

    @pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in METHODS.items() for name in names])
    def test_clients_have_their_methods(self, kind: str, name: str) -> None:
        assert callable(getattr(getattr(importlib.import_module(CORE), kind), name))
