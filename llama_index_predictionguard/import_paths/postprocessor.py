"""The import path `llama_index.postprocessor.predictionguard_rerank`, as LlamaIndex names its integrations."""

from llama_index_predictionguard.rerank import PredictionGuardRerank

__all__ = ["PredictionGuardRerank"]
