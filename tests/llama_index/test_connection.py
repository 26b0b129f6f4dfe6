"""The key, the headers and the clients of all components."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode

import llama_index_predictionguard as adapter
from tests.llama_index.conftest import KEY

HELLO = [ChatMessage(role="user", content="hello")]
NODE = NodeWithScore(node=TextNode(text="a cat"))
SECRET = "gateway-secret"
CHAT = {"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}
REPLIES: dict[str, Any] = {
    "/chat/completions": CHAT,
    "/embeddings": {"data": [{"index": 0, "embedding": [1.0]}]},
    "/rerank": {"results": [{"index": 0, "relevance_score": 0.5, "text": "a cat"}]},
}
# Each component with its synchronous and its async call.
COMPONENTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "PredictionGuard": (lambda llm: llm.chat(HELLO), lambda llm: llm.achat(HELLO)),
    "PredictionGuardMultiModal": (lambda llm: llm.complete("hi", []), lambda llm: llm.acomplete("hi", [])),
    "PredictionGuardEmbedding": (lambda each: each.get_text_embedding("a"), lambda each: each.aget_text_embedding("a")),
    "PredictionGuardRerank": (
        lambda each: each.postprocess_nodes([NODE], query_str="q"),
        lambda each: each.apostprocess_nodes([NODE], query_str="q"),
    ),
}


class Service:
    """Answers every call, and keeps the headers that it was sent."""

    def __init__(self, module: Any = httpx) -> None:
        self.headers: list[Any] = []
        self._module = module
        self.clients: dict[str, Any] = {
            "http_client": module.Client(transport=module.MockTransport(self._answer)),
            "async_http_client": module.AsyncClient(transport=module.MockTransport(self._answer)),
        }

    def _answer(self, request: Any) -> Any:
        self.headers.append(request.headers)
        return self._module.Response(200, json=REPLIES[request.url.path])


@pytest.mark.parametrize("name", COMPONENTS)
async def test_default_headers_and_a_key_that_changes(name: str) -> None:
    service, keys = Service(), iter(["one", "two", "three"])
    component = getattr(adapter, name)(
        "m", api_key=lambda: next(keys), default_headers={"X-Gateway": SECRET}, **service.clients
    )
    call, acall = COMPONENTS[name]
    call(component)
    await acall(component)
    call(component.model_copy())
    assert [each["authorization"] for each in service.headers] == ["Bearer one", "Bearer two", "Bearer three"]
    assert {each["x-gateway"] for each in service.headers} == {SECRET}
    shown = [repr(component), str(component), repr(component.to_dict()), component.to_json(), repr(vars(component))]
    assert SECRET not in "".join(shown[:-1])


@pytest.mark.parametrize("name", ["PredictionGuard", "PredictionGuardMultiModal"])
async def test_an_async_function_as_the_key(name: str) -> None:
    async def fetch() -> str:
        return "fetched"

    service = Service()
    component = getattr(adapter, name)("m", api_key=fetch, **service.clients)
    await COMPONENTS[name][1](component)
    assert service.headers[0]["authorization"] == "Bearer fetched"
    assert copy.deepcopy(component).api_key is fetch


async def test_headers_of_one_call() -> None:
    service = Service()
    llm = adapter.PredictionGuard("m", api_key=KEY, default_headers={"X-A": "1", "X-B": "1"}, **service.clients)
    llm.chat(HELLO, extra_headers={"X-B": "2"})
    llm.complete("hi", extra_headers={"X-B": "3"})
    await llm.achat(HELLO, extra_headers={"X-B": "4"})
    llm.chat(HELLO)
    assert [(each["x-a"], each["x-b"]) for each in service.headers] == [("1", "2"), ("1", "3"), ("1", "4"), ("1", "1")]


@pytest.mark.parametrize("name", COMPONENTS)
async def test_clients_of_httpx2(name: str) -> None:
    service = Service(pytest.importorskip("httpx2"))
    component = getattr(adapter, name)("m", api_key=KEY, **service.clients)
    call, acall = COMPONENTS[name]
    call(component)
    await acall(component)
    assert len(service.headers) == 2


@pytest.mark.parametrize("name", COMPONENTS)
def test_headers_survive_pickling_and_keys_do_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    component = getattr(adapter, name)("m", api_key=lambda: "called", default_headers={"X-Gateway": SECRET})
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    copied = pickle.loads(pickle.dumps(component))
    assert copied.default_headers == {"X-Gateway": SECRET}
    assert copied.api_key.get_secret_value() == KEY


@pytest.mark.parametrize("name", COMPONENTS)
def test_an_invalid_http_client_is_refused_by_name(name: str) -> None:
    for argument in ("http_client", "async_http_client"):
        with pytest.raises(adapter.ConfigurationError, match=rf"{argument} must be .* got builtins\.str"):
            getattr(adapter, name)("m", api_key=KEY, **{argument: "client"})
