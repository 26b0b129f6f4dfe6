"""How cost grows with an image's size, and with the number of calls at once, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from tests.benchmarks.measure import Costs
from tests.benchmarks.report import GROWING, TITLES, Results, size

COLORS = {
    "raw": "#444444",
    "least": "#999999",
    "openai": "#e08214",
    "mistral": "#b35806",
    "openai-like": "#c51b7d",
    "langchain": "#1b7837",
    "llama-index": "#2166ac",
}
OURS = ("langchain", "llama-index")


def draw(results: Results, path: Path) -> None:
    """Write a PNG of two images side by side, both with logarithmic axes."""
    mpl.use("Agg")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12.5, 5.2), dpi=130)
    _lines(left, results.sizes, dict.fromkeys(results.sizes, 1.0))
    _axes(left, "one image of", [size(each) for each in results.sizes], list(results.sizes))
    left.set_title("One call: the client's processor, milliseconds", loc="left", fontsize=11)
    _lines(right, results.at_once, {each: float(each) for each in results.at_once})
    _axes(right, "calls at once", [str(each) for each in results.at_once], list(results.at_once))
    right.set_title("All answers there, milliseconds (100 KB each; the server waits 50)", loc="left", fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _lines(axes: Any, found: Mapping[int, Costs], times: Mapping[int, float]) -> None:
    for name in GROWING:
        points = [(each, costs[name].seconds * 1000 * times[each]) for each, costs in found.items() if name in costs]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=COLORS[name],
                label=TITLES[name].replace("**", ""),
                linewidth=2.4 if name in OURS else 1.4,
                linestyle="--" if name in ("raw", "least") else "-",
                marker="o",
                markersize=5 if name in OURS else 3.5,
                zorder=3 if name in OURS else 2,
            )


def _axes(axes: Any, what: str, labels: list[str], ticks: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _value, index: labels[index]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _index: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(what)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
