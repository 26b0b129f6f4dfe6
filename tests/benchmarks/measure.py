"""The comparison: the contestants take turns, round after round, and each is compared with raw httpx in its round."""

from __future__ import annotations

import compileall
import dataclasses
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence

from tests.benchmarks.processes import ROOT, Ground, Process
from tests.benchmarks.rows import UPLINK, Row


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one call or chunk: seconds in the fastest round, and the ratio to the first contestant.

    The ratio is the median over the rounds, as both numbers of a round were measured under the same load.
    """

    seconds: float
    ratio: float


Costs = dict[str, Cost]
"""By contestant."""

Taken = dict[str, dict[int, float]]
"""Seconds by contestant and round."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long to measure: `rounds` rounds, each with a block of about `block` seconds for each contestant.

    `bursts` is the number of rounds of rows measured by the wall clock, `times` that of imports and memory, which take
    processes of their own. A contestant that has used `patience` seconds skips its remaining rounds.
    """

    rounds: int
    block: float
    bursts: int
    times: int
    patience: float


FULL = Pace(rounds=15, block=0.05, bursts=5, times=7, patience=4.0)
QUICK = Pace(rounds=9, block=0.025, bursts=3, times=3, patience=0.4)


def compare(workers: Sequence[Process], at: Ground, row: Row, pace: Pace) -> dict[str, Costs]:
    """Return the cost of the row for each contestant by clock: "cpu" (the client's) and "wall"."""
    chunks = {"chunks": row.chunks} if row.chunks else {}
    calls: dict[Process, int] = {}
    for worker in workers:
        worker.tell("prepare", url=at.url(row), images=row.images, stream=bool(row.chunks), form=row.form)
        first = row.calls or 2
        for _ in range(2):  # the first call opens connections and imports modules
            once = worker.tell(row.do, calls=first, **chunks)["cpu"] / first
            if once * first > pace.patience:
                break
        calls[worker] = row.calls or max(1, min(1000, round(pace.block / max(once, 1e-6))))
    taken: dict[str, Taken] = {clock: {worker.name: {} for worker in workers} for clock in ("cpu", "wall")}
    left = dict.fromkeys(workers, pace.patience) | {workers[0]: math.inf}
    for number in range(pace.bursts if row.calls else pace.rounds):
        turn = number % len(workers)
        for worker in [*workers[turn:], *workers[:turn]]:
            if left[worker] > 0:
                spent = worker.tell(row.do, calls=calls[worker], **chunks)
                left[worker] -= spent["cpu"]
                for clock, each in taken.items():
                    each[worker.name][number] = spent[clock] / calls[worker] / (row.chunks or 1)
    return {clock: _costs(clock, each, workers[0].name) for clock, each in taken.items()}


def _costs(clock: str, taken: Taken, base: str) -> Costs:
    found: Costs = {}
    for name, own in taken.items():
        least = min(own.values())
        ratios = [seconds / taken[base][number] for number, seconds in own.items()]
        # Rows by the wall clock have few rounds, each disturbed by whatever else the machine does.
        ratio = least / min(taken[base].values()) if clock == "wall" else statistics.median(ratios)
        found[name] = Cost(least, ratio)
    return found


def another(workers: Sequence[Process], at: Ground, row: Row, pace: Pace) -> dict[str, float]:
    """Return the processor seconds of one more model object."""
    taken: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for worker in workers:
        worker.tell("prepare", url=at.url(row), images=[])
        worker.tell("another", calls=100)
    for _ in range(pace.rounds):
        for worker in workers:
            taken[worker.name].append(worker.tell("another", calls=100)["cpu"] / 100)
    return {name: statistics.median(each) for name, each in taken.items()}


def memory(names: Sequence[str], at: Ground, row: Row, pace: Pace) -> dict[str, float]:
    """Return the peak memory of a call in image sizes, above what the caller holds; each in a process of its own."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(pace.times // 2):
        for name in names:
            with at.worker(name) as worker:
                worker.tell("prepare", url=at.url(row), images=[1000])
                worker.tell("ask", calls=2)  # imports modules and connects
                worker.tell("prepare", url=at.url(row), images=row.images)
                found[name].append(worker.tell("memory")["bytes"] / sum(row.images))
    return {name: statistics.median(each) for name, each in found.items()}


def uplink(at: Ground) -> dict[str, tuple[float, int]]:
    """Return seconds and bytes of a 12-megapixel photo over a slow uplink, as it is and shrunk to 1,568 pixels."""
    url = f"{at.plain}/uplink-{UPLINK}"
    with at.worker("langchain") as worker:
        worker.tell("uplink", url=f"{at.plain}/plain", max_edge=1568)  # imports modules
        found = {title: worker.tell("uplink", url=url, max_edge=edge) for title, edge in EDGES.items()}
    return {title: (each["seconds"], each["bytes"]) for title, each in found.items()}


EDGES = {"as it is": None, "max_edge=1568": 1568}
LANGCHAIN_BASE = "from langchain_core.language_models import BaseChatModel"
LLAMA_INDEX_BASE = "from llama_index.core.llms.function_calling import FunctionCallingLLM"
PACKAGES = ("predictionguard_core", "langchain_predictionguard", "llama_index_predictionguard")
IMPORTS = {
    "langchain": ("from langchain_predictionguard import ChatPredictionGuard", LANGCHAIN_BASE),
    "llama-index": ("from llama_index_predictionguard import PredictionGuard", LLAMA_INDEX_BASE),
    "openai": ("from langchain_openai import ChatOpenAI", LANGCHAIN_BASE),
    "mistral": ("from langchain_mistralai import ChatMistralAI", LANGCHAIN_BASE),
    "openai-like": ("from llama_index.llms.openai_like import OpenAILike", LLAMA_INDEX_BASE),
}


def imports(names: Sequence[str], pace: Pace) -> dict[str, float]:
    """Return the cost of importing a model over that of importing its framework's base class."""
    wanted = [IMPORTS[name] for name in names]
    statements = dict.fromkeys([base for _, base in wanted] + [own for own, _ in wanted])
    taken: dict[str, list[float]] = {statement: [] for statement in statements}
    for package in PACKAGES:
        # Installed packages have their bytecode; a checkout may not have been imported yet.
        compileall.compile_dir(ROOT / package, quiet=2)
    for _ in range(pace.times):
        for statement, each in taken.items():
            each.append(_import(statement))
    return {
        name: statistics.median(own / base for own, base in zip(taken[own], taken[base], strict=True))
        for name, (own, base) in zip(names, wanted, strict=True)
    }


def _import(statement: str) -> float:
    code = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(run.stdout)
