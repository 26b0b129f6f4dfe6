"""`python -m tests.benchmarks`: measure, and print."""

from __future__ import annotations

import argparse
import contextlib
import time

from tests.benchmarks import measure
from tests.benchmarks.contestants import OURS, RIVALS
from tests.benchmarks.rows import ANOTHER_TARGET, IMPORT_TARGET, MEMORY_TARGETS, ROWS, Row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ours", action="store_true", help="without the rivals")
    parser.add_argument("--only", help="names of rows, with commas between them")
    given = parser.parse_args()
    only = given.only.split(",") if given.only else None
    names = ["raw", "least", *([] if given.ours else RIVALS), *OURS]
    rounds, block = (5, 0.04) if given.quick else (15, 0.1)
    with measure.ground() as at, contextlib.ExitStack() as stack:
        workers = [stack.enter_context(at.worker(name)) for name in names]
        print(f"{'':58}" + "".join(f"{name:>13}" for name in names))
        for row in ROWS:
            if only and row.name not in only:
                continue
            begun = time.perf_counter()
            found = measure.compare(workers, at, row, rounds=3 if row.calls and given.quick else rounds, block=block)
            cells = [f"{each.ratio:5.2f} {each.seconds * 1e6:7.0f}" for each in found.values()]
            met = ["ok" if found[n].ratio <= t else f">{t}" for n, t in zip(OURS, row.targets, strict=True)]
            print(
                f"{row.title:58}" + "".join(f"{c:>13}" for c in cells),
                *met,
                f"{time.perf_counter() - begun:.1f} s",
                flush=True,
            )
        if not only or "another" in only:
            found = measure.another(workers[1:], at, ROWS[0], rounds=5, calls=50)
            print("another, ms (at most", ANOTHER_TARGET, {k: round(v * 1e3, 3) for k, v in found.items()}, flush=True)
    with measure.ground() as at:
        if not only or "memory" in only:
            row = Row("memory", "", (0, 0), pictures=(10_000_000,))
            found = measure.memory([*names[1:], "langchain-base64"], at, row, rounds=1 if given.quick else 3)
            print("memory (at most", MEMORY_TARGETS, {k: round(v, 2) for k, v in found.items()}, flush=True)
    if not only or "import" in only:
        found = measure.imports([name for name in names if name in measure.IMPORTS], rounds=2 if given.quick else 7)
        print("import (at most", IMPORT_TARGET, {k: round(v, 3) for k, v in found.items()}, flush=True)


if __name__ == "__main__":
    main()
