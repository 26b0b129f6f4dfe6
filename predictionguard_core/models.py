"""What is known of the models that the service's documentation names, without asking it.

Models come and go: none is a default, one that is not here is simply unknown, and `Client.models()` tells what an
account has. Source: the service's documentation and its OpenAPI specification.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What a model can do. `context_window` is in tokens. None: the documentation does not say."""

    context_window: int | None = None
    sees: bool = False
    calls_tools: bool | None = None
    reasons: bool | None = None


_FACTS = {
    "Qwen2.5-VL-7B-Instruct": Facts(context_window=16_384, sees=True),
    "llava-1.5-7b-hf": Facts(sees=True),
    "gpt-oss-120b": Facts(context_window=128_000, calls_tools=True, reasons=True),
    "gemma-3-27b-it": Facts(),
    "Hermes-3-Llama-3.1-8B": Facts(),
    "neural-chat-7b-v3-3": Facts(),
}


def facts(model: str) -> Facts | None:
    """What is known of a model; None for one that the documentation does not name."""
    return _FACTS.get(model)
