"""The import path `llama_index.embeddings.predictionguard`, as LlamaIndex names its integrations."""

from llama_index_predictionguard.embeddings import PredictionGuardEmbedding

__all__ = ["PredictionGuardEmbedding"]
