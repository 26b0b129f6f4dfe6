"""Names that a module has and does not load: each is imported when it is first asked for (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def modules(owner: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of the module `owner`, whose names stand for modules: `homes` has their full names."""
    return _getter(owner, homes, lambda name: importlib.import_module(homes[name]))


def attributes(owner: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `owner`, whose names stand for what other modules define: `homes` tells which of them."""
    return _getter(owner, homes, lambda name: getattr(importlib.import_module(homes[name]), name))


def load(owner: str, names: Iterable[str]) -> None:
    """Load those of these names that are not."""
    module = sys.modules[owner]
    for name in names:
        getattr(module, name)


def _getter(owner: str, homes: Mapping[str, str], find: Callable[[str], Any]) -> Callable[[str], Any]:
    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {owner!r} has no attribute {name!r}")
        # Kept, so that it is asked for here once.
        return vars(sys.modules[owner]).setdefault(name, find(name))

    return get
