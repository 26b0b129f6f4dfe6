"""A model object as a thing: what it shows, how it is copied, what making it and importing it costs."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_index.core.llms import ChatMessage
from pydantic import SecretStr

import llama_index_predictionguard as wing
from llama_index_predictionguard import (
    ImagePolicy,
    PredictionGuard,
    PredictionGuardEmbedding,
    PredictionGuardMultiModal,
    PredictionGuardRerank,
)

KEY = "sk-not-to-be-seen"
HELLO = [ChatMessage(role="user", content="hello there")]
ROOT = Path(__file__).parents[2]


def answer_of(llm: PredictionGuard) -> str | None:
    return llm.chat(HELLO).message.content


@pytest.fixture(params=[PredictionGuard, PredictionGuardMultiModal])
def model(request: Any, box: Any) -> Any:
    return request.param(
        "Qwen2.5-VL-7B-Instruct",
        api_key=KEY,
        base_url=box.url,
        temperature=0.5,
        input_checks={"pii": "block"},
        images=ImagePolicy(local_roots=["/tmp"], max_edge=9),
    )


def test_the_key_shows_nowhere(model: Any) -> None:
    model.chat(HELLO)
    shown = [repr(model), str(model), repr(model.to_dict()), model.to_json(), repr(model.model_dump())]
    shown += [model.model_dump_json(), repr(model.to_payload() if hasattr(model, "to_payload") else "")]
    shown += [pickle.dumps(model).decode("latin-1"), repr(vars(model))]
    assert [text for text in shown if KEY in text] == []


def test_pickle(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(model)
    assert model.api_key.get_secret_value() == KEY
    keyless = pickle.loads(data)
    with pytest.raises(wing.ConfigurationError, match="PREDICTIONGUARD_API_KEY"):
        keyless.chat(HELLO)
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    twin = pickle.loads(data)
    assert twin.to_dict() == model.to_dict()
    assert twin.images == model.images
    assert twin.chat(HELLO).message.content == model.chat(HELLO).message.content


def test_pickle_leaves_the_object_whole(make: Callable[..., PredictionGuard], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    with httpx.Client() as client:
        llm = make(http_client=client, messages_to_prompt=lambda messages: "x")
        twin = pickle.loads(pickle.dumps(llm))
        assert llm.http_client is client
        assert llm.messages_to_prompt([]) == "x"
        assert twin.http_client is None
        assert answer_of(llm) == answer_of(twin)


def test_in_another_process(llm: PredictionGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    expected = answer_of(llm)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(answer_of, llm).result() == expected
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(answer_of, llm).result() == expected


def test_deepcopy_and_copy(make: Callable[..., PredictionGuard]) -> None:
    with httpx.Client() as client:
        llm = make(http_client=client, additional_kwargs={"seed": 1})
        for twin in (copy.deepcopy(llm), copy.copy(llm), llm.model_copy(update={"temperature": 1.0})):
            assert twin.http_client is client
            assert twin.api_key == SecretStr(KEY)
            assert answer_of(twin) == answer_of(llm)
        deep = copy.deepcopy(llm)
        deep.additional_kwargs["seed"] = 2
        assert llm.additional_kwargs == {"seed": 1}


def test_to_dict_and_back(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    for twin in (type(model).from_dict(model.to_dict()), type(model).from_json(model.to_json())):
        assert twin == model.model_copy(update={"callback_manager": twin.callback_manager})


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "from-environment")
    monkeypatch.setenv("PREDICTIONGUARD_URL", "https://pg.example.com/v1/")
    llm = PredictionGuard("m")
    assert llm.api_key == SecretStr("from-environment")
    assert llm.base_url == "https://pg.example.com/v1"
    given = PredictionGuard("m", api_key=SecretStr("given"), api_base="http://other.example")
    assert given.api_key == SecretStr("given")
    assert given.base_url == "http://other.example"


def test_making_one_touches_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a socket was asked for")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    for kind in (PredictionGuard, PredictionGuardMultiModal, PredictionGuardEmbedding, PredictionGuardRerank):
        assert kind("m", api_key="k", base_url="http://127.0.0.1:9").model == "m"


def test_your_own_http_client_is_used_and_left_open(make: Callable[..., PredictionGuard]) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={"choices": [{"message": {"content": "Hi."}}]})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    assert answer_of(make(http_client=client)) == "Hi."
    assert seen == [f"Bearer {KEY}"]
    assert not client.is_closed


async def test_your_own_asynchronous_http_client_is_used(make: Callable[..., PredictionGuard]) -> None:
    reply = {"choices": [{"message": {"content": "Hi."}}]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=reply))
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await make(async_http_client=client).achat(HELLO)).message.content == "Hi."


def test_a_subclass_with_a_field_of_its_own() -> None:
    class Mine(PredictionGuard):
        extra: int = 0

    assert Mine("m", api_key="k", extra=3).extra == 3


# Imports


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("PredictionGuardMultiModal", "multi_modal"),
        ("PredictionGuardEmbedding", "embeddings"),
        ("PredictionGuardRerank", "rerank"),
    ],
)
def test_importing_the_wing_imports_no_other_framework_and_what_is_asked_for(name: str, module: str) -> None:
    code = f"""
import sys, llama_index_predictionguard as wing
wing.PredictionGuard("m", api_key="k")
print(sorted(name for name in sys.modules if name.partition(".")[0].startswith("langchain")))
print("llama_index_predictionguard.{module}" in sys.modules)
wing.{name}("m", api_key="k")
print("llama_index_predictionguard.{module}" in sys.modules)
"""
    assert run(code).split() == ["[]", "False", "True"]


def test_without_llama_index_the_error_names_the_remedy() -> None:
    code = """
import sys
sys.modules["llama_index.core"] = None
try:
    import llama_index_predictionguard
except ImportError as error:
    print(error)
"""
    assert 'pip install "predictionguard-integrations[llama-index]"' in run(code)


def test_the_public_names_are_there() -> None:
    assert [name for name in wing.__all__ if not hasattr(wing, name)] == []
    with pytest.raises(AttributeError):
        wing.no_such_name  # noqa: B018
