"""What a model needs and an import does not: loaded when the first model is made, or when it is first named here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_index_predictionguard import messages as messages
    from llama_index_predictionguard import tools as tools
    from predictionguard_core import client as client
    from predictionguard_core import wire as wire

_MODULES = {
    "messages": "llama_index_predictionguard.messages",
    "tools": "llama_index_predictionguard.tools",
    "client": "predictionguard_core.client",
    "wire": "predictionguard_core.wire",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, importlib.import_module(_MODULES[name]))


def load() -> None:
    """Load what every call needs, so that none has to, least of all on an event loop."""
    for name in _MODULES:
        __getattr__(name)
