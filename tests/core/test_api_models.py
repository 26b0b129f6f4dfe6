"""Request models: the JSON that is sent. Response models: every known response format."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictionguard_core.api.body import Body, chat_body
from predictionguard_core.api.chat import ChatRequest, FunctionCall, Message, ToolCall
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.api.responses import ChatCompletion, raise_for_choice_status
from predictionguard_core.errors import (
    APIStatusError,
    ConfigurationError,
    ContentError,
    InvalidResponseError,
    PIIDetectedError,
    UnsupportedContentError,
)
from predictionguard_core.images.image import Image
from tests.core.images.samples import GIF, data_uri, image_part, png, question

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
TOOL = {"function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"default": None}}}}}


def request(**fields: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": "hi", **fields})


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON (RFC 8259)")


def bytes_of(body: Body) -> bytes:
    return b"".join(body)


def sent(request: ChatRequest, *, stream: bool = False) -> Any:
    """The body as a strict reader of JSON has it."""
    body = chat_body(request, images_of(request), stream=stream)
    return json.loads(bytes_of(body).decode("utf-8"), parse_constant=no_constant)


def images_of(request: ChatRequest) -> list[Image]:
    """Load every image, as `prepare_images` does."""
    return [Image.open(part.image_url.url) for part in request.image_parts()]


class TestOptions:
    def test_unset_options_are_not_sent(self) -> None:
        assert sent(request()) == {"model": "m", "messages": "hi"}

    @pytest.mark.parametrize(
        ("given", "goes_out"),
        [
            ({"temperature": 0}, {"temperature": 0}),
            ({"temperature": 2}, {"temperature": 2}),
            ({"top_p": 0.5}, {"top_p": 0.5}),
            ({"top_k": -1}, {"top_k": -1}),
            ({"top_k": 40}, {"top_k": 40}),
            ({"frequency_penalty": -2, "presence_penalty": 2}, {"frequency_penalty": -2, "presence_penalty": 2}),
            ({"logit_bias": {"50256": -100}}, {"logit_bias": {"50256": -100}}),
            ({"max_tokens": 5}, {"max_completion_tokens": 5}),
            ({"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
            ({"stop": "END"}, {"stop": "END"}),
            ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
            ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
            ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
            ({"tool_choice": "none"}, {"tool_choice": "none"}),
            (
                {"tool_choice": {"function": {"name": "f"}}},
                {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            ),
            ({"tools": [TOOL]}, {"tools": [{"type": "function", **TOOL}]}),
            ({"tools": TOOL}, {"tools": [{"type": "function", **TOOL}]}),
            (
                {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "description": "d"}}]},
                {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "description": "d"}}]},
            ),
            (
                {"input": {"pii": "replace", "pii_replace_method": "mask", "entity_list": ["AGE"]}},
                {"input": {"pii": "replace", "pii_replace_method": "mask", "entity_list": ["AGE"]}},
            ),
            ({"input": InputChecks(block_prompt_injection=True)}, {"input": {"block_prompt_injection": True}}),
            (
                {"output": OutputChecks(toxicity=True, factuality=False)},
                {"output": {"toxicity": True, "factuality": False}},
            ),
            ({"output": {"factuality": True}}, {"output": {"factuality": True}}),
            ({"extra_body": {"seed": 3, "a": {"b": [None, "é"]}}}, {"seed": 3, "a": {"b": [None, "é"]}}),
            ({"extra_body": {}}, {}),
            ({"n": 1, "reasoning_effort": "minimal"}, {"n": 1, "reasoning_effort": "minimal"}),
            ({"input_checks": {"pii": "block"}}, {"input": {"pii": "block"}}),
            ({"temperature": 1, "extra_body": {"temperature": 3}}, {"temperature": 3}),
            ({"max_tokens": 1, "extra_body": {"max_tokens": 5}}, {"max_tokens": 5}),
            ({"extra_body": {"input": {"pii": "block"}, "n": 2}}, {"input": {"pii": "block"}, "n": 2}),
            ({"vision_streaming": True}, {}),
            ({"stream": True}, {}),
            ({"stream_options": {"include_usage": False}}, {}),
        ],
    )
    def test_each_option_is_sent_as_documented(self, given: dict[str, Any], goes_out: dict[str, Any]) -> None:
        assert sent(request(**given)) == {"model": "m", **goes_out, "messages": "hi"}

    def test_a_stream_asks_for_usage_by_default(self) -> None:
        assert sent(request(), stream=True) == {
            "model": "m",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": "hi",
        }
        quiet = request(stream_options={"include_usage": False}, extra_body={"seed": 1})
        assert sent(quiet, stream=True) == {
            "model": "m",
            "stream": True,
            "stream_options": {"include_usage": False},
            "seed": 1,
            "messages": "hi",
        }

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({"colour": "blue"}, "colour"),
            ({"n": 2}, "n"),
            ({"temperature": 2.1}, "temperature"),
            ({"temperature": -0.1}, "temperature"),
            ({"temperature": math.nan}, "temperature"),
            ({"temperature": "warm"}, "temperature"),
            ({"top_p": 1.5}, "top_p"),
            ({"top_k": -2}, "top_k"),
            ({"frequency_penalty": -2.5}, "frequency_penalty"),
            ({"presence_penalty": 2.5}, "presence_penalty"),
            ({"logit_bias": {"1": 101}}, "logit_bias"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_completion_tokens": 0}, "max_tokens"),
            ({"max_tokens": 1, "max_completion_tokens": 1}, "max_"),
            ({"tool_choice": "maybe"}, "tool_choice"),
            ({"tools": [{"function": {"nom": "f"}}]}, "tools"),
            ({"input": {"pii": "drop"}}, "pii"),
            ({"input": {"toxicity": True}}, "toxicity"),
            ({"output": {"pii": "block"}}, "pii"),
            ({"model": ""}, "model"),
            ({"model": "\ud800"}, "model"),
            ({"extra_body": {"messages": []}}, "messages"),
            ({"extra_body": {"stream": True}}, "stream"),
        ],
    )
    def test_unknown_or_invalid_options_are_refused_by_name(self, given: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigurationError, match=named):
            request(**given)

    def test_a_refusal_does_not_quote_the_value(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            request(stop={"secret": "s3cr3t"}, temperature="s3cr3t")
        assert "s3cr3t" not in str(caught.value) + repr(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None

    @pytest.mark.parametrize("checks", [InputChecks, OutputChecks])
    def test_checks_refuse_unknown_fields_by_themselves(self, checks: Any) -> None:
        with pytest.raises(ConfigurationError, match="colour"):
            checks(colour="blue")

    @pytest.mark.parametrize("extra", [{"a": math.nan}, {"a": [math.inf]}, {"a": {"b": -math.inf}}])
    def test_numbers_that_json_can_not_express_are_refused(self, extra: dict[str, Any]) -> None:
        try:
            body = sent(request(extra_body=extra))
        except ConfigurationError:
            return
        assert body["a"] in (None, [None], {"b": None})

    @pytest.mark.parametrize("value", [object(), "\ud800", b"\xff"])
    def test_an_extra_that_can_not_be_written_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError):
            sent(request(extra_body={"a": value}))


class TestBadMessages:
    @pytest.mark.parametrize(
        ("bad", "kind", "block"),
        [
            ({"role": "robot", "content": "x"}, ContentError, None),
            ({"role": "user"}, ContentError, None),
            ({"role": "user", "content": 5}, ContentError, None),
            ({"role": "user", "content": "x", "mood": "y"}, ContentError, None),
            (
                {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "video"}]},
                UnsupportedContentError,
                1,
            ),
            ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, UnsupportedContentError, 0),
            ({"role": "user", "content": [{"type": "text", "text": "x"}, {"text": "y"}]}, ContentError, 1),
            ({"role": "user", "content": [{"type": "text"}]}, ContentError, 0),
            ({"role": "user", "content": [{"type": "text", "text": "x", "mood": "y"}]}, ContentError, 0),
            ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ContentError, 0),
            (
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "", "detail": "x"}}]},
                ContentError,
                0,
            ),
            ({"role": "user", "content": ["x"]}, ContentError, 0),
            ({"role": "assistant", "content": "x", "tool_calls": [{}]}, ContentError, None),
            ({"role": "assistant", "content": "x", "tool_calls": [CALL, {"id": "2"}]}, ContentError, None),
        ],
    )
    def test_the_error_has_the_location(self, bad: dict[str, Any], kind: type, block: int | None) -> None:
        with pytest.raises(kind) as caught:
            request(messages=[{"role": "user", "content": "fine"}, bad])
        assert (caught.value.message_index, caught.value.block_index) == (1, block)

    @pytest.mark.parametrize("messages", [5, None, {"role": "user"}])
    def test_invalid_messages(self, messages: Any) -> None:
        with pytest.raises((ContentError, ConfigurationError), match="messages"):
            request(messages=messages)

    @pytest.mark.parametrize(
        ("messages", "location"),
        [
            ("\ud800", (None, None)),
            ([{"role": "user", "content": "ok"}, {"role": "user", "content": "half \udfff"}], (1, None)),
            ([Message.model_construct(role="user", content="\ud800")], (0, None)),
            (
                [{"role": "user", "content": [{"type": "text", "text": "ok"}, {"type": "text", "text": "\ud83d"}]}],
                (0, 1),
            ),
        ],
    )
    def test_a_lone_surrogate_is_refused_with_its_location(self, messages: Any, location: Any) -> None:
        with pytest.raises(ContentError, match="surrogate") as caught:
            chat_body(request(messages=messages), [], stream=False)
        assert (caught.value.message_index, caught.value.block_index) == location

    def test_a_refusal_does_not_quote_the_message(self) -> None:
        with pytest.raises(ContentError) as caught:
            request(messages=[{"role": "user", "content": [{"type": "text", "text": {"s3cr3t": "s3cr3t"}}]}])
        assert "s3cr3t" not in str(caught.value) + repr(caught.value)


TEXTS = [
    "",
    "plain",
    '"url":false',
    '{"type":"image_url","image_url":{"url":false}}',
    '"quotes" and \\ backslashes \\"url\\":false',
    "\x00\x1f\x7f\u0085\u2028\u2029",
    "日本語 \U0001f600 é",
]


class TestBody:
    @pytest.mark.parametrize("text", TEXTS)
    def test_text_is_sent_unchanged(self, text: str) -> None:
        assert sent(request(messages=text))["messages"] == text
        assert sent(request(messages=[Message(role="user", content=text)]))["messages"] == [
            {"role": "user", "content": text}
        ]

    @pytest.mark.parametrize("text", TEXTS)
    def test_text_with_images_is_sent_unchanged(self, text: str) -> None:
        first, second = png(3, 2), GIF
        body = sent(question(first, second, text=text, stop=['"url":false'], extra_body={"url": False}))
        assert body == {
            "model": "m",
            "stop": ['"url":false'],
            "url": False,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": text},
                        {"type": "image_url", "image_url": {"url": data_uri(first)}},
                        {"type": "image_url", "image_url": {"url": data_uri(second, "image/gif")}},
                    ],
                }
            ],
        }

    @given(text=st.text(), name=st.text(), images=st.integers(0, 2))
    def test_any_text_round_trips(self, text: str, name: str, images: int) -> None:
        asked = question(*[GIF] * images, text=text, extra_body={"note": name})
        body = sent(asked, stream=True)
        assert body["note"] == name
        assert body["messages"][0]["content"][0] == {"type": "text", "text": text}
        assert len(body["messages"][0]["content"]) == 1 + images

    @pytest.mark.parametrize("detail", ["auto", "low", "high"])
    def test_detail_is_sent_and_location_is_not(self, detail: str) -> None:
        part = image_part(Image.open(GIF), detail=detail).model_copy(update={"location": (4, 2)})
        body = sent(request(messages=[Message(role="user", content=[part])]))
        assert body["messages"][0]["content"] == [
            {"type": "image_url", "image_url": {"url": data_uri(GIF, "image/gif"), "detail": detail}}
        ]

    def test_it_can_be_sent_again_and_knows_its_length(self) -> None:
        asked = question(png(padding=200_000), GIF)
        body = chat_body(asked, images_of(asked), stream=False)
        first, second = bytes_of(body), bytes_of(body)
        assert first == second
        assert body.length == len(first)
        assert repr(body) == f"Body({len(first)} bytes)"

    def test_a_whole_conversation(self) -> None:
        call = ToolCall(id="c1", function=FunctionCall(name="f", arguments='{"x": 1}'))
        messages = [
            Message(role="system", content="be kind"),
            Message(role="user", content=[image_part(Image.open(GIF))], name="ann"),
            Message(role="assistant", content=None, tool_calls=[call]),
            Message(role="tool", content="42", tool_call_id="c1"),
        ]
        assert sent(request(messages=messages))["messages"] == [
            {"role": "system", "content": "be kind"},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": data_uri(GIF, "image/gif")}}],
                "name": "ann",
            },
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ]

    @pytest.mark.parametrize(
        "written", [repr, str, lambda each: each.model_dump_json(), lambda each: each.model_dump()]
    )
    @pytest.mark.parametrize("source", [data_uri(png()), png(), Image.open(png())], ids=["URI", "bytes", "Image"])
    def test_dumps_and_reprs_contain_no_image_data(self, written: Any, source: Any) -> None:
        text = str(written(question(source)))
        assert data_uri(png())[30:60] not in text
        assert repr(png())[4:30] not in text


class TestCanStream:
    @pytest.mark.parametrize(
        ("asked", "can"),
        [
            (request(), True),
            (request(messages=[Message(role="user", content="x")]), True),
            (request(input={"pii": "block"}), True),
            (request(output={"toxicity": False}), True),
            (request(output={"toxicity": True}), False),
            (request(output={"factuality": True}), False),
            (question(GIF), False),
            (question(GIF, vision_streaming=True), True),
            (question(GIF, vision_streaming=True, output={"toxicity": True}), False),
            (question(), True),
        ],
    )
    def test_streaming_excludes_output_checks_and_images(self, asked: ChatRequest, can: bool) -> None:
        assert asked.can_stream is can


def parsed(reply: dict[str, Any]) -> ChatCompletion:
    return ChatCompletion.parse(json.dumps(reply).encode())


def one(**choice: Any) -> dict[str, Any]:
    return {"id": "chat-1", "object": "chat.completion", "created": 1727889823, "model": "m", "choices": [choice]}


class TestResponse:
    @pytest.mark.parametrize(
        ("reply", "content", "finish"),
        [
            (one(index=0, message={"role": "assistant", "content": "A cat."}), "A cat.", None),
            (one(index=0, message={"role": "assistant", "content": "A cat."}, finish_reason="stop"), "A cat.", "stop"),
            (one(index=0, text=" Why did"), " Why did", None),
            (one(text=""), "", None),
            (one(message=None, text="t"), "t", None),
            ({"choices": {"index": 0, "message": {"content": "lone"}}}, "lone", None),
            ({"object": "chat_completion", "new": 1, "choices": [{"message": {"content": "x", "new": 1}}]}, "x", None),
            (one(message={"role": "assistant", "content": None, "tool_calls": [CALL]}), None, None),
            (one(message={"content": "x"}, status="success"), "x", None),
            (one(message={"content": "x"}, status=200, finish_reason=""), "x", None),
            (one(message={"role": "assistant", "content": ""}, text="t"), "t", None),
            (one(message={}, text="t"), "t", None),
            (one(message={"content": "x", "role": 1, "reasoning": {}}, text="t"), "x", None),
            ({**one(message={"content": "x"}), "usage": []}, "x", None),
            ({**one(message={"content": "x"}), "created": 10**400}, "x", None),
        ],
    )
    def test_every_known_shape(self, reply: dict[str, Any], content: str | None, finish: str | None) -> None:
        found = parsed(reply)
        raise_for_choice_status(found)
        assert (found.message.content, found.finish_reason) == (content, finish)

    def test_the_metadata(self) -> None:
        found = parsed(one(text="x"))
        assert (found.id, found.created, found.model, found.usage) == ("chat-1", 1727889823, "m", None)

    @pytest.mark.parametrize("index", [0, "0", "first", None, [], 1.5])
    def test_any_index_of_a_tool_call(self, index: Any) -> None:
        found = parsed(one(message={"content": "x", "tool_calls": [{**CALL, "index": index, "id": 7, "type": 1}]}))
        (call,) = found.message.tool_calls or []
        assert (found.message.content, call.id, call.function.name) == ("x", "7", "f")

    def test_reasoning(self) -> None:
        assert parsed(one(message={"content": "x", "reasoning": "hm"})).message.reasoning == "hm"

    @pytest.mark.parametrize("calls", [[CALL], CALL])
    def test_tool_calls_as_a_list_or_alone(self, calls: Any) -> None:
        (call,) = parsed(one(message={"content": None, "tool_calls": calls})).message.tool_calls or []
        assert (call.id, call.function.name, call.function.arguments) == ("c1", "f", '{"x":1}')

    def test_arguments_that_are_no_text_become_json(self) -> None:
        call = {"id": "c1", "function": {"name": "f", "arguments": {"x": [1, "é"]}}}
        (found,) = parsed(one(message={"tool_calls": [call]})).message.tool_calls or []
        assert json.loads(found.function.arguments or "") == {"x": [1, "é"]}

    @pytest.mark.parametrize(
        ("usage", "counts"),
        [
            ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, (3, 4, 7)),
            ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4, 7)),
            ({"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 3}, (3, 0, 3)),
            ({"prompt_tokens": "3", "completion_tokens": "four", "total_tokens": [7]}, (3, 0, 3)),
            ({}, (0, 0, 0)),
        ],
    )
    def test_usage(self, usage: dict[str, Any], counts: tuple[int, int, int]) -> None:
        found = parsed({**one(text="x"), "usage": usage}).usage
        assert found is not None
        assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == counts

    def test_usage_in_detail(self) -> None:
        details = {"prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 1}}
        usage = parsed({**one(text="x"), "usage": {"prompt_tokens": 3, **details}}).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.cached_tokens == 2
        assert usage.completion_tokens_details is not None
        assert usage.completion_tokens_details.reasoning_tokens == 1

    @pytest.mark.parametrize("details", [[], "none", 5, {"cached_tokens": "many", "reasoning_tokens": []}])
    def test_unreadable_usage_details_do_not_lose_the_counts(self, details: Any) -> None:
        reported = {"prompt_tokens": 3, "prompt_tokens_details": details, "completion_tokens_details": details}
        usage = parsed({**one(text="x"), "usage": reported}).usage
        assert usage is not None
        assert usage.prompt_tokens == 3

    @pytest.mark.parametrize(
        ("choice", "kind"),
        [
            ({"status": "error: pii detected"}, PIIDetectedError),
            ({"status": "Error: out of memory", "text": ""}, APIStatusError),
            ({"status": "error: out of memory", "message": {"content": None}}, APIStatusError),
        ],
    )
    def test_a_choice_whose_status_is_an_error_raises(self, choice: dict[str, Any], kind: type) -> None:
        with pytest.raises(kind) as caught:
            raise_for_choice_status(parsed(one(**choice)), "r-1")
        assert (caught.value.status_code, caught.value.request_id) == (200, "r-1")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b'{"choices": [',
            b"[]",
            b"null",
            b"{}",
            b'{"choices": []}',
            b'{"choices": null}',
            b'{"choices": [{"index": 0}]}',
            b'{"choices": [{"message": "hi"}]}',
            b'{"choices": [{"text": 5}]}',
            b'\xff{"choices": []}',
            b"[" * 100_000,
        ],
    )
    def test_an_invalid_response_is_refused_with_the_remedy(self, body: bytes) -> None:
        with pytest.raises(InvalidResponseError, match="PREDICTIONGUARD_URL"):
            ChatCompletion.parse(body)

    def test_an_error_does_not_quote_the_response(self) -> None:
        with pytest.raises(InvalidResponseError) as caught:
            ChatCompletion.parse(b'{"choices": [{"message": {"content": {"s3cr3t": "s3cr3t"}}}]}')
        assert "s3cr3t" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("given", ["a", ["a"], EmbeddingInput(text="a"), [EmbeddingInput(text="a")]])
def test_one_input_to_embed_is_a_list_of_one(given: Any) -> None:
    (found,) = EmbeddingRequest(model="m", input=given).input
    assert found in ("a", EmbeddingInput(text="a"))


class TestAsChunk:
    def test_contains_everything_in_the_response(self) -> None:
        usage = {"prompt_tokens": 3, "completion_tokens": 4}
        message = {"role": "assistant", "content": "x", "reasoning": "hm"}
        chunk = parsed({**one(index=0, message=message, finish_reason="stop"), "usage": usage}).as_chunk()
        (choice,) = chunk.choices
        assert (chunk.id, chunk.created, chunk.model, chunk.is_last) == ("chat-1", 1727889823, "m", True)
        assert (choice.delta.role, choice.delta.content, choice.delta.reasoning) == ("assistant", "x", "hm")
        assert choice.finish_reason == "stop"
        assert chunk.usage is not None
        assert chunk.usage.total_tokens == 7

    def test_numbers_the_tool_calls_and_does_not_change_the_response(self) -> None:
        answer = parsed(one(message={"tool_calls": [CALL, {**CALL, "id": "c2"}]}))
        calls = answer.as_chunk().choices[0].delta.tool_calls or []
        assert [(call.index, call.id) for call in calls] == [(0, "c1"), (1, "c2")]
        assert [call.index for call in answer.message.tool_calls or []] == [None, None]

    def test_a_response_without_a_finish_reason_is_still_the_last_chunk(self) -> None:
        chunk = parsed(one(text="x")).as_chunk()
        assert chunk.is_last
        assert chunk.choices[0].finish_reason is None


def test_a_name_is_sent_in_the_characters_that_servers_take() -> None:
    messages = [Message(role="developer", content="x", name="Ann O'Hara"), Message(role="user", content="y")]
    body = sent(request(messages=messages))
    assert body["messages"] == [
        {"role": "developer", "content": "x", "name": "Ann_O_Hara"},
        {"role": "user", "content": "y"},
    ]


def test_errors_name_the_argument_of_the_user() -> None:
    for fields, text in (
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"input": 3}, "input_checks must be a dict or InputChecks, got 3"),
        ({"output_checks": "on"}, "output_checks must be a dict or OutputChecks, got str"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            request(**fields)
        assert str(caught.value).startswith(text), caught.value


def test_an_answer_of_a_million_objects_is_refused_before_it_is_parsed() -> None:
    choice = b'{"message":{"content":"a"}}'
    with pytest.raises(InvalidResponseError, match="elements"):
        ChatCompletion.parse(b'{"choices":[' + b",".join([choice] * 400_000) + b"]}")
    with pytest.raises(InvalidResponseError):
        ChatCompletion.parse(b'{"choices":[' + b",".join([choice] * 200) + b"]}")
