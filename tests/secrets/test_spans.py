"""Whoever watches LlamaIndex sees no picture's bytes in our classes' spans and events, whatever they are used for."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import inspect
import pickle
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.llms import ChatMessage, ImageBlock, LLMMetadata, TextBlock
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, RichPromptTemplate, SelectorPromptTemplate
from llama_index.core.schema import ImageNode, MediaResource, Node, NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool
from llama_index.core.types import PydanticProgramMode
from llama_index_instrumentation.dispatcher import DISPATCHER_SPAN_DECORATED_ATTR
from pydantic import BaseModel

import llama_index_predictionguard as li
from llama_index_predictionguard import sight
from predictionguard_core.sandbox import Sandbox
from tests.core.pictures import b64
from tests.secrets.watch import DATA_URI, KEY, PICTURE, deeply, shown

OURS = ("PredictionGuard.", "PredictionGuardMultiModal.", "PredictionGuardEmbedding.", "PredictionGuardRerank.")
ENCODED = b64(PICTURE)
MARK = "<image/png 5x4 sha256:"
ASK = [ChatMessage(role="user", blocks=[TextBlock(text="What is it?"), ImageBlock(image=PICTURE)])]
PROMPT = ChatPromptTemplate(
    [ChatMessage(role="user", blocks=[TextBlock(text="What is {what}?"), ImageBlock(image=PICTURE)])]
)


class Out(BaseModel):
    """What is seen."""

    width: int
    height: int


def fetch_photo(name: str) -> list[Any]:
    """Fetch a photo by its name."""
    return [TextBlock(text=f"the photo named {name}"), ImageBlock(image=PICTURE)]


PHOTO = FunctionTool.from_defaults(fetch_photo)


class Events(BaseEventHandler):
    """Writes down each event at once, in every form it can be written down."""

    told: list[tuple[str, str]] = []
    kept: list[Any] = []

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.kept.append(event)
        name, texts = event.class_name(), [*deeply(event, 6)]
        if "Structured" not in name:  # which hold a class, and have no JSON
            texts.append(event.model_dump_json())
        self.told.append((name, "\n".join(texts)))
        if template := getattr(event, "template", None):
            copies = [template, pickle.loads(pickle.dumps(template)), copy.deepcopy(template), template.model_copy()]
            texts = [*deeply(copies[1:], 6), *(pickle.dumps(each).decode("latin-1") for each in copies)]
            texts += [repr(each.format_messages(what="?")) for each in copies[1:3]]
            self.told.append((f"{name} copied", "\n".join(texts)))


class Spans(BaseSpanHandler[Any]):
    """Writes down what each of our spans says of a call's arguments and result."""

    told: list[tuple[str, str]] = []

    @classmethod
    def class_name(cls) -> str:
        return "Spans"

    def _tell(self, id_: str, bound_args: Any, result: Any = None) -> None:
        if id_.startswith(OURS):
            texts = [*deeply(dict(bound_args.arguments), 6), *deeply(result, 6)]
            self.told.append((id_.partition("-")[0], "\n".join(texts)))

    def new_span(self, id_: str, bound_args: Any, *args: Any, **kwargs: Any) -> Any:
        self._tell(id_, bound_args)

    def prepare_to_exit_span(self, id_: str, bound_args: Any, *args: Any, result: Any = None, **kwargs: Any) -> Any:
        self._tell(id_, bound_args, result)

    def prepare_to_drop_span(self, id_: str, bound_args: Any, *args: Any, **kwargs: Any) -> Any:
        self._tell(id_, bound_args)


