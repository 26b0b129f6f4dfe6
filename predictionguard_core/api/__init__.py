"""The JSON of each endpoint. What we send refuses unknown fields, what we receive ignores them."""

from typing import TYPE_CHECKING

from predictionguard_core import lazy

if TYPE_CHECKING:
    from predictionguard_core.api.base import refusal
    from predictionguard_core.api.body import Body, chat_body, completion_body, embedding_body, rerank_body
    from predictionguard_core.api.chat import (
        ChatRequest,
        Function,
        FunctionCall,
        FunctionName,
        ImagePart,
        ImageURL,
        Message,
        NamedToolChoice,
        Part,
        Place,
        StreamOptions,
        TextPart,
        Tool,
        ToolCall,
    )
    from predictionguard_core.api.checks import InputChecks, OutputChecks
    from predictionguard_core.api.completions import CompletionRequest
    from predictionguard_core.api.embeddings import (
        MAX_INPUTS,
        Embedding,
        EmbeddingInput,
        EmbeddingList,
        EmbeddingRequest,
        has_image,
    )
    from predictionguard_core.api.models import CAPABILITIES, Capability, Model, ModelList
    from predictionguard_core.api.rerank import Ranked, Ranking, RerankRequest
    from predictionguard_core.api.responses import (
        ChatChunk,
        ChatCompletion,
        Choice,
        ChunkChoice,
        CompletionTokensDetails,
        Delta,
        FunctionCallDelta,
        PromptTokensDetails,
        ToolCallDelta,
        Usage,
        check_status,
        text_alone,
    )

__all__ = [
    "CAPABILITIES",
    "MAX_INPUTS",
    "Body",
    "Capability",
    "ChatChunk",
    "ChatCompletion",
    "ChatRequest",
    "Choice",
    "ChunkChoice",
    "CompletionRequest",
    "CompletionTokensDetails",
    "Delta",
    "Embedding",
    "EmbeddingInput",
    "EmbeddingList",
    "EmbeddingRequest",
    "Function",
    "FunctionCall",
    "FunctionCallDelta",
    "FunctionName",
    "ImagePart",
    "ImageURL",
    "InputChecks",
    "Message",
    "Model",
    "ModelList",
    "NamedToolChoice",
    "OutputChecks",
    "Part",
    "Place",
    "PromptTokensDetails",
    "Ranked",
    "Ranking",
    "RerankRequest",
    "StreamOptions",
    "TextPart",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "chat_body",
    "check_status",
    "completion_body",
    "embedding_body",
    "has_image",
    "refusal",
    "rerank_body",
    "text_alone",
]

# Imported by who asks for it: an adapter needs the checks' fields, and nothing else before its first model is made.
_LATER = {
    name: f"{__name__}.{module}"
    for module, names in {
        "base": ("refusal",),
        "body": ("Body", "chat_body", "completion_body", "embedding_body", "rerank_body"),
        "chat": (
            "ChatRequest",
            "Function",
            "FunctionCall",
            "FunctionName",
            "ImagePart",
            "ImageURL",
            "Message",
            "NamedToolChoice",
            "Part",
            "Place",
            "StreamOptions",
            "TextPart",
            "Tool",
            "ToolCall",
        ),
        "checks": ("InputChecks", "OutputChecks"),
        "completions": ("CompletionRequest",),
        "embeddings": ("MAX_INPUTS", "Embedding", "EmbeddingInput", "EmbeddingList", "EmbeddingRequest", "has_image"),
        "models": ("CAPABILITIES", "Capability", "Model", "ModelList"),
        "responses": (
            "ChatChunk",
            "ChatCompletion",
            "Choice",
            "ChunkChoice",
            "CompletionTokensDetails",
            "Delta",
            "FunctionCallDelta",
            "PromptTokensDetails",
            "ToolCallDelta",
            "Usage",
            "check_status",
            "text_alone",
        ),
        "rerank": ("Ranked", "Ranking", "RerankRequest"),
    }.items()
    for name in names
}

__getattr__ = lazy.attributes(__name__, _LATER)
