"""The results as Markdown tables, each budget next to its figure."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Iterator, Sequence

from tests.benchmarks.contestants import FLOORS, OURS, RIVALS
from tests.benchmarks.measure import Costs
from tests.benchmarks.rows import ANOTHER_TARGET, IMPORT_TARGET, KB, MB, MEMORY_TARGETS, ROW, ROWS, UPLINK

TITLES = {
    "raw": "raw httpx",
    "least": "least code",
    "openai": "ChatOpenAI",
    "mistral": "ChatMistralAI",
    "openai-like": "OpenAILike (LlamaIndex)",
    "langchain": "**ours, LangChain**",
    "llama-index": "**ours, LlamaIndex**",
    "langchain-itself": "LangChain itself",
    "llama-index-itself": "LlamaIndex itself",
}
COLUMNS = ("raw", "least", *RIVALS, *OURS)
MEASURED = {
    "langchain-openai": "ChatOpenAI",
    "langchain-mistralai": "ChatMistralAI",
    "llama-index-llms-openai-like": "OpenAILike",
    "openai": "",
    "langchain-core": "",
    "llama-index-core": "",
    "httpx": "",
    "httpcore": "",
    "pydantic": "",
    "predictionguard-integrations": "",
}
EXPLANATION = (
    "The client's processor time as a multiple of raw httpx, which posts a prebuilt body in the same run, over "
    "loopback to a server that only drains requests and answers. The least code has no tools, retries, checks or "
    "errors: it shows what is possible. Each contestant gets an image in its natural form: a data URI, in LlamaIndex "
    "an `ImageBlock` of bytes."
)
GROWING = ("raw", "least", *RIVALS, *OURS)


@dataclasses.dataclass
class Results:
    """The figures by row, image size or number of calls at once. An empty field was not measured.

    `processor` has the client's processor time of the rows measured by the wall clock.
    """

    rows: dict[str, Costs] = dataclasses.field(default_factory=dict)
    processor: dict[str, Costs] = dataclasses.field(default_factory=dict)
    another: dict[str, float] = dataclasses.field(default_factory=dict)
    memory: dict[str, float] = dataclasses.field(default_factory=dict)
    imports: dict[str, float] = dataclasses.field(default_factory=dict)
    uplink: dict[str, tuple[float, int]] = dataclasses.field(default_factory=dict)
    floors: dict[str, Costs] = dataclasses.field(default_factory=dict)
    sizes: dict[int, Costs] = dataclasses.field(default_factory=dict)
    at_once: dict[int, Costs] = dataclasses.field(default_factory=dict)

    def missed(self) -> list[str]:
        """Return our cells that are over their budgets."""
        return [
            f"{title}: {name} {value:.2f}, at most {target:g}"
            for title, name, value, target in self._held()
            if round(value, 2) > target
        ]

    def _held(self) -> Iterator[tuple[str, str, float, float]]:
        for name, found in self.rows.items():
            for own, target in zip(OURS, ROW[name].targets or (), strict=False):
                if own in found:
                    yield ROW[name].title, own, found[own].ratio, target
        for own in OURS:
            if own in self.imports:
                yield "import", own, self.imports[own], IMPORT_TARGET
            if own in self.another:
                yield "another model object, ms", own, self.another[own] * 1000, ANOTHER_TARGET
        for own, target in MEMORY_TARGETS.items():
            if own in self.memory:
                yield "peak memory", own, self.memory[own], target


def markdown(results: Results) -> str:
    """Return all tables, with the date and the versions."""
    parts = [EXPLANATION, main_table(results), _uplink(results), *_growth(results), _floors(results), versions()]
    return "\n\n".join(part for part in parts if part) + "\n"


def main_table(results: Results) -> str:
    lines = _head(["work", *(TITLES[name] for name in COLUMNS)])
    for row in ROWS:
        found = results.rows.get(row.name)
        if found:
            targets = dict(zip(OURS, row.targets or (), strict=False))
            lines.append(_line(row.title, [_ratio(found, name, targets.get(name)) for name in COLUMNS]))
        if row.name in results.processor:
            cells = [_ratio(results.processor[row.name], name) for name in COLUMNS]
            lines.append(_line("of which the client's processor", cells))
    if results.imports:
        cells = [_held(results.imports.get(name), " ×", IMPORT_TARGET if name in OURS else None) for name in COLUMNS]
        lines.append(_line("import, over importing the framework's own base class", cells))
    if results.another:
        spent = {name: seconds * 1000 for name, seconds in results.another.items()}
        cells = [_held(spent.get(name), " ms", ANOTHER_TARGET if name in OURS else None) for name in COLUMNS]
        lines.append(_line("another model object", cells))
    if results.memory:
        cells = [_held(results.memory.get(name), "", MEMORY_TARGETS.get(name)) for name in COLUMNS]
        lines.append(_line("peak memory of a 10 MB image call, in image sizes, above what the caller holds", cells))
        block = _held(results.memory.get("langchain-base64"), "", MEMORY_TARGETS["langchain-base64"])
        lines.append(_line("the same with LangChain's base64 block", ["–"] * 5 + [block, "–"]))
    return "\n".join(lines)


def _uplink(results: Results) -> str:
    if not results.uplink:
        return ""
    lines = _head([f"12-megapixel photo, uplink of {UPLINK // 1_000_000} Mbit/s", "sent", "first byte of the answer"])
    lines += [
        _line(title, [f"{sent / MB:.2f} MB", f"{seconds:.1f} s"]) for title, (seconds, sent) in results.uplink.items()
    ]
    return "\n".join(lines)


def _growth(results: Results) -> Iterator[str]:
    if results.sizes:
        lines = _head(["one image of", *(TITLES[name] for name in GROWING)])
        lines += [
            _line(size(each), [_milliseconds(found, name) for name in GROWING]) for each, found in results.sizes.items()
        ]
        yield "How cost grows: milliseconds of the client's processor for one call.\n\n" + "\n".join(lines)
    if results.at_once:
        lines = _head(["calls at once", *(TITLES[name] for name in GROWING)])
        lines += [
            _line(str(each), [_milliseconds(found, name, each) for name in GROWING])
            for each, found in results.at_once.items()
        ]
        yield (
            "How it scales: milliseconds until all of so many calls have their answer, 100 KB each, from a server that "
            "waits 50 ms.\n\n" + "\n".join(lines)
        )


def _floors(results: Results) -> str:
    if not results.floors:
        return ""
    lines = _head(["of which is the framework's own", *(TITLES[name] for name in FLOORS)])
    lines += [
        _line(ROW[name].title, [_ratio(found, each) for each in FLOORS]) for name, found in results.floors.items()
    ]
    return "A model that sends no request, in the same unit:\n\n" + "\n".join(lines)


def versions() -> str:
    """Return the date and the measured versions."""
    found = []
    for name in MEASURED:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    date = datetime.datetime.now(datetime.UTC).date()
    return f"{date}, Python {platform.python_version()}; " + ", ".join(found) + "."


def size(count: int) -> str:
    return f"{count // MB} MB" if count >= MB else f"{count // KB} KB"


def _head(titles: Sequence[str]) -> list[str]:
    return [_line(titles[0], titles[1:]), "|---" * len(titles) + "|"]


def _line(title: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([title, *cells]) + " |"


def _ratio(found: Costs, name: str, target: float | None = None) -> str:
    if name not in found:
        return "–"
    if name == "raw":
        return f"1.0 ({_time(found[name].seconds)})"
    return _held(found[name].ratio, "", target)


def _held(value: float | None, unit: str, target: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
    if target is None:
        return text + unit
    return f"**{text}{unit}** (at most {target:g}{'' if round(value, 2) <= target else ': **missed**'})"


def _milliseconds(found: Costs, name: str, calls: int = 1) -> str:
    if name not in found:
        return "–"
    value = found[name].seconds * 1000 * calls
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds >= 0.001 else f"{seconds * 1e6:.0f} µs"