class Seen:
    """The stand-in API, our objects that ask it, and what a watcher was told of them."""

    def __init__(self, box: Sandbox, events: Events, spans: Spans) -> None:
        self.box, self.events, self.spans = box, events, spans
        self.debug = LlamaDebugHandler(print_trace_on_end=False)
        self._given: Any = {"api_key": KEY, "base_url": box.url, "max_retries": 0}
        self._given["callback_manager"] = CallbackManager([self.debug])
        self.llm = self.make()
        self.eyes = li.PredictionGuardMultiModal("Qwen2.5-VL-7B-Instruct", **self._given)
        self.embedding = li.PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc", **self._given)
        self.rerank = li.PredictionGuardRerank("bge-reranker-v2-m3", **self._given)

    def make(self, **options: Any) -> li.PredictionGuard:
        return li.PredictionGuard("Qwen2.5-VL-7B-Instruct", **self._given, **options)

    def hides(self, *theirs: str) -> list[str]:
        """Hold our spans and all events but `theirs` against the picture. The names of our spans."""
        payloads = [(pair[0].event_type.value, each.payload) for pair in self.debug.get_event_pairs() for each in pair]
        told = [(name, text) for name, text in self.spans.told if name.startswith(OURS)]
        told += [(name, text) for name, text in self.events.told if name not in theirs]
        told += [(name, "\n".join(deeply(payload, 6))) for name, payload in payloads if f"payload {name}" not in theirs]
        assert [(name, found) for name, text in told if (found := shown(text))] == []
        assert any(MARK in text for _, text in told)
        assert ENCODED in repr(self.box.requests)
        return [name for name, _ in self.spans.told if name.startswith(OURS)]


@pytest.fixture
def seen() -> Iterator[Seen]:
    root, events, spans = get_dispatcher(), Events(told=[], kept=[]), Spans()
    spans.told.clear()
    before = list(root.event_handlers), list(root.span_handlers)
    with Sandbox(api_key=KEY) as box:
        root.add_event_handler(events)
        root.add_span_handler(spans)
        try:
            yield Seen(box, events, spans)
        finally:
            root.event_handlers, root.span_handlers = before


async def read(chunks: Any) -> list[Any]:
    return [each async for each in chunks]


# Tools and agents


def test_tools(seen: Seen) -> None:
    llm, question = seen.llm, "Fetch the photo named cat"
    asked = ChatMessage(role="user", blocks=[TextBlock(text=question), ImageBlock(image=PICTURE)])
    before = copy.deepcopy(asked)
    made = llm.chat_with_tools([PHOTO], asked, chat_history=ASK, tool_required=True)
    assert made.message.additional_kwargs["tool_calls"]
    assert list(llm.stream_chat_with_tools([PHOTO], chat_history=[*ASK, asked]))
    assert asyncio.run(llm.achat_with_tools([PHOTO], asked)).message
    assert asyncio.run(read(asyncio.run(_awaited(llm.astream_chat_with_tools([PHOTO], asked)))))
    assert asked == before
    assert "PredictionGuard._prepare_chat_with_tools" in seen.hides()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def test_what_a_tool_answers(seen: Seen) -> None:
    asked = ChatMessage(role="user", blocks=[TextBlock(text="Fetch the photo named cat"), ImageBlock(image=PICTURE)])
    sync = seen.llm.predict_and_call([PHOTO], asked, tool_required=True)
    later = asyncio.run(seen.llm.apredict_and_call([PHOTO], asked, tool_required=True))
    for answer in (sync, later):
        assert answer.sources[0].blocks[1].image == ENCODED.encode()
        assert answer.sources[0].raw_output[1].image == ENCODED.encode()
    names = seen.hides()
    assert {"PredictionGuard.predict_and_call", "PredictionGuard.apredict_and_call"} <= set(names)


@pytest.mark.parametrize("streaming", [True, False])
def test_an_agent_with_a_tool_that_fetches_pictures(streaming: bool, seen: Seen) -> None:
    async def ask() -> str:
        agent = FunctionAgent(tools=[PHOTO], llm=seen.llm, streaming=streaming)
        return str(await agent.run(user_msg="Fetch the photo named cat"))

    assert "5 x 4" in asyncio.run(ask())
    # What an agent's workflow tells of its steps is told by the workflow.
    names = seen.hides("AgentRunStepStartEvent", "AgentRunStepEndEvent", "AgentToolCallEvent", "payload function_call")
    assert "PredictionGuard._prepare_chat_with_tools" in names


