"""The core's errors as LangChain's."""

from __future__ import annotations

import pickle

import pytest
from langchain_core import exceptions as lc

from langchain_predictionguard import errors as adapter
from predictionguard_core import errors as core

TREE = [getattr(core, name) for name in core.__all__]


def new_error(kind: type[core.PredictionGuardError]) -> core.PredictionGuardError:
    if issubclass(kind, core.APIStatusError):
        return kind("what the service said", status_code=418, request_id="r1", retry_after=2.5)
    if issubclass(kind, core.ContentError):
        return kind("what was wrong", message_index=3, block_index=1)
    return kind("what happened")


def test_every_error_of_the_core_has_a_langchain_class() -> None:
    for kind in TREE:
        both = adapter.TABLE[kind]
        assert both.__name__ == kind.__name__
        assert issubclass(both, kind)
        assert issubclass(both, lc.ModelError), kind
        for other in TREE:
            assert issubclass(both, adapter.TABLE[other]) == issubclass(kind, other), (kind, other)


def test_conversion_keeps_all_attributes() -> None:
    for kind in TREE:
        error = new_error(kind)
        with pytest.raises(adapter.TABLE[kind]) as caught, adapter.langchain_errors():
            raise error from ValueError("below")
        both = caught.value
        assert type(both) is adapter.TABLE[kind]
        assert (str(both), vars(both)) == (str(error), vars(error)), kind
        assert isinstance(both.__cause__, ValueError)
        copy = pickle.loads(pickle.dumps(both))
        assert (type(copy), str(copy), vars(copy)) == (type(both), str(both), vars(both)), kind


def test_base_classes_and_whether_langchain_retries() -> None:
    for kind, base, is_retryable in (
        (core.RateLimitError, lc.ModelRateLimitError, True),
        (core.AuthenticationError, lc.ModelAuthenticationError, False),
        (core.PermissionDeniedError, lc.ModelPermissionDeniedError, False),
        (core.NotFoundError, lc.ModelNotFoundError, False),
        (core.PIIDetectedError, lc.ModelInvalidRequestError, False),
        (core.ContextOverflowError, lc.ContextOverflowError, False),
        (core.ServerError, lc.ModelAPIError, True),
        (core.APITimeoutError, lc.ModelTimeoutError, True),
        (core.APIConnectionError, lc.ModelConnectionError, True),
        (core.ImageTooLargeError, lc.ModelInvalidRequestError, False),
    ):
        assert issubclass(adapter.TABLE[kind], base), kind
        assert adapter.TABLE[kind].is_retryable is is_retryable, kind
