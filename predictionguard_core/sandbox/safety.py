"""`POST /tokenize`, `/detokenize`, `/PII`, `/injection`, `/toxicity` and `/factuality`."""

from __future__ import annotations

from typing import Any

from predictionguard_core.sandbox import catalogue, checks, pii, tokens
from predictionguard_core.sandbox.fields import SENT_AS_NULL, Fields
from predictionguard_core.sandbox.options import PII_METHODS
from predictionguard_core.sandbox.reply import MISSING, Refusal, Reply, identifier, now


def _reply(prefix: str, kind: str, **more: Any) -> Reply:
    return Reply(200, {"id": identifier(prefix), "object": kind, "created": now(), **more})


def tokenize(body: object) -> Reply:
    """The tokens of `input`, with their places in characters."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("model", "input")
    model = catalogue.find(fields.needed("model"), "tokenize")
    listed, place = [], 0
    for token in tokens.split(fields.needed("input")):
        listed.append({"id": tokens.number(token), "start": place, "stop": place + len(token), "text": token})
        place += len(token)
    return _reply("token", "tokens", model=model.name, tokens=listed)


def detokenize(body: object) -> Reply:
    """The text of `tokens`, which must be ids that `/tokenize` of this sandbox gave."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("model", "tokens")
    model = catalogue.find(fields.needed("model"), "detokenize")
    return _reply("token", "tokens", model=model.name, text=tokens.text_of(fields.items("tokens") or []))


def personal(body: object) -> Reply:
    """Personal data in each prompt: found, or replaced when `replace` is true."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("prompt")
    prompts = fields.strings("prompt", or_one=True)
    replace = fields.flag("replace")
    method = fields.choice("replace_method", PII_METHODS) or "random"
    ignored = frozenset(fields.strings("entity_list") or ())
    if prompts is None or replace is None:
        raise Refusal(MISSING)
    listed: list[dict[str, Any]] = []
    for index, prompt in enumerate(prompts):
        found = pii.find(prompt, ignored)
        if replace:
            result: dict[str, Any] = {"new_prompt": pii.replace(prompt, method, ignored)}
        elif found:
            result = {"pii_types_and_positions": [item._asdict() for item in found]}
        else:
            result = {"prompt": prompt}
        listed.append({"index": index, **result, "status": "success"})
    return _reply("pii", "pii_check", checks=listed)


def injection(body: object) -> Reply:
    """How probable it is that each prompt is an injection."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("prompt")
    prompts = fields.strings("prompt", or_one=True)
    if prompts is None or fields.flag("detect") is None:
        raise Refusal(MISSING)
    listed = [
        {"index": index, "probability": checks.injection(prompt), "status": "success"}
        for index, prompt in enumerate(prompts)
    ]
    return _reply("injection", "injection_check", checks=listed)


def toxicity(body: object) -> Reply:
    """How toxic `text` is."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("text")
    return _reply("toxi", "toxicity.check", checks=[{"index": 0, "score": checks.toxicity(fields.needed("text"))}])


def factuality(body: object) -> Reply:
    """How well `reference` supports `text`."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("reference", "text")
    score = checks.factuality(fields.needed("reference"), fields.needed("text"))
    return _reply("fact", "factuality.check", checks=[{"index": 0, "score": score}])