# Prompts and structured answers


def asked_with(prompt: Any, **given: Any) -> dict[str, Callable[[Seen], Any]]:
    given = given or {"what": "it"}

    async def astream(seen: Seen) -> str:
        return "".join([each async for each in await seen.llm.astream(prompt, **given)])

    async def structures(llm: Any) -> Any:
        return (await read(await llm.astream_structured_predict(Out, prompt, **given)))[-1]

    return {
        "predict": lambda seen: seen.llm.predict(prompt, **given),
        "stream": lambda seen: "".join(seen.llm.stream(prompt, **given)),
        "apredict": lambda seen: asyncio.run(seen.llm.apredict(prompt, **given)),
        "astream": lambda seen: asyncio.run(astream(seen)),
        "structured_predict": lambda seen: seen.llm.structured_predict(Out, prompt=prompt, **given),
        "astructured_predict": lambda seen: asyncio.run(seen.llm.astructured_predict(Out, prompt, **given)),
        "stream_structured_predict": lambda seen: list(seen.llm.stream_structured_predict(Out, prompt, **given))[-1],
        "astream_structured_predict": lambda seen: asyncio.run(structures(seen.llm)),
    }


PROMPTS = {
    "chat": asked_with(PROMPT),
    "selected": asked_with(SelectorPromptTemplate(default_template=PROMPT)),
    "filled": asked_with(RichPromptTemplate("What is {{ what }}? {{ picture | image }}"), what="it", picture=DATA_URI),
    "partly": asked_with(RichPromptTemplate("What is {{ what }}? {{ picture | image }}", picture=DATA_URI)),
}


@pytest.mark.parametrize("form", list(PROMPTS["chat"]))
@pytest.mark.parametrize("kind", list(PROMPTS))
def test_a_prompt(kind: str, form: str, seen: Seen) -> None:
    answer = PROMPTS[kind][form](seen)
    if "structured" in form:
        assert answer == Out(width=5, height=4)
    else:
        assert "5 x 4" in answer
        assert "What is it?" in repr(seen.box.requests[-1]["messages"])
    assert f"PredictionGuard.{form}" in seen.hides()
    assert [name for name, _ in seen.events.told if name.endswith("PredictStartEvent copied")]


def test_a_prompt_is_left_as_it_is(seen: Seen) -> None:
    before = copy.deepcopy(PROMPT)
    seen.llm.predict(PROMPT, what="it")
    seen.llm.predict(PROMPT, what="that")
    assert before == PROMPT
    assert "What is that?" in repr(seen.box.requests[-1]["messages"])


@pytest.mark.parametrize("fate", ["whole", "refused", "left"])
@pytest.mark.parametrize("form", list(PROMPTS["chat"]))
def test_an_event_that_is_kept_keeps_no_picture_alive(form: str, fate: str, seen: Seen) -> None:
    prompt = copy.deepcopy(PROMPT)
    gone = weakref.ref(prompt)
    if fate == "whole":
        assert asked_with(prompt)[form](seen)
    elif fate == "refused":
        seen.box.fail(500)
        with pytest.raises(li.APIStatusError):
            asked_with(prompt)[form](seen)
    else:
        asyncio.run(_left(getattr(seen.llm, form), [Out, prompt] if "structured" in form else [prompt]))
    assert any(MARK in repr(getattr(event, "template", None)) for event in seen.events.kept)
    # An error that LlamaIndex hands on has, by its traceback, all that its caller had.
    seen.debug.flush_event_logs()
    seen.events.kept[:] = [event for event in seen.events.kept if not hasattr(event, "exception")]
    del prompt
    gc.collect()
    assert gone() is None


