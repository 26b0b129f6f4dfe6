import re

import pytest

from predictionguard_core.sandbox.chat.completions import PromptCache

TEXT = "Hermes-3-Llama-3.1-8B"
USER = [{"role": "user", "content": "Tell me about lighthouses"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def refused(reply, *words):
    assert reply.status == 400
    assert set(reply.body) == {"error"}
    for word in words:
        assert word in reply.body["error"]


def test_a_plain_response_has_the_documented_shape(client):
    answer = client.post("/chat/completions", json={"model": TEXT, "messages": USER})
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert re.fullmatch(r"chat-[0-9a-f-]{36}", body.pop("id"))
    assert isinstance(body.pop("created"), int)
    usage = body.pop("usage")
    content = body["choices"][0]["message"].pop("content")
    assert body == {
        "object": "chat.completion",
        "model": TEXT,
        "choices": [{"index": 0, "message": {"role": "assistant"}, "finish_reason": "stop"}],
    }
    assert "Tell me about lighthouses" in content
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] > 4
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}


def test_answers_are_deterministic(chat):
    assert chat(USER) == chat(USER)
    assert chat(USER) != chat("Tell me about windmills")
    assert chat("hello") == chat([{"role": "user", "content": [{"type": "text", "text": "hello"}]}])


def test_text_parts_are_joined(chat):
    parts = [{"type": "text", "text": "first piece"}, {"type": "text", "text": "second piece"}]
    assert "first piece second piece" in chat([{"role": "user", "content": parts}])["content"]


def test_earlier_turns_are_counted(chat):
    turns = [
        {"role": "user", "content": "Hi, my name is Ada Lovelace. My favourite city is Turin!"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "What is my favourite city?"},
    ]
    content = chat(turns)["content"]
    assert "1 turn" in content


CONTEXT = "name: espresso.txt\nA shot fills a small cup with 30 ml. The brown foam on top is called crema."


@pytest.mark.parametrize(
    "prompt",
    [
        f"Context:\n{CONTEXT}\n\nQuestion: What is the foam called?",
        f"Answer from this.\n## Context: {CONTEXT}\nQuery: What is the foam called?\nAnswer:",
        f"Context information is below.\n---------\n{CONTEXT}\n---------\n"
        "Given the context information and not prior knowledge, answer the query.\n"
        "Query: What is the foam called?\nAnswer: ",
    ],
)
def test_a_context_is_quoted_if_it_is_about_the_question(chat, prompt):
    content = chat(prompt)["content"]
    assert 'The context says: "The brown foam on top is called crema." You asked: "What is the foam called?"' in content


def test_a_context_may_stand_in_the_system_message(chat):
    orders = {"role": "system", "content": f"Answer from the context.\nContext:\n{CONTEXT}"}
    content = chat([orders, {"role": "user", "content": "How many ml fill a cup?"}])["content"]
    assert 'The context says: "A shot fills a small cup with 30 ml."' in content


def test_a_dot_within_a_number_or_a_name_ends_no_sentence(chat):
    content = chat("Context: See menu.txt. The cup costs 2.50 here. Bring a spoon.\nQuestion: What does a cup cost?")
    assert 'The context says: "The cup costs 2.50 here."' in content["content"]


@pytest.mark.parametrize("context", ["Bees.", "How and why?", "a\nb"])
def test_a_context_without_a_word_of_the_question_is_not_quoted(chat, context):
    content = chat(f"Context: {context}\nQuestion: What is the foam called?")["content"]
    assert "The context has no word of the question." in content


@pytest.mark.parametrize("prompt", ["Context:\nQuestion: x?", "Context: x", "Question: x?", "The context: x\nQuery: y"])
def test_without_context_or_question_the_prompt_is_taken_whole(chat, prompt):
    content = chat(prompt)["content"]
    assert "context says" not in content
    assert " ".join(prompt.split()) in content


