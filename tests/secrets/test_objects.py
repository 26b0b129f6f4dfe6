"""No repr, dump, pickle or copy of a model or client contains the API key."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import pickle
import pprint
from collections.abc import Callable, Iterable
from typing import Any

import cloudpickle
import pytest
from langchain_core.load import dumpd, dumps
from langchain_core.runnables import Runnable
from pydantic import SecretStr

from tests.endurance.conftest import Echo
from tests.endurance.kinds import KINDS, Kind
from tests.secrets.find_secrets import KEY, find_secrets


def _method(name: str, *args: Any, **options: Any) -> Callable[[Any], Any]:
    """Return a function that calls this method, or returns None where there is no such method."""
    return lambda model: getattr(model, name)(*args, **options) if hasattr(model, name) else None


def _printed(model: Any) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print(model, [model], {"model": model})  # noqa: T201 - printing is what is tested
        pprint.pprint(model)  # noqa: T203
        pprint.pprint(vars(model))  # noqa: T203
    return out.getvalue()


def _attributes(model: Any) -> list[str]:
    texts = []
    for name in dir(type(model)) + list(vars(model)):
        with contextlib.suppress(Exception):
            value = getattr(model, name)
            texts.append(f"{name} {value!r} {value}")
            if not callable(value) and not isinstance(value, SecretStr):
                texts.append(f"{vars(value)!r}")
    return texts


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # some of the forms are deprecated methods

FORMS: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "str": str,
    "format": lambda model: f"{model} {model!s} {model!r} {model!s:>5}",
    "print": _printed,
    "vars": lambda model: repr(vars(model)),
    "attributes": _attributes,
    "fields": lambda model: {name: getattr(model, name) for name in getattr(type(model), "model_fields", ())},
    "dict": lambda model: dict(model) if hasattr(model, "model_dump") else None,
    "dict()": _method("dict"),
    "json()": _method("json"),
    "model_dump": _method("model_dump"),
    "model_dump, JSON": _method("model_dump", mode="json"),
    "model_dump, all": _method("model_dump", by_alias=True, exclude_none=False, round_trip=True),
    "model_dump_json": _method("model_dump_json"),
    "model_copy": lambda model: repr(model.model_copy(deep=True)) if hasattr(model, "model_copy") else None,
    "copies": lambda model: [repr(each) for each in (copy.copy(model), copy.deepcopy(model))],
    "state": lambda model: repr(model.__getstate__()),
    "reduce": lambda model: [repr(model.__reduce_ex__(protocol)) for protocol in (2, 4)],
    "pickle": lambda model: [pickle.dumps(model, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)],
    "pickle of a copy": lambda model: pickle.dumps(copy.deepcopy(model)),
    "cloudpickle": cloudpickle.dumps,
    "cloudpickle of a closure": lambda model: cloudpickle.dumps(lambda: model),
    "cloudpickle of a method": lambda model: cloudpickle.dumps(getattr(model, "invoke", model.__repr__)),
    "json.dumps with default": lambda model: json.dumps({"model": model}, default=str),
    "iteration": lambda model: list(model) if hasattr(model, "model_dump") else None,
    "rich": lambda model: [str(each) for each in model.__rich_repr__()] if hasattr(model, "__rich_repr__") else None,
    # LangChain
    "dumps": lambda model: dumps(model, pretty=True),
    "dumpd": dumpd,
    "to_json": _method("to_json"),
    "to_json_not_implemented": _method("to_json_not_implemented"),
    "cache key": _method("_get_llm_string"),
    "tracing": _method("_get_ls_params"),
    "bound": lambda model: [repr(model.bind(stop=["x"])), dumps(model.bind())] if isinstance(model, Runnable) else None,
    "in a chain": lambda model: (
        [repr(model | str), dumps(model | str), cloudpickle.dumps(model | str)] if isinstance(model, Runnable) else None
    ),
    "graph": lambda model: model.get_graph().to_json() if isinstance(model, Runnable) else None,
    "with_config": lambda model: (
        repr(model.with_config({"metadata": {"a": 1}}).config) if isinstance(model, Runnable) else None
    ),
    # LlamaIndex
    "to_dict": _method("to_dict"),
    "to_payload": _method("to_payload"),
}
"""The ways to turn a model into text or bytes, by any of the libraries."""


def check_no_key(model: Any, forms: Iterable[str] = FORMS) -> None:
    for form in forms:
        result = FORMS[form](model)
        for each in result if isinstance(result, list) else [result]:
            text = each if isinstance(each, bytes) else f"{each!r} {each}"
            assert find_secrets(text) == [], f"the key is in {form}"


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_form_of_an_unused_object_contains_the_key(kind: Kind) -> None:
    check_no_key(kind.make("http://127.0.0.1:9/v1", api_key=KEY))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_form_of_a_used_object_contains_the_key(kind: Kind, echo: Echo) -> None:
    model = kind.make(echo.url, api_key=KEY)
    if kind.ask:
        kind.ask(model, 1)
    if kind.aask:
        asyncio.run(kind.aask(model, 2))  # type: ignore[arg-type]
    check_no_key(model)


ADAPTER_KINDS = [kind for kind in KINDS if "-" in kind.name]  # the core's clients have no setter for the key


@pytest.mark.parametrize("kind", ADAPTER_KINDS, ids=str)
def test_key_set_after_construction_is_hidden(kind: Kind) -> None:
    model = kind.make("http://127.0.0.1:9", api_key="another")
    updated_copy = model.model_copy(update={"api_key": KEY})
    model.api_key = KEY
    for each in (model, updated_copy):
        check_no_key(each, ["repr", "vars", "model_dump_json", "pickle", "cloudpickle", "dumps", "attributes"])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_key_from_the_environment_is_hidden(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    model = kind.make("http://127.0.0.1:9", api_key=None)
    for each in (model, pickle.loads(pickle.dumps(model))):
        check_no_key(each)