async def _left(method: Any, given: list[Any]) -> None:
    """Ask for a stream, and leave it after its first piece."""
    found = method(*given, what="it")
    found = await found if inspect.isawaitable(found) else found
    if inspect.isgenerator(found):
        assert next(found)
    elif inspect.isasyncgen(found):
        async for piece in found:
            assert piece
            break


class Completing(li.PredictionGuard):
    """Is asked with text only."""

    @property
    def metadata(self) -> LLMMetadata:
        return super().metadata.model_copy(update={"is_chat_model": False})


@pytest.mark.parametrize("form", ["predict", "stream", "apredict", "astream", "structured_predict"])
@pytest.mark.parametrize(
    ("prompt", "given"),
    [
        (PROMPT, {"what": "it"}),
        (PromptTemplate("What is {what}? {picture}"), {"what": "it", "picture": DATA_URI}),
        (PromptTemplate("What is {what}? {picture}", picture=DATA_URI), {"what": "it"}),
    ],
    ids=["chat", "text", "partly"],
)
def test_a_model_that_is_asked_with_text_is_asked_the_same(
    prompt: Any, given: dict[str, Any], form: str, seen: Seen
) -> None:
    options: Any = {"api_key": KEY, "base_url": seen.box.url, "pydantic_program_mode": PydanticProgramMode.LLM}
    root = get_dispatcher()
    handlers = root.event_handlers, root.span_handlers
    for root.event_handlers, root.span_handlers in (handlers, ([], []), handlers):
        seen.llm = Completing("Qwen2.5-VL-7B-Instruct", **options)
        seen.box.answer('{"width": 5, "height": 4}')
        asked_with(prompt, **given)[form](seen)
    assert [name for name, _ in seen.events.told if name.endswith("PredictStartEvent copied")]
    watched, unwatched, _ = seen.box.requests
    assert watched["messages"] == unwatched["messages"]
    assert "What is it?" in repr(watched)


@dataclasses.dataclass(frozen=True, slots=True)
class Slim:
    """Something of a caller's own, with a picture in it and no dict."""

    picture: bytes


def test_a_tool_that_answers_with_anything(seen: Seen) -> None:
    ring: list[Any] = [PICTURE]
    ring.append(ring)
    for answer in (PICTURE, {"a": (PICTURE, DATA_URI)}, ring, iter([1]), Slim(PICTURE), Out(width=1, height=1)):

        def fetch_photo(name: str, answer: Any = answer) -> Any:
            """Fetch a photo by its name."""
            return answer

        seen.box.answer(tool_calls=[("fetch_photo", {"name": "cat"})])
        tool = FunctionTool.from_defaults(fetch_photo, partial_params={"answer": answer}, callback=lambda _: "got it")
        found = seen.llm.predict_and_call([tool], chat_history=ASK)
        assert found.response == "got it"
        assert found.sources[0].raw_output is answer


class Guarded:
    """A field that its owner's session has to be open for."""

    def __get__(self, owner: Any, cls: Any = None) -> Any:
        if owner is None:
            raise AttributeError
        raise RuntimeError("the session is closed")

    def __set__(self, owner: Any, value: Any) -> None:
        vars(owner)["picture"] = value


@dataclasses.dataclass(repr=False)
class Row:
    """Something of a caller's own, which can't be read at all times."""

    picture: Any = Guarded()


class Odd(list[Any]):
    """A list that can't be gone through."""

    def __iter__(self) -> Any:
        raise RuntimeError("not now")

    __repr__ = object.__repr__


@dataclasses.dataclass(eq=False, repr=False)
class Tree:
    """Knows its parent, and its brothers by way of it."""

    picture: bytes
    parent: Any = None
    children: list[Any] = dataclasses.field(default_factory=list)


def family() -> Tree:
    root = Tree(PICTURE)
    root.children = [Tree(PICTURE, root) for _ in range(2000)]
    return root


def nested(value: Any, depth: int) -> Any:
    return [nested(value, depth - 1)] if depth else value


