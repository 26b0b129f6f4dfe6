"""Model objects: representation, copies, pickles, constructors and imports."""

from __future__ import annotations

import copy
import inspect
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

import llama_index_predictionguard as adapter
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


def test_the_key_is_in_no_repr_dump_or_pickle(model: Any) -> None:
    model.chat(HELLO)
    shown = [repr(model), str(model), repr(model.to_dict()), model.to_json(), repr(model.model_dump())]
    shown += [model.model_dump_json(), repr(model.to_payload() if hasattr(model, "to_payload") else "")]
    shown += [pickle.dumps(model).decode("latin-1"), repr(vars(model))]
    assert [text for text in shown if KEY in text] == []


def test_pickle(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(model)
    assert model.api_key.get_secret_value() == KEY
    keyless = pickle.loads(data)
    with pytest.raises(adapter.ConfigurationError, match="PREDICTIONGUARD_API_KEY"):
        keyless.chat(HELLO)
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    restored = pickle.loads(data)
    assert restored.to_dict() == model.to_dict()
    assert restored.images == model.images
    assert restored.chat(HELLO).message.content == model.chat(HELLO).message.content


def test_pickling_does_not_change_the_object(
    make: Callable[..., PredictionGuard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    with httpx.Client() as client:
        llm = make(http_client=client, messages_to_prompt=lambda messages: "x")
        restored = pickle.loads(pickle.dumps(llm))
        assert llm.http_client is client
        assert llm.messages_to_prompt([]) == "x"
        assert restored.http_client is None
        assert answer_of(llm) == answer_of(restored)


def test_in_another_process(llm: PredictionGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    expected = answer_of(llm)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(answer_of, llm).result() == expected
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(answer_of, llm).result() == expected
    monkeypatch.delenv("PREDICTIONGUARD_API_KEY")
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        with pytest.raises(adapter.ConfigurationError, match="PREDICTIONGUARD_API_KEY"):
            pool.submit(answer_of, llm).result()


def test_deepcopy_and_copy(make: Callable[..., PredictionGuard]) -> None:
    with httpx.Client() as client:
        llm = make(http_client=client, additional_kwargs={"seed": 1})
        for restored in (copy.deepcopy(llm), copy.copy(llm), llm.model_copy(update={"temperature": 1.0})):
            assert restored.http_client is client
            assert restored.api_key == SecretStr(KEY)
            assert answer_of(restored) == answer_of(llm)
        deep = copy.deepcopy(llm)
        deep.additional_kwargs["seed"] = 2
        assert llm.additional_kwargs == {"seed": 1}


def test_to_dict_and_back(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    for restored in (type(model).from_dict(model.to_dict()), type(model).from_json(model.to_json())):
        assert restored == model.model_copy(update={"callback_manager": restored.callback_manager})


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "from-environment")
    monkeypatch.setenv("PREDICTIONGUARD_URL", "https://pg.example.com/v1/")
    llm = PredictionGuard("m")
    assert llm.api_key == SecretStr("from-environment")
    assert llm.base_url == "https://pg.example.com/v1"
    explicit = PredictionGuard("m", api_key=SecretStr("explicit"), api_base="http://other.example")
    assert explicit.api_key == SecretStr("explicit")
    assert explicit.base_url == "http://other.example"


def test_constructors_open_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a constructor used a socket")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    for kind in (PredictionGuard, PredictionGuardMultiModal, PredictionGuardEmbedding, PredictionGuardRerank):
        assert kind("m", api_key="k", base_url="http://127.0.0.1:9").model == "m"


def test_a_custom_http_client_is_used_and_left_open(make: Callable[..., PredictionGuard]) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={"choices": [{"message": {"content": "Hi."}}]})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    assert answer_of(make(http_client=client)) == "Hi."
    assert seen == [f"Bearer {KEY}"]
    assert not client.is_closed


async def test_a_custom_async_http_client_is_used(make: Callable[..., PredictionGuard]) -> None:
    reply = {"choices": [{"message": {"content": "Hi."}}]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=reply))
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await make(async_http_client=client).achat(HELLO)).message.content == "Hi."


def test_a_subclass_can_add_a_field() -> None:
    class Mine(PredictionGuard):
        extra: int = 0

    assert Mine("m", api_key="k", extra=3).extra == 3


# Imports


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_modules_are_imported_on_first_use_and_no_other_framework_is() -> None:
    code = """
import sys, llama_index_predictionguard as adapter
modules = {"PredictionGuardMultiModal": "multi_modal", "PredictionGuardEmbedding": "embeddings",
           "PredictionGuardRerank": "rerank"}
adapter.PredictionGuard("m", api_key="k")
for name, module in modules.items():
    module = "llama_index_predictionguard." + module
    if module in sys.modules:
        print(module, "is imported too early")
    getattr(adapter, name)("m", api_key="k")
    if module not in sys.modules:
        print(name, "is not defined in", module)
print(*[name for name in sys.modules if name.partition(".")[0].startswith("langchain")])
"""
    assert run(code).strip() == ""


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
    assert [name for name in adapter.__all__ if not hasattr(adapter, name)] == []
    with pytest.raises(AttributeError):
        adapter.no_such_name  # noqa: B018


def test_a_name_of_the_langchain_integration_is_explained() -> None:
    for name, ours in (("ChatPredictionGuard", "PredictionGuard"), ("PredictionGuardLoader", "PredictionGuardReader")):
        with pytest.raises(ImportError, match=f"{name} is in langchain_predictionguard; .* has {ours}$"):
            getattr(adapter, name)
    assert run("from llama_index_predictionguard import *") == ""


def test_misspelt_options_are_explained() -> None:
    for kind, wrong, meant in (
        (PredictionGuard, "temprature", "temperature"),
        (PredictionGuard, "http_async_client", "async_http_client"),
        (PredictionGuardMultiModal, "max_token", "max_tokens"),
        (PredictionGuardEmbedding, "embed_batchsize", "embed_batch_size"),
        (PredictionGuardRerank, "topn", "top_n"),
        (adapter.PredictionGuardReader, "chunksize", "chunk_size"),
    ):
        arguments = {} if kind is adapter.PredictionGuardReader else {"model": "m"}
        with pytest.raises(adapter.ConfigurationError, match=f"{wrong}: .*(did you mean|use) {meant}"):
            kind(api_key="k", **arguments, **{wrong: 1})


def test_signatures_are_readable() -> None:
    for name in adapter.__all__:
        kind = getattr(adapter, name)
        if name.startswith("PredictionGuard") and name != "PredictionGuardError":
            signature = inspect.signature(kind)
            assert len(str(signature)) < 1500, name
            for unwanted in ("lambda", "ImagePolicy(", "Annotated", "''", "object at", "<function"):
                assert unwanted not in str(signature), name
            if "model" in signature.parameters:
                assert str(signature.parameters["model"]) == "model: str", name
            if "http_client" in signature.parameters:
                assert "httpx.Client | httpx2.Client" in str(signature), name
