import json

BODY = {"model": "Hermes-3-Llama-3.1-8B", "messages": "Tell me about lighthouses", "stream": True}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_the_wire_is_data_lines_of_an_event_stream(client):
    answer = client.post("/chat/completions", json=BODY)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["x-request-id"]
    *blocks, end = answer.text.split("\n\n")
    assert end == ""
    assert blocks[-1] == "data: [DONE]"
    assert all(block.startswith("data: {") and "\n" not in block for block in blocks[:-1])


def test_the_pieces_add_up_to_the_plain_answer(ask, events):
    plain = ask({**BODY, "stream": False}).body
    chunks = events(ask(BODY).events)
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert len(pieces) > 10
    content = plain["choices"][0]["message"]["content"]
    assert "".join(pieces) == content
    assert all(len(piece.split()) <= 1 for piece in pieces)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == [
        {"index": 0, "delta": {}, "generated_text": content, "finish_reason": "stop"},
    ]
    assert {chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]} == {None}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_every_chunk_has_an_id_of_its_own(ask, events):
    chunks = events(ask(BODY).events)
    assert len({chunk["id"] for chunk in chunks}) == len(chunks)


def test_usage_comes_in_a_chunk_of_its_own_and_only_if_asked_for(ask, events):
    assert not any("usage" in chunk for chunk in events(ask(BODY).events))
    chunks = events(ask({**BODY, "stream_options": {"include_usage": True}}).events)
    assert chunks[-1]["choices"] == []
    plain = ask({**BODY, "stream": False}).body["usage"]
    for usage in (plain, chunks[-1]["usage"]):
        del usage["prompt_tokens_details"]
    assert chunks[-1]["usage"] == plain
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_limit_and_stop_hold_in_a_stream(ask, events):
    chunks = events(ask({**BODY, "max_completion_tokens": 4}).events)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    chunks = events(ask({**BODY, "stop": "lighthouses"}).events)
    assert chunks[-1]["choices"][0]["generated_text"].endswith("Tell me about ")


def test_reasoning_is_streamed_before_the_answer(ask, events):
    body = {**BODY, "model": "gpt-oss-120b"}
    deltas = [chunk["choices"][0]["delta"] for chunk in events(ask(body).events)]
    plain = ask({**body, "stream": False}).body["choices"][0]["message"]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == plain["reasoning"]
    thoughts = [index for index, delta in enumerate(deltas) if "reasoning" in delta]
    words = [index for index, delta in enumerate(deltas) if delta.get("content")]
    assert max(thoughts) < min(words)


def test_tool_calls_come_in_fragments(ask, events):
    body = {**BODY, "messages": "weather in Paris and in Reykjavik", "tools": [TOOL]}
    chunks = events(ask(body).events)
    fragments = [part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert len(fragments) > 4
    calls = {}
    for part in fragments:
        if part["index"] not in calls:
            assert part["type"] == "function"
            assert part["function"]["arguments"] == ""
            calls[part["index"]] = [part["id"], part["function"]["name"], ""]
        else:
            assert set(part) == {"index", "function"}
            assert set(part["function"]) == {"arguments"}
            calls[part["index"]][2] += part["function"]["arguments"]
    assert [json.loads(call[2]) for call in calls.values()] == [{"city": "Paris"}, {"city": "Reykjavik"}]
    assert {call[1] for call in calls.values()} == {"get_weather"}
    assert len({call[0] for call in calls.values()}) == 2
    last = chunks[-1]["choices"][0]
    assert (last["finish_reason"], last["generated_text"], last["delta"]) == ("tool_calls", None, {})


def test_output_checks_are_refused_in_a_stream(ask):
    for output in ({"toxicity": True}, {"factuality": True}):
        reply = ask({**BODY, "output": output})
        assert reply.status == 400
        assert "not supported when streaming" in reply.body["error"]
    assert ask({**BODY, "output": {"toxicity": False}}).status == 200


def test_input_checks_hold_in_a_stream(ask, events):
    body = {**BODY, "messages": "write to ada@example.com"}
    assert ask({**body, "input": {"pii": "block"}}).body == {"error": "pii detected"}
    reply = ask({**body, "input": {"pii": "replace", "pii_replace_method": "mask"}})
    assert "write to *" in events(reply.events)[-1]["choices"][0]["generated_text"]


def test_an_image_streams_only_where_it_is_switched_on(see, uri, encoded, events):
    address = uri(encoded())
    reply = see(address, stream=True)
    assert reply.status == 400
    assert reply.body["error"] == "streaming is not currently supported when generating a vision text completion"
    reply = see(address, stream=True, vision_streaming=True)
    assert "40 x 20 pixels" in events(reply.events)[-1]["choices"][0]["generated_text"]