ANSWERS: dict[str, Any] = {
    "guarded": Row([PICTURE]),
    "odd": [Odd([PICTURE]), PICTURE],
    "family": family(),
    "deep": nested(PICTURE, 20),
    "deeper": nested(PICTURE, 300),
    "many": [[Tree(PICTURE)] for _ in range(30_000)],
    "base64": ENCODED,
    "blanks": f" \n{DATA_URI}",
    "no type": f"data:;base64,{ENCODED}",
    "another type": f"DATA:application/octet-stream;base64,{ENCODED}",
    "bytes": bytearray(PICTURE),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_a_tool_answers_is_shown_without_pictures_and_without_an_error(name: str, seen: Seen) -> None:
    answer = ANSWERS[name]

    def fetch_photo(name: str) -> Any:
        """Fetch a photo by its name."""
        return answer

    tool = FunctionTool.from_defaults(fetch_photo, callback=lambda _: "got it")
    before = len(seen.spans.told)
    for ask in (
        seen.llm.predict_and_call,
        lambda *asked, **more: asyncio.run(seen.llm.apredict_and_call(*asked, **more)),
    ):
        seen.box.answer(tool_calls=[("fetch_photo", {"name": "cat"})])
        found = ask([tool], chat_history=ASK)
        assert found.sources[0].raw_output is answer
    told = [text for span, text in seen.spans.told[before:] if span.startswith("PredictionGuard.")]
    assert told
    assert [found for text in told if (found := shown(text))] == []


def test_what_is_shown_is_a_copy_where_something_is_hidden_and_else_the_thing_itself() -> None:
    rows = [[float(each)] * 100 for each in range(100)]
    tree = Tree(b"", children=[Tree(b"")])
    tree.children[0].parent = tree
    for plain in (rows, tree, [tree] * 3, "data: of a kind", "a" * 5000, {"a": ()}, Row(1), Slim(b"")):
        assert sight.seen(plain) is plain
    one, same = Slim(PICTURE), [1]
    copied = sight.seen([one, one, same])
    assert copied[0] is copied[1] is not one
    assert copied[0].picture.startswith(MARK)
    assert copied[2] is same
    assert one.picture is PICTURE


def test_how_much_is_looked_through_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(sight, "_marked", lambda value, mark: looked.append(value) or value)
    row: list[Any] = ["a"]
    for _ in range(5):
        row = [row] * 30
    assert sight.seen(row) is row
    assert len(looked) < 10
    many = [["a", {}] for _ in range(15_000)]
    assert sight.seen(many)[-1] == "<...>"
    assert len(looked) < 100_000


def test_a_structured_answer_in_words(seen: Seen) -> None:
    llm = seen.make(pydantic_program_mode=PydanticProgramMode.LLM)
    seen.box.answer('{"width": 5, "height": 4}')
    assert llm.structured_predict(Out, PROMPT.model_copy(), what="it") == Out(width=5, height=4)
    assert '"width"' in repr(seen.box.requests[-1]["messages"])
    seen.hides()


def test_a_structured_llm(seen: Seen) -> None:
    llm = seen.llm.as_structured_llm(Out)
    for chunk in (llm.chat(ASK), asyncio.run(llm.achat(ASK)), *llm.stream_chat(ASK)):
        assert chunk.raw == Out(width=5, height=4)
    # LlamaIndex's class tells of its own calls, of which it is given the messages.
    names = seen.hides("LLMChatStartEvent", "LLMChatEndEvent", "LLMChatInProgressEvent", "payload llm")
    assert {"PredictionGuard.structured_predict", "PredictionGuard.stream_structured_predict"} <= set(names)


# Messages and pictures in other forms


@pytest.mark.parametrize(
    "wrap", [iter, tuple, lambda given: (each for each in given), lambda given: {1: given[0]}.values()]
)
def test_messages_in_any_row(wrap: Any, seen: Seen) -> None:
    assert "5 x 4" in (seen.llm.chat(wrap(ASK)).message.content or "")
    assert "5 x 4" in (asyncio.run(seen.llm.achat(messages=wrap(ASK))).message.content or "")
    nodes = [ImageNode(image=ENCODED)]
    assert "5 x 4" in seen.eyes.complete("What is it?", wrap(nodes)).text
    assert "5 x 4" in list(seen.eyes.stream_complete("What is it?", image_documents=wrap(nodes)))[-1].text
    seen.hides()
    starts = [text for name, text in seen.events.told if name == "LLMChatStartEvent"]
    assert all(MARK in text for text in starts)


# Nodes


def nodes() -> list[Any]:
    return [
        TextNode(text="a cat"),
        ImageNode(image=ENCODED),
        ImageNode(image=ENCODED, text="a dog"),
        Node(image_resource=MediaResource(data=PICTURE)),
    ]


def test_an_ingestion_pipeline(seen: Seen) -> None:
    pipeline = IngestionPipeline(transformations=[seen.embedding], disable_cache=True)
    found = [*pipeline.run(nodes=nodes()), *asyncio.run(pipeline.arun(nodes=nodes())), *seen.embedding(nodes())]
    assert len(found) == 12
    assert all(node.embedding for node in found)
    assert any(getattr(node, "image", None) == ENCODED for node in found)
    assert "PredictionGuardEmbedding.__call__" in seen.hides()


def test_a_reranking(seen: Seen) -> None:
    given = [NodeWithScore(node=node) for node in nodes()]
    sync = seen.rerank.postprocess_nodes(given, query_str="dog")
    later = asyncio.run(seen.rerank.apostprocess_nodes(given, query_str="dog"))
    seen.llm.chat(ASK)  # the reranker itself is sent no picture
    for kept in (sync, later):
        assert kept[0].node is given[2].node
        assert kept[0].node.image == ENCODED
    assert "PredictionGuardRerank._postprocess_nodes" in seen.hides()


def test_a_call_that_fails(seen: Seen) -> None:
    for work in (
        lambda: seen.llm.predict(PROMPT, what="it"),
        lambda: seen.llm.chat_with_tools([PHOTO], ASK[0]),
        lambda: seen.embedding([ImageNode(image=ENCODED)]),
    ):
        seen.box.fail(500)
        with pytest.raises(li.APIStatusError):
            work()
    seen.hides()


# Where nobody watches


def test_nothing_is_marked_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    def marked(*args: Any) -> Any:
        raise AssertionError("a mark was made")

    monkeypatch.setattr("llama_index_predictionguard.spans.seen", marked)
    with Sandbox(api_key=KEY) as box:
        llm = li.PredictionGuard("Qwen2.5-VL-7B-Instruct", api_key=KEY, base_url=box.url)
        assert "5 x 4" in llm.predict(PROMPT, what="it")
        assert llm.chat_with_tools([PHOTO], ASK[0])
        embedding = li.PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc", api_key=KEY, base_url=box.url)
        assert all(node.embedding for node in embedding(nodes()))


TEXTS = {"self", "query", "text", "texts", "show_progress", "kwargs"}


@pytest.mark.parametrize(
    "cls", [li.PredictionGuard, li.PredictionGuardMultiModal, li.PredictionGuardEmbedding, li.PredictionGuardRerank]
)
def test_no_method_that_takes_more_than_text_is_shown_by_llama_index_alone(cls: Any) -> None:
    """Whatever a later release decorates is marked, too."""
    found = {name: method for base in reversed(cls.__mro__) for name, method in vars(base).items()}
    decorated = {name: each for name, each in found.items() if inspect.isfunction(each) and _is_decorated(each)}
    assert decorated
    # LlamaIndex's wrapper passes for a function, and is none.
    bare = [name for name, each in decorated.items() if type(each) is not types.FunctionType]
    assert [name for name in bare if not inspect.signature(found[name]).parameters.keys() <= TEXTS] == []


def _is_decorated(method: Any) -> bool:
    return hasattr(method, DISPATCHER_SPAN_DECORATED_ATTR)
