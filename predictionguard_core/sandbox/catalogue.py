"""The models the sandbox stands in for, by the names the documentation uses.

Only two context lengths are documented (16,384 for `Qwen2.5-VL-7B-Instruct`, 128,000 for
`gpt-oss-120b`); the others are those of the open models with these names or smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predictionguard_core.sandbox.reply import Refusal

CAPABILITIES = (
    "chat_completion",
    "chat_with_image",
    "completion",
    "embedding",
    "embedding_with_image",
    "tokenize",
    "detokenize",
    "rerank",
    "tool_calling",
    "reasoning",
)
_CREATED = 1730332800
_CHAT = ("chat_completion", "tokenize", "detokenize")


@dataclass(frozen=True)
class Model:
    """One entry of `GET /models`; `context` is in tokens, `dimensions` the length of an embedding."""

    name: str
    owner: str
    context: int
    capabilities: tuple[str, ...]
    dimensions: int = 0
    prompt_format: str = "none"

    def can(self, capability: str) -> bool:
        """Whether the model has a capability, spelled with underscores."""
        return capability in self.capabilities

    def describe(self) -> str:
        """What stands behind the name here, and what does not."""
        says = []
        if self.can("chat_completion"):
            says.append("its answers are made by rules that echo the question")
        if self.can("chat_with_image"):
            says.append("of a picture it sees type, size, orientation, brightness and main colours, not what it shows")
        if self.can("tool_calling"):
            says.append("tool calls are guessed from JSON schemas and the words of the question")
        if self.can("embedding"):
            says.append("its vectors are hashed words")
        if self.can("rerank"):
            says.append("its scores are shared words")
        facts = "; ".join([*says, "token counts are estimates"])
        return f"Sandbox stand-in for {self.name}; no model is behind it: {facts}."

    def entry(self) -> dict[str, Any]:
        """The model as `GET /models` lists it."""
        return {
            "id": self.name,
            "object": "model",
            "created": _CREATED,
            "owned_by": self.owner,
            "description": self.describe(),
            "max_context_length": self.context,
            "prompt_format": self.prompt_format,
            "capabilities": {name: self.can(name) for name in CAPABILITIES},
        }


MODELS = {
    model.name: model
    for model in (
        Model("Qwen2.5-VL-7B-Instruct", "Qwen", 16384, (*_CHAT, "chat_with_image", "tool_calling")),
        Model("llava-1.5-7b-hf", "llava-hf", 4096, (*_CHAT, "chat_with_image"), prompt_format="llava"),
        Model("gpt-oss-120b", "OpenAI", 128000, (*_CHAT, "completion", "tool_calling", "reasoning")),
        Model("gemma-3-27b-it", "google", 128000, (*_CHAT, "completion", "tool_calling"), prompt_format="gemma"),
        Model("Hermes-3-Llama-3.1-8B", "NousResearch", 10240, (*_CHAT, "completion", "tool_calling"), 0, "chatml"),
        Model("neural-chat-7b-v3-3", "Intel", 4096, (*_CHAT, "completion"), prompt_format="neural chat"),
        Model("bge-m3", "BAAI", 8192, ("embedding", "tokenize"), 1024),
        Model("multilingual-e5-large-instruct", "intfloat", 512, ("embedding", "tokenize"), 1024),
        Model("bridgetower-large-itm-mlm-itc", "BridgeTower", 1024, ("embedding", "embedding_with_image"), 512),
        Model("bge-reranker-v2-m3", "BAAI", 8192, ("rerank", "tokenize")),
    )
}


def find(name: str, capability: str) -> Model:
    """The model of that name if it has the capability; a refusal that names it otherwise."""
    model = MODELS.get(name)
    if model is None:
        raise Refusal(f"model {name[:100]!r} is not available; GET /models lists the names")
    if not model.can(capability):
        raise Refusal(f"model {name!r} does not support {capability.replace('_', ' ')}")
    return model


def listing(capability: str | None = None) -> dict[str, Any]:
    """The body of `GET /models` and `GET /models/{capability}`.

    The path spells some capabilities with hyphens and some with underscores; both are taken for all.
    """
    wanted = capability.replace("-", "_") if capability is not None else None
    if wanted is not None and wanted not in CAPABILITIES:
        raise Refusal(f"unknown capability {(capability or '')[:100]!r}; known are {', '.join(CAPABILITIES)}")
    data = [model.entry() for model in MODELS.values() if wanted is None or model.can(wanted)]
    return {"object": "list", "data": data}
