"""Print the lowest version of each dependency that pyproject.toml allows, in the form that pip takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_BOUND = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([^,;]+)")


def lowest() -> list[str]:
    """Each dependency and each extra's, pinned to its lower bound."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    bounds = [found.groups() for each in named if (found := _BOUND.match(each))]
    return [f"{name}=={version}" for name, version in dict(bounds).items()]


if __name__ == "__main__":
    print(" ".join(lowest()))
