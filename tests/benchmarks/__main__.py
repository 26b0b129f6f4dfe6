"""`python -m tests.benchmarks`: measure, print the tables, and plot the growth."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks import measure, report
from tests.benchmarks.contestants import FLOORS, OURS, RIVALS
from tests.benchmarks.processes import Ground, Process, ground
from tests.benchmarks.report import Results
from tests.benchmarks.rows import AT_ONCE, MEMORY, OTHERS, ROW, ROWS, SIZES, at_once, of_size

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGES = {
    "openai": "langchain_openai",
    "mistral": "langchain_mistralai",
    "openai-like": "llama_index.llms.openai_like",
}
WITH_FLOORS = ("text", "text-async", "10MB", "chunk")


def main(arguments: Sequence[str] | None = None) -> Results:
    parser = _parser()
    given = parser.parse_args(arguments)
    pace = measure.QUICK if given.quick else measure.FULL
    rivals = [] if given.ours else [name for name in RIVALS if _is_installed(PACKAGES[name])]
    for name in set(RIVALS) - set(rivals):
        _say(f"{name} is not installed and left out")
    wanted = set(given.only.split(",")) if given.only else {*ROW, *OTHERS}
    if unknown := wanted - {*ROW, *OTHERS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join([*ROW, *OTHERS])}")
    if given.quick and not given.only:
        wanted -= {"sizes", "at-once", "floors", "uplink"}
    with ground() as at, contextlib.ExitStack() as stack:
        if at.tls is None:
            _say("TLS is left out: it needs the package trustme")
            wanted -= {row.name for row in ROWS if row.tls}
        names = ["raw", "least", *rivals, *OURS]
        workers = [stack.enter_context(at.worker(name)) for name in names]
        results = run(at, workers, wanted, pace, alone=OURS if given.quick else names[1:])
    print(report.markdown(results))
    for missed in results.missed():
        _say(f"missed: {missed}")
    folder = given.out or (None if given.quick or given.only or given.ours else RESULTS)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.md").write_text(report.markdown(results))
        if results.sizes and results.at_once:
            from tests.benchmarks.plot import draw

            draw(results, folder / "growth.png")
        _say(f"written to {folder}")
    return results


def run(
    at: Ground, workers: Sequence[Process], wanted: set[str], pace: measure.Pace, *, alone: Sequence[str]
) -> Results:
    """Measure the wanted rows; imports and memory, which take processes of their own, for those in `alone`."""
    results = Results()
    for row in ROWS:
        if row.name in wanted:
            with _told(row.title):
                taking_part = [each for each in workers if not row.ours_only or each.name in ("raw", *OURS)]
                found = measure.compare(taking_part, at, row, pace)
                results.rows[row.name] = found[row.clock]
                if row.clock == "wall":
                    results.processor[row.name] = found["cpu"]
    if "another" in wanted:
        with _told("another model object"):
            results.another = measure.another(workers[1:], at, ROW["text"], pace)
    if "memory" in wanted:
        with _told(MEMORY.title):
            results.memory = measure.memory([*alone, "langchain-base64"], at, MEMORY, pace)
    if "uplink" in wanted:
        with _told("uplink"):
            results.uplink = measure.uplink(at)
    if "import" in wanted:
        with _told("import"):
            results.imports = measure.imports([name for name in alone if name in measure.IMPORTS], pace)
    fewer = dataclasses.replace(pace, rounds=max(2, pace.rounds // 2), block=pace.block / 2, patience=pace.patience / 2)
    if "floors" in wanted:
        with _told("the frameworks themselves"), contextlib.ExitStack() as stack:
            floors = [workers[0], *(stack.enter_context(at.worker(name)) for name in FLOORS)]
            results.floors = {name: measure.compare(floors, at, ROW[name], fewer)["cpu"] for name in WITH_FLOORS}
    if "sizes" in wanted:
        with _told("how cost grows"):
            results.sizes = {size: measure.compare(workers, at, of_size(size), fewer)["cpu"] for size in SIZES}
    if "at-once" in wanted:
        with _told("how it scales"):
            results.at_once = {calls: measure.compare(workers, at, at_once(calls), fewer)["wall"] for calls in AT_ONCE}
    return results


@contextlib.contextmanager
def _told(title: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    _say(f"{time.perf_counter() - begun:6.1f} s  {title}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the main table only, with our own imports and memory only"
    )
    parser.add_argument("--ours", action="store_true", help="leave the rivals out")
    parser.add_argument("--only", help=f"a comma-separated list of {', '.join([*ROW, *OTHERS])}")
    parser.add_argument(
        "--out", type=Path, help="the folder for the tables and the plot; by default only a full run writes them"
    )
    return parser


if __name__ == "__main__":
    main()
