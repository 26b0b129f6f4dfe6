"""The import path `llama_index.llms.predictionguard`, as LlamaIndex names its integrations."""

from llama_index_predictionguard.llm import PredictionGuard

__all__ = ["PredictionGuard"]
