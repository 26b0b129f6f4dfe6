"""What a model needs and an import does not: loaded when the first model is made, or when it is first named here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictionguard_core import lazy

if TYPE_CHECKING:
    from llama_index_predictionguard import messages as messages
    from llama_index_predictionguard import tool_calls as tool_calls
    from predictionguard_core import client as client
    from predictionguard_core.api import chat as chat

_MODULES = {
    "messages": "llama_index_predictionguard.messages",
    "tool_calls": "llama_index_predictionguard.tool_calls",
    "client": "predictionguard_core.client",
    "chat": "predictionguard_core.api.chat",
}

__getattr__ = lazy.modules(__name__, _MODULES)


def load() -> None:
    """Load what every call needs, so that none has to, least of all on an event loop."""
    lazy.load(__name__, _MODULES)
