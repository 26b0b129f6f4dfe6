"""Print the lowest version of each dependency that pyproject.toml allows, in the form that pip takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_BOUND = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([^,;]+)")


def lowest() -> list[str]:
    """Each dependency and each extra's, pinned to its lower bound."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # LangChain's agents need a newer langchain-core than the adapter.
    extras = [needs for name, needs in project["optional-dependencies"].items() if name != "agents"]
    named = [*project["dependencies"], *(each for needs in extras for each in needs)]
    bounds = [found.groups() for each in named if (found := _BOUND.match(each))]
    return [f"{name}=={version}" for name, version in dict(bounds).items()]


if __name__ == "__main__":
    print(" ".join(lowest()))
