"""How the contestants are compared: in turns, round after round, each round against what httpx itself took in it."""

from __future__ import annotations

import compileall
import dataclasses
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence

from tests.benchmarks.processes import ROOT, Ground, Process
from tests.benchmarks.rows import Row


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one call or chunk: seconds, in the quickest round, and how many times the first contestant's they are.

    On a busy machine everything takes longer, never shorter. A ratio is of two that were measured one after the other,
    under the same load: there it is the median of the rounds that counts.
    """

    seconds: float
    ratio: float


Costs = dict[str, Cost]
"""By contestant."""

Taken = dict[str, dict[int, float]]
"""Seconds by contestant and round."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long it is measured: so many rounds, each with a block of about so many seconds for each contestant.

    `bursts` are the rounds of many calls at once, `times` those of imports and of memory, each of which takes processes
    of its own. Who has taken `patience` seconds in a row is out of its further rounds.
    """

    rounds: int
    block: float
    bursts: int
    times: int
    patience: float


FULL = Pace(rounds=15, block=0.05, bursts=5, times=7, patience=4.0)
QUICK = Pace(rounds=9, block=0.025, bursts=3, times=3, patience=0.4)


def compare(workers: Sequence[Process], at: Ground, row: Row, pace: Pace) -> dict[str, Costs]:
    """What the row costs each, against the first, by clock: "cpu" (the client's) and "wall"."""
    chunks = {"chunks": row.chunks} if row.chunks else {}
    calls: dict[Process, int] = {}
    for worker in workers:
        worker.tell("prepare", url=at.url(row), pictures=row.pictures, stream=bool(row.chunks))
        first = row.calls or 2
        for _ in range(2):  # the first time opens connections and imports what is imported late
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
        # Of time on the wall there are few rounds, each as long as the machine lets others in between.
        ratio = least / min(taken[base].values()) if clock == "wall" else statistics.median(ratios)
        found[name] = Cost(least, ratio)
    return found


def another(workers: Sequence[Process], at: Ground, row: Row, pace: Pace) -> dict[str, float]:
    """Seconds of processor that another model object costs each."""
    taken: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for worker in workers:
        worker.tell("prepare", url=at.url(row), pictures=[])
        worker.tell("another", calls=100)
    for _ in range(pace.rounds):
        for worker in workers:
            taken[worker.name].append(worker.tell("another", calls=100)["cpu"] / 100)
    return {name: statistics.median(each) for name, each in taken.items()}


def memory(names: Sequence[str], at: Ground, row: Row, pace: Pace) -> dict[str, float]:
    """The peak of a call in sizes of its pictures, over what the caller holds; each time in a process of its own."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(pace.times // 2):
        for name in names:
            with at.worker(name) as worker:
                worker.tell("prepare", url=at.url(row), pictures=[1000])
                worker.tell("ask", calls=2)  # what is imported late, and the connection
                worker.tell("prepare", url=at.url(row), pictures=row.pictures)
                found[name].append(worker.tell("memory")["bytes"] / sum(row.pictures))
    return {name: statistics.median(each) for name, each in found.items()}


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
    """How many times what importing the framework's base class costs, importing a model costs."""
    wanted = [IMPORTS[name] for name in names]
    statements = dict.fromkeys([base for _, base in wanted] + [own for own, _ in wanted])
    taken: dict[str, list[float]] = {statement: [] for statement in statements}
    for package in PACKAGES:
        # What is installed has its bytecode beside it; what stands in a checkout may not have been imported yet.
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
