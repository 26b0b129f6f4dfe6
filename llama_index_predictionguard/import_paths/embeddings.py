"""The import path `llama_index.embeddings.predictionguard`, where LlamaIndex's own integrations have theirs."""

from llama_index_predictionguard.embeddings import PredictionGuardEmbedding

__all__ = ["PredictionGuardEmbedding"]
