"""Each of the core's errors has a class that is LangChain's, too."""

from __future__ import annotations

import pickle

import pytest
from langchain_core import exceptions as lc

from langchain_predictionguard import errors as wing
from predictionguard_core import errors as core

TREE = [getattr(core, name) for name in core.__all__]


def made(kind: type[core.PredictionGuardError]) -> core.PredictionGuardError:
    if issubclass(kind, core.APIStatusError):
        return kind("what the service said", status_code=418, request_id="r1", retry_after=2.5)
    if issubclass(kind, core.ContentError):
        return kind("what was wrong", message_index=3, block_index=1)
    return kind("what happened")


@pytest.mark.parametrize("kind", TREE)
def test_every_class_has_its_row(kind: type[core.PredictionGuardError]) -> None:
    both = wing.TABLE[kind]
    assert both.__name__ == kind.__name__
    assert issubclass(both, kind)
    assert issubclass(both, lc.ModelError)


@pytest.mark.parametrize("kind", TREE)
def test_the_tree_here_is_the_cores(kind: type[core.PredictionGuardError]) -> None:
    for other in TREE:
        assert issubclass(wing.TABLE[kind], wing.TABLE[other]) == issubclass(kind, other)


@pytest.mark.parametrize("kind", TREE)
def test_the_conversion_keeps_all_that_the_error_knew(kind: type[core.PredictionGuardError]) -> None:
    error = made(kind)
    with pytest.raises(wing.TABLE[kind]) as caught, wing.langchain_errors():
        raise error from ValueError("below")
    both = caught.value
    assert type(both) is wing.TABLE[kind]
    assert (str(both), vars(both)) == (str(error), vars(error))
    assert isinstance(both.__cause__, ValueError)
    again = pickle.loads(pickle.dumps(both))
    assert (type(again), str(again), vars(again)) == (type(both), str(both), vars(both))


@pytest.mark.parametrize(
    ("kind", "theirs", "retryable"),
    [
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
    ],
)
def test_which_of_langchains_it_is(
    kind: type[core.PredictionGuardError], theirs: type[lc.ModelError], retryable: bool
) -> None:
    assert issubclass(wing.TABLE[kind], theirs)
    assert wing.TABLE[kind].is_retryable is retryable
