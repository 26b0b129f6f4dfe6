"""The import path `llama_index.postprocessor.predictionguard_rerank`, where LlamaIndex's own integrations have theirs."""

from llama_index_predictionguard.rerank import PredictionGuardRerank

__all__ = ["PredictionGuardRerank"]
