"""`POST /PII`, `/injection`, `/toxicity` and `/factuality`."""

from __future__ import annotations

from typing import Any

from predictionguard_core.sandbox.checks import pii as personal_data
from predictionguard_core.sandbox.checks import rules
from predictionguard_core.sandbox.responses import MISSING, Response, ServiceError, head
from predictionguard_core.sandbox.validation import Fields


def pii(body: object) -> Response:
    """Return the personal data in each prompt, or the prompts without it if `replace` is true."""
    fields = Fields(body)
    fields.require("prompt")
    prompts = fields.strings("prompt", or_one=True)
    replace = fields.boolean("replace")
    method = fields.choice("replace_method", personal_data.METHODS) or "random"
    ignored = frozenset(fields.strings("entity_list") or ())
    if prompts is None or replace is None:
        raise ServiceError(MISSING)
    listed: list[dict[str, Any]] = []
    for index, prompt in enumerate(prompts):
        found = personal_data.find(prompt, ignored)
        if replace:
            result: dict[str, Any] = {"new_prompt": personal_data.replace(prompt, method, ignored)}
        elif found:
            result = {"pii_types_and_positions": [item._asdict() for item in found]}
        else:
            result = {"prompt": prompt}
        listed.append({"index": index, **result, "status": "success"})
    return Response(200, {**head("pii", "pii_check"), "checks": listed})


def injection(body: object) -> Response:
    """Return how probable it is that each prompt is an injection."""
    fields = Fields(body)
    fields.require("prompt")
    prompts = fields.strings("prompt", or_one=True)
    if prompts is None or fields.boolean("detect") is None:
        raise ServiceError(MISSING)
    listed = [
        {"index": index, "probability": rules.injection(prompt), "status": "success"}
        for index, prompt in enumerate(prompts)
    ]
    return Response(200, {**head("injection", "injection_check"), "checks": listed})


def toxicity(body: object) -> Response:
    """Return how toxic `text` is."""
    fields = Fields(body)
    fields.require("text")
    score = rules.toxicity(fields.required_string("text"))
    return Response(200, {**head("toxi", "toxicity.check"), "checks": [{"index": 0, "score": score}]})


def factuality(body: object) -> Response:
    """Return how well `reference` supports `text`."""
    fields = Fields(body)
    fields.require("reference", "text")
    score = rules.factuality(fields.required_string("reference"), fields.required_string("text"))
    return Response(200, {**head("fact", "factuality.check"), "checks": [{"index": 0, "score": score}]})
