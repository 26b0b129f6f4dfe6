"""What a model needs and an import does not: loaded when the first model is made, or when it is first named here.

Importing this package shall cost little over LangChain's own base class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictionguard_core import lazy

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

__getattr__ = lazy.modules(__name__, _MODULES)


def load() -> None:
    """Load what every call needs, so that none has to, least of all on an event loop."""
    lazy.load(__name__, ("blocks", "messages", "client", "wire"))
