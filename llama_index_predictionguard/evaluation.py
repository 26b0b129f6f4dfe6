"""Prediction Guard's factuality check as an evaluator of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.evaluation import BaseEvaluator, EvaluationResult
from llama_index.core.prompts.mixin import PromptDictType
from pydantic import Field

from llama_index_predictionguard.base import ServiceComponent
from predictionguard_core.errors import ConfigurationError


class _Connection(ServiceComponent):
    """The evaluator's options and connection: LlamaIndex's evaluators are no components themselves."""

    threshold: float = Field(default=0.5, ge=0, le=1)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def class_name(cls) -> str:
        return "PredictionGuardFactualityEvaluator"


class PredictionGuardFactualityEvaluator(BaseEvaluator):
    """Evaluate whether an answer is supported by its contexts: `FaithfulnessEvaluator` without a language model.

    Args:
        threshold: Score from which an answer passes.
        connection: `api_key`, `base_url`, `timeout`, `max_retries`, `default_headers`, `http_client` and
            `async_http_client`, as in `PredictionGuard`.

    Raises:
        ConfigurationError: an option is wrong, or `evaluate` is called without a response or without contexts.

    Example:
        >>> evaluator = PredictionGuardFactualityEvaluator()
        >>> result = evaluator.evaluate(response="The sky is green.", contexts=["The sky is blue."])
        >>> result.passing
        False
    """

    def __init__(self, *, threshold: float = 0.5, **connection: Any) -> None:
        self._connection = _Connection(threshold=threshold, **connection)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        pass  # there is no prompt to update

    def evaluate(
        self,
        query: str | None = None,
        response: str | None = None,
        contexts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Return how well the contexts support the response, as `score`, and whether that is enough, as `passing`."""
        reference, text = _check_arguments(response, contexts)
        score = self._connection._client().check_factuality(reference, text).score
        return self._result(query, text, contexts, score)

    async def aevaluate(
        self,
        query: str | None = None,
        response: str | None = None,
        contexts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Async version of `evaluate`."""
        reference, text = _check_arguments(response, contexts)
        score = (await self._connection._async_client().check_factuality(reference, text)).score
        return self._result(query, text, contexts, score)

    def _result(
        self, query: str | None, response: str, contexts: Sequence[str] | None, score: float
    ) -> EvaluationResult:
        threshold = self._connection.threshold
        is_passing = score >= threshold
        return EvaluationResult(
            query=query,
            response=response,
            contexts=contexts,
            score=score,
            passing=is_passing,
            feedback=f"factuality {score:.2f}, {'at least' if is_passing else 'below'} {threshold}",
        )


def _check_arguments(response: str | None, contexts: Sequence[str] | None) -> tuple[str, str]:
    """Return the contexts as one text, and the response."""
    if not isinstance(response, str | None):
        raise ConfigurationError(
            f"response must be a string, got {type(response).__name__}: pass str(response), or call evaluate_response"
        )
    contexts = contexts or []
    if isinstance(contexts, str) or not all(isinstance(each, str) for each in contexts):
        raise ConfigurationError("contexts must be a list of strings")
    reference = "\n\n".join(contexts)
    if not (response and response.strip() and reference.strip()):
        raise ConfigurationError("evaluate needs a response and contexts that are not empty; pass both")
    return reference, response