@pytest.mark.parametrize("missing", ["model", "messages"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_required_fields(ask, missing, how):
    body = {"model": TEXT, "messages": USER}
    if how == "absent":
        del body[missing]
    else:
        body[missing] = "" if missing == "model" else []
    assert ask(body).body == {"error": "required fields are missing"}


@pytest.mark.parametrize("name", ["model", "messages"])
@pytest.mark.parametrize("value", [None, 5, True, {}])
def test_required_fields_of_the_wrong_type_are_named(ask, name, value):
    refused(ask({"model": TEXT, "messages": USER, name: value}), name)


def test_unknown_and_unfit_models_are_named(ask):
    unknown = ask({"model": "no-such-model", "messages": USER})
    assert unknown.status == 404
    assert unknown.body["error"].startswith("The model `no-such-model` does not exist.")
    for model in ("bge-m3", "bge-reranker-v2-m3"):
        refused(ask({"model": model, "messages": USER}), "model", model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "1"),
        ("temperature", True),
        ("temperature", 10**400),
        ("top_p", 1.01),
        ("top_p", -1),
        ("frequency_penalty", 2.5),
        ("presence_penalty", -2.5),
        ("top_k", 1.5),
        ("top_k", -2),
        ("max_completion_tokens", 0),
        ("max_completion_tokens", "5"),
        ("max_completion_tokens", 1.5),
        ("max_tokens", -1),
        ("logit_bias", []),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"1": None}),
        ("stop", 5),
        ("stop", [1]),
        ("stop", [None]),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stream", "true"),
        ("stream", 1),
        ("stream_options", True),
        ("stream_options", {"include_usage": "yes"}),
        ("parallel_tool_calls", "no"),
        ("reasoning_effort", "extreme"),
        ("reasoning_effort", 1),
        ("top_p", 0),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("logit_bias", {"word": 1}),
        ("stream_options", {"include_usage": True}),
        ("tools", []),
        ("tool_choice", "auto"),
        ("n", 0),
        ("n", 17),
        ("input", []),
        ("input", {"pii": "hide"}),
        ("input", {"pii": True}),
        ("input", {"pii_replace_method": "star"}),
        ("input", {"block_prompt_injection": "true"}),
        ("input", {"entity_list": "PERSON"}),
        ("input", {"entity_list": [1]}),
        ("output", {"toxicity": 1}),
        ("tools", {}),
        ("tools", [{}]),
        ("tools", [{"type": "retrieval", "function": {"name": "f"}}]),
        ("tools", [{"type": "function"}]),
        ("tools", [{"type": "function", "function": {"name": ""}}]),
        ("tools", [{"type": "function", "function": {"name": None}}]),
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": []}}]),
        ("tools", [{"type": "function", "function": {"name": "f", "strict": "yes"}}]),
        ("tool_choice", "any"),
        ("tool_choice", "required"),
        ("tool_choice", 1),
        ("tool_choice", {"type": "function"}),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_options_out_of_range_are_named(ask, name, value):
    refused(ask({"model": TEXT, "messages": USER, name: value}), name)


def test_options_may_be_null_where_the_official_client_sends_that(ask):
    names = """frequency_penalty logit_bias max_completion_tokens max_tokens parallel_tool_calls presence_penalty
    reasoning_effort stop stream stream_options temperature tool_choice tools top_p top_k n input output"""
    assert ask({"model": TEXT, "messages": USER, **dict.fromkeys(names.split())}).status == 200
    checks = ("pii", "pii_replace_method", "block_prompt_injection", "entity_list", "toxicity", "factuality")
    nulls = {"input": dict.fromkeys(checks), "output": dict.fromkeys(checks)}
    function = {"name": "f", "description": None, "parameters": None, "strict": None}
    tools = [{"type": "function", "function": function}]
    stream = {"stream": True, "stream_options": {"include_usage": None}}
    assert ask({"model": TEXT, "messages": USER, "tools": tools, **nulls, **stream}).status == 200


def test_an_answer_dumped_with_all_its_nulls_can_go_back_into_the_history(ask):
    absent = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "tool_calls", "reasoning"))
    history = [*USER, {"role": "assistant", "content": "x", **absent}, *USER]
    assert ask({"model": TEXT, "messages": history}).status == 200


def test_a_developer_message_is_a_system_message(ask):
    orders = {"role": "developer", "content": "Context: The lamp is red.\nAnswer from it."}
    reply = ask({"model": TEXT, "messages": [orders, {"role": "user", "content": "Which lamp?"}]})
    assert 'The context says: "The lamp is red."' in reply.body["choices"][0]["message"]["content"]


def test_n_choices(ask, events):
    body = {"model": TEXT, "messages": USER, "n": 3}
    choices = ask(body).body["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    chunks = events(ask({**body, "stream": True}).events)
    ends = [chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert ends == [0, 1, 2]


def test_the_ends_of_every_range_and_unknown_fields_are_taken(ask):
    low = {"temperature": 0, "top_p": 0.01, "frequency_penalty": -2, "presence_penalty": -2, "logit_bias": {"5": -100}}
    high = {"temperature": 2.0, "top_p": 1, "frequency_penalty": 2, "presence_penalty": 2, "logit_bias": {"5": 100}}
    for options in (low, high, {"seed": None, "user": {"any": ["thing"]}}):
        assert ask({"model": TEXT, "messages": USER, **options}).status == 200


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("text", "messages[1]"),
        (None, "messages[1]"),
        ({"content": "x"}, "messages[1].role"),
        ({"role": None, "content": "x"}, "messages[1].role"),
        ({"role": "critic", "content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": "x", "name": None}, "messages[1].name"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "assistant", "content": None}, "messages[1].content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "messages[1].content"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user", "content": {"type": "text"}}, "messages[1].content"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input_audio"),
        ({"role": "user", "content": [{"type": "image", "base64": "x"}]}, "messages[1].content[0].type"),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, "messages[1].tool_calls[0].type"),
        (
            {"role": "assistant", "content": "", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": None}]}, "messages[1].tool_calls[0].id"),
    ],
)
def test_messages_that_are_wrong_are_named_by_their_place(ask, message, place):
    refused(ask({"model": TEXT, "messages": [*USER, message]}), place)


