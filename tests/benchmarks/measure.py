"""The server, the contestants' processes, and how they are compared: in turns, round after round, against httpx."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.benchmarks.rows import Row

ROOT = Path(__file__).parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one call or chunk: seconds, and how many times the first's they are; medians of the rounds."""

    seconds: float
    ratio: float


class Process:
    """A process that is told what to do in lines of JSON, and ends when this one does."""

    def __init__(self, module: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.name = arguments[0] if arguments else module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env,
        )

    def tell(self, **told: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended, with code {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclasses.dataclass(frozen=True)
class Ground:
    """Where it takes place: the server's addresses, and the environment that the contestants run in."""

    plain: str
    tls: str | None
    env: dict[str, str]

    def url(self, row: Row) -> str:
        base = self.tls if row.tls else self.plain
        assert base is not None
        return f"{base}/{row.route}"

    def worker(self, name: str) -> Process:
        return Process("tests.benchmarks.worker", name, env=self.env)


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """A running server, and an environment without proxies and keys in which its certificate is trusted."""
    env = {name: value for name, value in os.environ.items() if not _decides(name)}
    with tempfile.TemporaryDirectory() as folder:
        certificate = _certificate(Path(folder), env)
        with Process("tests.benchmarks.server", *([certificate] if certificate else [])) as server:
            plain, *tls = server.answer()
            yield Ground(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls[0]}" if tls else None, env)


def _decides(name: str) -> bool:
    beginnings = ("PREDICTIONGUARD_", "OPENAI_", "MISTRAL_", "LANGCHAIN_", "LANGSMITH_", "LLAMA_")
    return name.startswith(beginnings) or name.lower().endswith("_proxy")


def _certificate(folder: Path, env: dict[str, str]) -> str | None:
    try:
        import certifi
        import trustme
    except ImportError:
        return None
    authority = trustme.CA()
    own = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    # All the usual roots besides: reading them is a part of what a client costs.
    bundle = folder / "roots.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
    env["SSL_CERT_FILE"] = str(bundle)
    return str(own)


def compare(workers: Sequence[Process], at: Ground, row: Row, *, rounds: int, block: float) -> dict[str, Cost]:
    """What the row costs each, against the first. A round has a block of each; a block takes about so many seconds."""
    chunks = {"chunks": row.chunks} if row.chunks else {}
    calls = {}
    for worker in workers:
        worker.tell(do="prepare", url=at.url(row), pictures=row.pictures, stream=bool(row.chunks))
        first = row.calls or 2
        for _ in range(2):  # the first block opens connections and imports what is imported late
            once = worker.tell(do=row.do, calls=first, **chunks)[row.clock] / first
        calls[worker] = row.calls or max(1, min(1000, round(block / max(once, 1e-6))))
    taken: dict[Process, list[float]] = {worker: [] for worker in workers}
    for number in range(rounds):
        turn = number % len(workers)
        for worker in [*workers[turn:], *workers[:turn]]:
            spent = worker.tell(do=row.do, calls=calls[worker], **chunks)[row.clock]
            taken[worker].append(spent / calls[worker] / (row.chunks or 1))
    base = taken[workers[0]]
    if row.clock == "wall":
        # Whatever else the machine does makes it longer, never shorter: the shortest is the truest.
        return {worker.name: Cost(min(each), min(each) / min(base)) for worker, each in taken.items()}
    return {
        worker.name: Cost(
            statistics.median(each), statistics.median(own / raw for own, raw in zip(each, base, strict=True))
        )
        for worker, each in taken.items()
    }


def another(workers: Sequence[Process], at: Ground, row: Row, *, rounds: int, calls: int) -> dict[str, float]:
    """Seconds that another model object costs each."""
    taken: dict[str, list[float]] = {}
    for worker in workers:
        worker.tell(do="prepare", url=at.url(row), pictures=[])
        worker.tell(do="another", calls=calls)
    for _ in range(rounds):
        for worker in workers:
            taken.setdefault(worker.name, []).append(worker.tell(do="another", calls=calls)["cpu"] / calls)
    return {name: statistics.median(each) for name, each in taken.items()}


def memory(names: Sequence[str], at: Ground, row: Row, *, rounds: int) -> dict[str, float]:
    """The peak of a call in sizes of its pictures, over what the caller holds; each in fresh processes."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name in names:
            with at.worker(name) as worker:
                worker.tell(do="prepare", url=at.url(row), pictures=[1000])
                worker.tell(do="ask", calls=2)  # what is imported late, and the connection
                worker.tell(do="prepare", url=at.url(row), pictures=row.pictures)
                found.setdefault(name, []).append(worker.tell(do="memory")["bytes"] / sum(row.pictures))
    return {name: statistics.median(each) for name, each in found.items()}


LANGCHAIN_BASE = "from langchain_core.language_models import BaseChatModel"
LLAMA_INDEX_BASE = "from llama_index.core.llms.function_calling import FunctionCallingLLM"
IMPORTS = {
    "langchain": ("from langchain_predictionguard import ChatPredictionGuard", LANGCHAIN_BASE),
    "llama-index": ("from llama_index_predictionguard import PredictionGuard", LLAMA_INDEX_BASE),
    "openai": ("from langchain_openai import ChatOpenAI", LANGCHAIN_BASE),
    "mistral": ("from langchain_mistralai import ChatMistralAI", LANGCHAIN_BASE),
    "openai-like": ("from llama_index.llms.openai_like import OpenAILike", LLAMA_INDEX_BASE),
}


def imports(names: Sequence[str], *, rounds: int) -> dict[str, float]:
    """How many times what importing the framework's base class costs, importing the model costs."""
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            own, base = map(_import, IMPORTS[name])
            if number:  # the first wrote the bytecode
                ratios[name].append(own / base)
    return {name: statistics.median(each) for name, each in ratios.items()}


def _import(statement: str) -> float:
    code = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(run.stdout)
