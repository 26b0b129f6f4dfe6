import base64
import io
import json

import httpx
import pytest
from PIL import Image

from predictionguard_core.sandbox import Sandbox, routes
from predictionguard_core.sandbox.chat.completions import PromptCache
from predictionguard_core.sandbox.options import Options


@pytest.fixture
def box():
    with Sandbox() as running:
        yield running


@pytest.fixture
def client(box):
    with httpx.Client(base_url=box.url, headers={"Authorization": "Bearer any"}, trust_env=False) as opened:
        yield opened


@pytest.fixture
def ask():
    """Post a body to the API without a socket; gives the response."""
    cache = PromptCache()

    def post(body, path="/chat/completions", **settings):
        request = routes.Request("POST", path, {"authorization": "Bearer any"}, body)
        return routes.respond(request, Options(**settings), cache)

    return post


@pytest.fixture
def chat(ask):
    """Asks the text model; gives the message of the answer, after making sure that there is one."""

    def post(messages, **options):
        reply = ask({"model": "Hermes-3-Llama-3.1-8B", "messages": messages, **options})
        assert reply.status == 200, reply.body
        return reply.body["choices"][0]["message"]

    return post


@pytest.fixture
def encoded():
    """Make an image and return its bytes: `encoded("PNG", (8, 4), "red")`."""

    def make(kind="PNG", size=(40, 20), color="red", mode="RGB", **options):
        out = io.BytesIO()
        Image.new(mode, size, color).save(out, kind, **options)
        return out.getvalue()

    return make


@pytest.fixture
def uri():
    def make(data, kind="image/png"):
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    return make


@pytest.fixture
def see(ask):
    """Asks the vision model about data URIs; gives the reply."""

    def post(*uris, text="What is this?", **options):
        parts = [{"type": "text", "text": text}]
        parts += [{"type": "image_url", "image_url": {"url": each}} for each in uris]
        settings = {"vision_streaming": options.pop("vision_streaming", False)}
        body = {"model": "Qwen2.5-VL-7B-Instruct", "messages": [{"role": "user", "content": parts}], **options}
        return ask(body, **settings)

    return post


@pytest.fixture
def events():
    """The decoded `data` of a stream's events; the last one must be `[DONE]`."""

    def decode(listed):
        *chunks, done = list(listed)
        assert done == "[DONE]"
        return [json.loads(chunk) for chunk in chunks]

    return decode
