"""What a model needs and an import does not: loaded when the first model is made, or when it is first named here.

Importing this package shall cost little over LangChain's own base class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_predictionguard import blocks as blocks
    from langchain_predictionguard import messages as messages
    from langchain_predictionguard import structured as structured
    from predictionguard_core import client as client
    from predictionguard_core import tokens as tokens
    from predictionguard_core import wire as wire

_MODULES = {
    "blocks": "langchain_predictionguard.blocks",
    "messages": "langchain_predictionguard.messages",
    "structured": "langchain_predictionguard.structured",
    "client": "predictionguard_core.client",
    "tokens": "predictionguard_core.tokens",
    "wire": "predictionguard_core.wire",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, importlib.import_module(_MODULES[name]))


def load() -> None:
    """Load what every call needs, so that none has to, least of all on an event loop."""
    for name in ("blocks", "messages", "client", "wire"):
        __getattr__(name)