def test_content_may_be_null_beside_tool_calls(ask):
    called = [*USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    assert ask({"model": TEXT, "messages": called}).status == 200
    del called[-1]["content"]
    assert ask({"model": TEXT, "messages": called}).status == 200


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens"])
def test_the_token_limit_cuts_the_answer(ask, name):
    whole = ask({"model": TEXT, "messages": USER}).body
    cut = ask({"model": TEXT, "messages": USER, name: 5}).body
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 5
    content = cut["choices"][0]["message"]["content"]
    assert content
    assert whole["choices"][0]["message"]["content"].startswith(content)
    exact = whole["usage"]["completion_tokens"]
    assert ask({"model": TEXT, "messages": USER, name: exact}).body["choices"][0]["finish_reason"] == "stop"


def test_the_newer_limit_wins_over_the_deprecated_one(ask):
    reply = ask({"model": TEXT, "messages": USER, "max_completion_tokens": 3, "max_tokens": 30})
    assert reply.body["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("stop", "end"),
    [
        ("lighthouses", "Tell me about"),
        (["never there", "lighthouses"], "Tell me about"),
        (["lighthouses", "about light"], "Tell me"),
    ],
)
def test_stop_cuts_before_the_first_of_its_sequences(ask, stop, end):
    choice = ask({"model": TEXT, "messages": USER, "stop": stop}).body["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].rstrip().endswith(end)


def test_what_does_not_fit_the_context_is_refused_with_numbers(ask):
    long = "word " * 40_000
    refused(ask({"model": TEXT, "messages": long}), "maximum context length is 32768 tokens. However, your request has")
    refused(ask({"model": TEXT, "messages": "x", "max_tokens": 32768}), "is too large: 32768", "maximum context length")
    assert ask({"model": "gpt-oss-120b", "messages": long}).status == 200


def test_only_reasoning_models_return_reasoning(ask):
    spent = []
    for effort in ("none", "minimal", "medium", "high"):
        body = ask({"model": "gpt-oss-120b", "messages": USER, "reasoning_effort": effort}).body
        assert ("reasoning" in body["choices"][0]["message"]) == (effort != "none")
        spent.append(body["usage"]["completion_tokens_details"]["reasoning_tokens"])
        assert body["usage"]["completion_tokens"] > spent[-1]
    assert spent == sorted(set(spent))
    other = ask({"model": TEXT, "messages": USER, "reasoning_effort": "high"}).body
    assert "reasoning" not in other["choices"][0]["message"]


def test_reasoning_counts_against_the_limit(ask):
    body = ask({"model": "gpt-oss-120b", "messages": USER, "max_completion_tokens": 2}).body
    assert body["choices"][0]["message"]["content"] == ""
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 2


def test_a_prompt_that_begins_like_the_last_one_is_partly_cached(ask):
    system = {"role": "system", "content": "Answer briefly and kindly. " * 20}

    def cached(text, model=TEXT):
        body = {"model": model, "messages": [system, {"role": "user", "content": text}]}
        usage = ask(body).body["usage"]
        count = usage["prompt_tokens_details"]["cached_tokens"]
        assert 0 <= count < usage["prompt_tokens"]
        return count

    assert cached("one") == 0
    assert cached("two") > 100
    assert cached("two", "gemma-3-27b-it") == 0


def test_cached_tokens_come_in_whole_blocks_and_never_are_the_whole_prompt():
    cache = PromptCache()
    marks = [(1, 20), (2, 12)]
    assert cache.count("m", marks) == 0
    assert cache.count("m", marks) == 16
    assert cache.count("m", [*marks, (3, 9)]) == 32
    assert cache.count("m", [(9, 20), *marks]) == 0
    cache.clear()
    assert cache.count("m", marks) == 0


def test_line_separators_come_back_and_lone_surrogates_are_refused(client, box):
    body = b'{"model": "%s", "messages": "a\\u2028b\\u0085c end"}' % TEXT.encode()
    assert client.post("/chat/completions", content=body).status_code == 200
    assert box.requests[0]["messages"] == "a\u2028b\u0085c end"
    streamed = client.post("/chat/completions", content=body[:-1] + b', "stream": true}')
    assert streamed.text.endswith("data: [DONE]\n\n")
    answer = client.post("/chat/completions", content=body.replace(b"u2028", b"ud83d"))
    assert answer.status_code == 400
    assert "lone surrogate" in answer.json()["error"]


def test_a_long_question_is_echoed_shortened(chat):
    assert len(chat("long " * 3000)["content"]) < 1200
