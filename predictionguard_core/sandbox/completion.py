"""`POST /completions`: text that goes on behind a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from predictionguard_core.sandbox import catalogue, checks, text, tokens
from predictionguard_core.sandbox.fields import SENT_AS_NULL, Fields
from predictionguard_core.sandbox.options import read_options
from predictionguard_core.sandbox.reply import DONE, Refusal, Reply, identifier, now


def respond(body: object) -> Reply:
    """The reply to a decoded body, one choice for each prompt; raises `Refusal`."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("model", "prompt")
    model = catalogue.find(fields.needed("model"), "completion")
    options = read_options(fields)
    echo = bool(fields.flag("echo"))
    prompts = fields.strings("prompt", or_one=True)
    if prompts is None:
        raise fields.wrong("prompt", "a string or a list of strings")
    spent = sum(tokens.count(prompt) for prompt in prompts)
    if spent + max(options.limit or 0, 1) > model.context:
        raise Refusal(
            f"This model's maximum context length is {model.context} tokens. However, you requested "
            f"{spent + (options.limit or 0)} tokens ({spent} in your prompt; {options.limit or 0} for the completion). "
            "Please reduce your prompt; or completion length."
        )
    done: list[tuple[str, str]] = []
    for prompt in prompts:
        safe = checks.check_input(prompt, options.checks)
        said, reason = text.finish(text.completion(safe), options.stop, options.limit)
        checks.check_output(said, safe, options.checks)
        done.append((safe + said if echo else said, reason))
    made = sum(tokens.count(said) for said, _ in done)
    usage = {"prompt_tokens": spent, "completion_tokens": made, "total_tokens": spent + made}
    if options.stream:
        return Reply(200, events=_events(model.name, done, usage if options.include_usage else None))
    choices = [{"index": index, "text": said, "finish_reason": reason} for index, (said, reason) in enumerate(done)]
    return Reply(200, {**_head(model.name), "choices": choices, "usage": usage})


def _head(model: str) -> dict[str, Any]:
    return {"id": identifier("cmpl"), "object": "text_completion", "created": now(), "model": model}


def _events(model: str, done: Sequence[tuple[str, str]], usage: dict[str, int] | None) -> Iterator[str]:
    for index, (said, reason) in enumerate(done):
        pieces = text.pieces(said) or [""]
        for number, piece in enumerate(pieces, 1):
            last = reason if number == len(pieces) else None
            choice = {"index": index, "text": piece, "finish_reason": last, "stop_reason": None}
            yield json.dumps({**_head(model), "choices": [choice]})
    if usage is not None:
        yield json.dumps({**_head(model), "choices": [], "usage": usage})
    yield DONE
