"""Detection of the retired package `langchain-predictionguard`, whose import name is the one of our LangChain adapter.

Whichever of the two is installed last overwrites files of the other, and uninstalling either deletes files of both.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path

REPAIR = (
    "Repair: pip uninstall -y langchain-predictionguard predictionguard, then "
    "pip install --force-reinstall --no-deps predictionguard-integrations (in a clone: with . as the last word)"
)
MARKER = "predictionguard_core"
"""A word that our `langchain_predictionguard/__init__.py` contains and the retired one does not."""


def warn_if_installed(module_file: str) -> None:
    """Warn if the retired package is installed in the folder that holds the package of `module_file`.

    It reads one folder listing, as it runs at each import.
    """
    try:
        names = os.listdir(Path(module_file).parents[1])
    except OSError:
        return
    if any(name.startswith("langchain_predictionguard-") and name.endswith(".dist-info") for name in names):
        warnings.warn(
            "The retired package langchain-predictionguard is installed, too, and shares its files with this one. "
            f"Uninstalling it alone would break this package. {REPAIR}",
            stacklevel=2,
        )


def find_damage() -> str | None:
    """Return what the retired package has done to `langchain_predictionguard`, or None."""
    spec = importlib.util.find_spec("langchain_predictionguard")
    if spec is None:
        return None  # not installed at all, as in a copy of the core alone
    if spec.origin is None:
        return f"langchain_predictionguard has lost its files: the retired package was uninstalled. {REPAIR}"
    if MARKER not in Path(spec.origin).read_text(encoding="utf-8"):
        return f"langchain_predictionguard is the retired package, at {spec.origin}. {REPAIR}"
    return None
