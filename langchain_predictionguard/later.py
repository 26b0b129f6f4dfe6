"""What a model needs and an import does not: loaded when the first model is made, or when it is first named here.

Importing this package shall cost little over LangChain's own base class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictionguard_core import lazy

if TYPE_CHECKING:
    from langchain_predictionguard import content_blocks as content_blocks
    from langchain_predictionguard import messages as messages
    from langchain_predictionguard import structured_output as structured_output
    from predictionguard_core import client as client
    from predictionguard_core import token_counts as token_counts
    from predictionguard_core.api import chat as chat

_MODULES = {
    "content_blocks": "langchain_predictionguard.content_blocks",
    "messages": "langchain_predictionguard.messages",
    "structured_output": "langchain_predictionguard.structured_output",
    "client": "predictionguard_core.client",
    "token_counts": "predictionguard_core.token_counts",
    "chat": "predictionguard_core.api.chat",
}

__getattr__ = lazy.modules(__name__, _MODULES)


def load() -> None:
    """Load what every call needs, so that none has to, least of all on an event loop."""
    lazy.load(__name__, ("content_blocks", "messages", "client", "chat"))
