"""The OpenAI Python SDK as a client of the sandbox: what it sends is taken, what comes back it can parse."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image
from pydantic import BaseModel

from predictionguard_core.sandbox import Sandbox

pytestmark = pytest.mark.slow
openai = pytest.importorskip("openai")

TEXT, VISION = "gpt-oss-120b", "Qwen2.5-VL-7B-Instruct"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def box():
    with Sandbox(vision_streaming=True) as running:
        yield running


@pytest.fixture
def client(box):
    with openai.OpenAI(api_key="any", base_url=f"{box.url}/v1", max_retries=0) as made:
        yield made


def photo():
    out = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(out, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def test_chat_and_its_answer_back_in_the_history(client):
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    first = client.chat.completions.create(model=TEXT, messages=messages, reasoning_effort="minimal", user="me")
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    messages += [first.choices[0].message.model_dump(), {"role": "user", "content": "And again"}]
    second = client.chat.completions.create(model=TEXT, messages=messages, stop=None, tools=None)
    assert "And again" in second.choices[0].message.content


def test_streams(client):
    with client.chat.completions.stream(
        model=TEXT, messages=[{"role": "user", "content": "Hello"}], stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
    final = stream.get_final_completion()
    assert "Hello" in final.choices[0].message.content
    assert final.usage.completion_tokens > 0
    assert any(event.type == "content.delta" for event in events)


def test_images(client):
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": photo()}}]
    messages = [{"role": "user", "content": content}]
    plain = client.chat.completions.create(model=VISION, messages=messages)
    assert "40 x 20 pixels" in plain.choices[0].message.content
    chunks = client.chat.completions.create(model=VISION, messages=messages, stream=True)
    assert "40 x 20 pixels" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_tools(client):
    messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
    message = client.chat.completions.create(model=TEXT, messages=messages, tools=[WEATHER]).choices[0].message
    [call] = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    messages += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    answer = client.chat.completions.create(model=TEXT, messages=messages, tools=[WEATHER])
    assert "get_weather returned: sunny" in answer.choices[0].message.content
    with client.chat.completions.stream(model=TEXT, messages=messages[:1], tools=[WEATHER]) as stream:
        [call] = stream.get_final_completion().choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}


def test_structured_output_by_a_strict_tool(client):
    class Receipt(BaseModel):
        shop: str
        total: float

    tool = openai.pydantic_function_tool(Receipt)
    choice = {"type": "function", "function": {"name": "Receipt"}}
    messages = [{"role": "user", "content": "What does it say?"}]
    answer = client.chat.completions.parse(model=TEXT, messages=messages, tools=[tool], tool_choice=choice)
    [call] = answer.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Receipt(shop="<shop>", total=0)


def test_refusals(box, client):
    box.answer(refusal="I can't help with that.")
    messages = [{"role": "user", "content": "Hello"}]
    assert client.chat.completions.create(model=TEXT, messages=messages).choices[0].message.refusal


def test_completions(client):
    assert "Hello" in client.completions.create(model=TEXT, prompt="Hello", max_tokens=50).choices[0].text
    chunks = client.completions.create(model=TEXT, prompt="Hello", stream=True)
    assert "Hello" in "".join(chunk.choices[0].text for chunk in chunks)


def test_embeddings_in_both_encodings(client):
    packed = client.embeddings.create(model="bge-m3", input=["a", "b"])  # the SDK asks for base64
    plain = client.embeddings.create(model="bge-m3", input=["a", "b"], encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.index == other.index
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_models(client):
    assert TEXT in [model.id for model in client.models.list()]
    assert client.models.retrieve(TEXT).owned_by == "OpenAI"


def test_errors(box, client):
    messages = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=messages)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model=VISION, messages=[{"role": "user", "content": "word " * 20_000}])
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        client.chat.completions.create(model=TEXT, messages=messages, tool_choice="auto")
    box.fail(429)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model=TEXT, messages=messages)
    box.fail_check("pii")
    with pytest.raises(openai.BadRequestError, match="pii detected"):
        client.chat.completions.create(model=TEXT, messages=messages, extra_body={"input": {"pii": "block"}})
