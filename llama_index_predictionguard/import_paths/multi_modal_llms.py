"""The import path `llama_index.multi_modal_llms.predictionguard`, as LlamaIndex names its integrations."""

from llama_index_predictionguard.multi_modal import PredictionGuardMultiModal

__all__ = ["PredictionGuardMultiModal"]
