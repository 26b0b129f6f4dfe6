"""The import path `llama_index.multi_modal_llms.predictionguard`, where LlamaIndex's own integrations have theirs."""

from llama_index_predictionguard.multi_modal import PredictionGuardMultiModal

__all__ = ["PredictionGuardMultiModal"]
