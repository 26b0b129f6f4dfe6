"""The sandbox held against the published specifications (openapi/, version 1.2) by schemathesis.

`corrected` lists where the specification contradicts OpenAPI or its own examples, `UNDOCUMENTED` the status codes that
it leaves out. Everything else in it is taken as it stands.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from predictionguard_core.sandbox import Sandbox

pytestmark = pytest.mark.slow
schemathesis = pytest.importorskip("schemathesis")
yaml = pytest.importorskip("yaml")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

FOLDER = Path(__file__).parent / "openapi"
HEADERS = {"Authorization": "Bearer any"}
MODELS = {
    "/chat/completions": ["gpt-oss-120b", "Qwen2.5-VL-7B-Instruct"],
    "/completions": ["neural-chat-7b-v3-3"],
    "/embeddings": ["bge-m3", "bridgetower-large-itm-mlm-itc"],
    "/rerank": ["bge-reranker-v2-m3"],
    "/tokenize": ["gpt-oss-120b"],
    "/detokenize": ["gpt-oss-120b"],
}
"""The specification leaves the model open; with random names nearly every response would be a 404."""
PLACEHOLDERS = {
    "{{TEXT_MODEL}}": "gpt-oss-120b",
    "{{VISION_MODEL}}": "Qwen2.5-VL-7B-Instruct",
    "{{TEXT_EMBED}}": "bge-m3",
    "{{IMAGE_EMBED}}": "bridgetower-large-itm-mlm-itc",
    "{{RERANK_MODEL}}": "bge-reranker-v2-m3",
}
UNDOCUMENTED = {
    "401": "no API key: RFC 9110, 15.5.2; the specification has 403 only",
    "404": "unknown model: as vLLM answers",
}
REFUSED_EXAMPLES = {
    ("/completions", "Streaming"): "asks for output checks, which the service refuses in a stream",
    ("/detokenize", "Basic"): "token ids of another tokenizer",
}
"""Examples of the specification that the sandbox refuses, with the reason."""


def corrected(name: str) -> dict[str, Any]:
    """Load a specification and correct what keeps it from being OpenAPI 3.1, or what its examples contradict."""
    document = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    components = document["components"]
    if components.get("schemas", {}) is None:  # "schemas:" without a value
        del components["schemas"]
    components["securitySchemes"]["bearerAuth"].pop("in")  # only for API keys
    document["servers"] = [{"url": "http://127.0.0.1"}]
    for path, item in document["paths"].items():
        for operation in item.values():
            correct_operation(path, operation)
    return json.loads(json.dumps(document))  # integer keys of examples become strings


def correct_operation(path: str, operation: dict[str, Any]) -> None:
    for response in operation["responses"].values():
        for content in response["content"].values():
            content.pop("examples", None)  # "choices" and "tool_calls" as an object in one, a stray quote in another
            correct(content["schema"])
    for status, reason in UNDOCUMENTED.items():
        error = {"type": "object", "properties": {"error": {"type": "string"}}}
        operation["responses"][status] = {"description": reason, "content": {"application/json": {"schema": error}}}
    if path in ("/chat/completions", "/completions"):
        # Streams are documented by an example only.
        operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        correct(content["schema"])
        if path in MODELS:
            content["schema"]["properties"]["model"] = {"type": "string", "enum": MODELS[path]}
        content.pop("examples")  # tried in a test of their own


def correct(schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("items"), list):
        schema["items"] = schema["items"][0]  # entity_list
    properties = schema.get("properties", {})
    for name, value in list(properties.items()):
        if isinstance(value, str):
            properties[name] = {"type": value}  # tool_choice.function
        elif value.pop("nullable", None) or name == "content":
            # OpenAPI 3.1 has no "nullable"; "content" is null beside tool calls.
            properties[name] = {"anyOf": [value, {"type": "null"}]}
    for value in [*schema.values(), *properties.values(), *schema.get("oneOf", []), *schema.get("anyOf", [])]:
        correct(value)


def operations() -> dict[str, Any]:
    found = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        for result in schemathesis.openapi.from_dict(corrected(file.name)).get_all_operations():
            operation = result.ok()
            found[operation.label] = operation
    return found


OPERATIONS = operations()


@pytest.fixture(scope="module")
def box():
    with Sandbox() as running:
        yield running


def test_every_specified_endpoint_is_tried():
    assert len(OPERATIONS) == 12, list(OPERATIONS)


@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_generated_requests(box, label, mode):
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def check(case):
        case.call_and_validate(
            base_url=box.url,
            headers=HEADERS,
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
            excluded_checks=[ignored_auth],
        )

    check()


def examples() -> dict[tuple[str, str], Any]:
    found = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        for path, item in yaml.safe_load(file.read_text(encoding="utf-8"))["paths"].items():
            content = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in content.get("examples", {}).items():
                found[path, name] = example["value"]
    return found


@pytest.mark.parametrize(("path", "name"), examples())
def test_examples_of_the_specification(box, path, name):
    out = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(out, "JPEG")
    text = json.dumps(examples()[path, name])
    for placeholder, model in PLACEHOLDERS.items():
        text = text.replace(placeholder, model)
    for placeholder in ("<DATA>", "<base64 encoded image>"):
        text = text.replace(placeholder, base64.b64encode(out.getvalue()).decode())
    answer = httpx.post(box.url + path, content=text, headers=HEADERS, trust_env=False)
    expected = 400 if (path, name) in REFUSED_EXAMPLES else 200
    assert answer.status_code == expected, answer.text


def test_the_example_of_document_extraction(box):
    item = yaml.safe_load((FOLDER / "documents.yaml").read_text(encoding="utf-8"))["paths"]["/documents/extract"][
        "post"
    ]
    content = item["requestBody"]["content"]["multipart/form-data"]
    fields = {name: str(value) for name, value in content["examples"]["multipart/form-data"]["value"].items()}
    fields.pop("file")
    headers = {each["name"]: str(each["example"]) for each in item["parameters"]}
    headers |= HEADERS
    files = {"file": ("sample.md", b"## Sample\n\nFun fun fun.")}
    url = f"{box.url}/documents/extract"
    answer = httpx.post(url, data=fields, files=files, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["count"] == 5
