"""The import path `llama_index.llms.predictionguard`, where LlamaIndex's own integrations have theirs."""

from llama_index_predictionguard.llm import PredictionGuard

__all__ = ["PredictionGuard"]
