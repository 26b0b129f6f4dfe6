"""Prediction Guard's checks as middleware of LangChain agents (`langchain.agents.create_agent`)."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict, Unpack

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    ToolMessage,
)
from pydantic import TypeAdapter, ValidationError

from langchain_predictionguard.checks import (
    check_actions,
    collect_in,
    map_strings,
    map_texts,
    message_texts,
    unchecked_types,
)
from langchain_predictionguard.clients import ConnectionOptions, new_clients
from langchain_predictionguard.errors import langchain_errors
from predictionguard_core.api.safety import CheckedText, CheckName, FactualityCheck, PIIReplaceMethod, TextChecks
from predictionguard_core.errors import (
    CheckFailedError,
    ConfigurationError,
    FactualityError,
    PIIDetectedError,
    ToxicityError,
)

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse, hook_config
    from langchain.agents.middleware.types import ExtendedModelResponse
    from langgraph.constants import TAG_NOSTREAM
    from langgraph.runtime import Runtime
    from langgraph.types import Command
except ImportError as error:
    raise ImportError(
        'the middleware needs langchain 1.5 or newer: pip install "predictionguard-integrations[agents]"'
    ) from error

Action = Literal["block", "end"]
DEFAULT_END_MESSAGE = "This request was stopped by a safety check."

_REMOVED = "[removed by a safety check: {check}]"


class CheckRecord(TypedDict):
    """One checked message, in the agent's state under `predictionguard_checks`.

    `stage` is "input", "tool" or "output". `unchecked` names what no check looked at, such as "image_url" or
    "reasoning".
    """

    stage: str
    message_id: str | None
    replaced: bool
    failed: list[str]
    unchecked: list[str]


class CheckedState(AgentState[Any]):
    """The agent's state, with a record of each checked message."""

    predictionguard_checks: NotRequired[Annotated[list[CheckRecord], operator.add]]


class PredictionGuardMiddleware(AgentMiddleware[CheckedState, Any, Any]):
    """Check an agent's input, the results of its tools and its answers.

    Each check has an action: "block" raises a `CheckFailedError`; "end" ends the run with `end_message` as the answer;
    "replace", for personal data, replaces it; None turns the check off.

    Args:
        pii: What to do about personal data in the input, tool results and answers. A replacement in the arguments of a
            tool call is what the tool gets.
        injection: What to do about prompt injections in the input and tool results.
        toxicity: What to do about toxic answers.
        factuality: What to do about an answer that the tool results of the same turn contradict. Not checked in a turn
            without tool results.
        check_input: Whether the user's messages are checked.
        check_tool_results: Whether the results of tools are checked.
        check_output: Whether the model's answers are checked.
        check_tool_calls: Whether the arguments of tool calls, and a structured response, are checked with the answer.
        history: "new" checks the messages since the last answer of the model; "all" checks the whole history before
            each call of the model, also its earlier answers. System messages are never checked.
        pii_replace_method: What replaces personal data: "random" characters, "fake" values, the "category", or a
            "mask" (`*`).
        entity_list: Kinds of personal data that are ignored, such as "PHONE_NUMBER".
        injection_threshold: Probability from which a text counts as a prompt injection.
        toxicity_threshold: Score from which an answer counts as toxic.
        factuality_threshold: Score below which an answer counts as contradicted.
        end_message: The agent's answer where an action is "end".
        connection: `api_key`, `base_url`, `timeout`, `max_retries`, `default_headers`, `http_client` and
            `http_async_client`, as in `ChatPredictionGuard`.

    The run's result has one `CheckRecord` for each checked message under `predictionguard_checks`. Every text that
    reaches the model or a tool is checked, also text files, a user's name and the strings in the arguments of tool
    calls. No check looks at images, at a model's reasoning, or at system messages.

    While answers are checked, `stream_mode="messages"` delivers each answer in one piece after its check. Callbacks,
    tracers and `astream_events` see the model's own output.

    Raises:
        PIIDetectedError, PromptInjectionError, ToxicityError, FactualityError: a check failed whose action is "block".
        ConfigurationError: an option is wrong.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_predictionguard.middleware import PredictionGuardMiddleware
        >>> guard = PredictionGuardMiddleware(pii="replace", pii_replace_method="mask", injection="end")
        >>> agent = create_agent(chat, tools=[search], middleware=[guard])
    """

    state_schema = CheckedState

    def __init__(
        self,
        *,
        pii: Literal["block", "replace", "end"] | None = "replace",
        injection: Action | None = "block",
        toxicity: Action | None = "block",
        factuality: Action | None = None,
        check_input: bool = True,
        check_tool_results: bool = True,
        check_output: bool = True,
        check_tool_calls: bool = True,
        history: Literal["new", "all"] = "new",
        pii_replace_method: PIIReplaceMethod | None = None,
        entity_list: list[str] | None = None,
        injection_threshold: float = 0.5,
        toxicity_threshold: float = 0.5,
        factuality_threshold: float = 0.5,
        end_message: str = DEFAULT_END_MESSAGE,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__()
        self._actions = {"pii": pii, "injection": injection, "toxicity": toxicity, "factuality": factuality}
        with langchain_errors():
            check_actions({"pii": pii}, ("block", "replace", "end"))
            check_actions({"injection": injection, "toxicity": toxicity, "factuality": factuality}, ("block", "end"))
            if history not in ("new", "all"):
                raise ConfigurationError(f'history must be "new" or "all", got {history!r}')
            stages_on = {"check_input": check_input, "check_tool_results": check_tool_results}
            stages_on |= {"check_output": check_output, "check_tool_calls": check_tool_calls}
            for name, value in stages_on.items():
                if not isinstance(value, bool):
                    raise ConfigurationError(f"{name} must be True or False, got {value!r:.60}")
            if not 0 <= factuality_threshold <= 1:
                raise ConfigurationError(f"factuality_threshold must be between 0 and 1, got {factuality_threshold}")
            options: dict[str, Any] = {
                "pii": "replace" if pii == "replace" else "block" if pii else None,
                "pii_replace_method": pii_replace_method,
                "entity_list": entity_list,
                "injection_threshold": injection_threshold,
                "toxicity_threshold": toxicity_threshold,
            }
            self._input_checks = TextChecks(**options, injection=injection is not None)
            self._output_checks = TextChecks(**options)
        self._toxicity_threshold, self._factuality_threshold = toxicity_threshold, factuality_threshold
        stages = {"input": check_input, "tool": check_tool_results, "output": check_output and history == "all"}
        self._stages = {stage for stage, is_on in stages.items() if is_on and (pii or injection)}
        self._checks_output = check_output and bool(pii or toxicity or factuality)
        self._checks_tool_calls = check_tool_calls
        self._history = history
        self._end_message = end_message
        self._client, self._async_client = new_clients(connection, PredictionGuardMiddleware)

    # Input and tool results

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: CheckedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Check the user's messages and the results of tools before the model sees them."""
        messages = self._to_check(state["messages"])
        if not messages:
            return None
        with langchain_errors():
            results = self._client.check_texts(self._texts(messages), self._input_checks)
            return self._after_input(messages, results)

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: CheckedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Async version of `before_model`."""
        messages = self._to_check(state["messages"])
        if not messages:
            return None
        with langchain_errors():
            results = await self._async_client.check_texts(self._texts(messages), self._input_checks)
            return self._after_input(messages, results)

    def _to_check(self, messages: Sequence[AnyMessage]) -> list[AnyMessage]:
        start = 0
        if self._history == "new":
            answers = [place for place, message in enumerate(messages) if isinstance(message, AIMessage)]
            start = answers[-1] + 1 if answers else 0
        return [message for message in messages[start:] if _stage(message) in self._stages]

    def _texts(self, messages: Sequence[BaseMessage], structured_response: Any = None) -> list[str]:
        """Return the different texts of messages, and those of a structured response."""
        texts = [text for message in messages for text in message_texts(message, tool_calls=self._checks_tool_calls)]
        if self._checks_tool_calls:
            _map_structured(structured_response, collect_in(texts))
        return list(dict.fromkeys(texts))

    def _after_input(self, messages: list[AnyMessage], results: list[CheckedText]) -> dict[str, Any]:
        by_text = {result.original: result for result in results}
        changed: list[BaseMessage] = []
        records: list[CheckRecord] = []
        is_ended = False
        for message in messages:
            found = [by_text[text] for text in self._texts([message])]
            failed = _failed(found)
            records.append(self._record(_stage(message), [message], found, failed))
            for name, text in failed.items():
                if self._actions[name] == "block":
                    raise text.error(name, _place(message))
            is_ended = is_ended or bool(failed)
            if failed or any(text.is_replaced for text in found):
                # What failed stays in the history, where a later turn would show it to the model.
                changed.append(self._changed(message, results))
        update: dict[str, Any] = {"predictionguard_checks": records}
        if is_ended:
            changed.append(AIMessage(self._end_message))
            update["jump_to"] = "end"
        return {**update, "messages": changed} if changed else update

    # Answers

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Call the model and check its answer before anything else sees it."""
        if not self._checks_output:
            return handler(request)
        response = handler(_without_streaming(request))
        reference, answer = self._reference(request.messages), _answer(response)
        with langchain_errors():
            texts = self._texts(response.result, response.structured_response)
            results = self._client.check_texts(texts, self._output_checks)
            scores = [self._client.check_toxicity(text).score for text in self._toxicity_texts(response, texts)]
            facts = self._client.check_factuality(reference, answer.text) if reference and answer.text.strip() else None
            return self._after_output(response, results, scores, facts)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Async version of `wrap_model_call`."""
        if not self._checks_output:
            return await handler(request)
        response = await handler(_without_streaming(request))
        reference, answer = self._reference(request.messages), _answer(response)
        with langchain_errors():
            texts = self._texts(response.result, response.structured_response)
            results = await self._async_client.check_texts(texts, self._output_checks)
            to_score = self._toxicity_texts(response, texts)
            scores = [(await self._async_client.check_toxicity(text)).score for text in to_score]
            facts = None
            if reference and answer.text.strip():
                facts = await self._async_client.check_factuality(reference, answer.text)
            return self._after_output(response, results, scores, facts)

    def _toxicity_texts(self, response: ModelResponse[Any], texts: Sequence[str]) -> list[str]:
        """Return what the toxicity check reads: one request each, so the arguments of tool calls are joined."""
        if self._actions["toxicity"] is None:
            return []
        contents = message_texts(_answer(response), tool_calls=False)
        joined = "\n".join(text for text in texts if text not in contents)
        return [text for text in [*dict.fromkeys(contents), joined] if text.strip()]

    def _reference(self, messages: Sequence[AnyMessage]) -> str:
        """Return the results of the tools of this turn, if answers are compared with them."""
        if self._actions["factuality"] is None:
            return ""
        asked = max((place for place, each in enumerate(messages) if _stage(each) == "input"), default=-1)
        results = [message for message in messages[asked + 1 :] if _stage(message) == "tool"]
        return "\n\n".join(text for message in results for text in message_texts(message) if text.strip())

    def _after_output(
        self,
        response: ModelResponse[Any],
        results: list[CheckedText],
        toxicity_scores: Sequence[float],
        facts: FactualityCheck | None,
    ) -> ExtendedModelResponse[Any]:
        answer = _answer(response)
        names = ", ".join(repr(call["name"]) for call in answer.tool_calls)
        place = f"the model's answer, a call of {names}" if names else "the model's answer"
        errors: dict[str, CheckFailedError] = {name: text.error(name, place) for name, text in _failed(results).items()}
        toxicity = max(toxicity_scores, default=0.0)
        if toxicity_scores and toxicity >= self._toxicity_threshold:
            errors["toxicity"] = ToxicityError(
                f"failed toxicity check in {place}: score {toxicity:.2f}", status_code=200
            )
        if facts is not None and facts.score < self._factuality_threshold:
            score = f"failed factuality check in the model's answer: score {facts.score:.2f}"
            errors["factuality"] = FactualityError(score, status_code=200)
        for name, error in errors.items():
            if self._actions[name] == "block":
                raise error
        update: dict[str, Any] = {"predictionguard_checks": [self._record("output", response.result, results, errors)]}
        messages, structured_response = response.result, response.structured_response
        if errors:
            messages, structured_response = [AIMessage(self._end_message, id=answer.id)], None
            update["jump_to"] = "end"
        elif any(result.is_replaced for result in results):
            messages = [self._changed(each, results) for each in messages]
            if self._checks_tool_calls:
                structured_response = _map_structured(structured_response, _outcomes(results).__getitem__)
        return ExtendedModelResponse(ModelResponse(messages, structured_response), Command(update=update))

    def _changed(self, message: BaseMessage, results: Sequence[CheckedText]) -> BaseMessage:
        return map_texts(message, _outcomes(results).__getitem__, tool_calls=self._checks_tool_calls)

    def _record(
        self, stage: str, messages: Sequence[BaseMessage], texts: Sequence[CheckedText], failed: Iterable[str]
    ) -> CheckRecord:
        types = [kind for each in messages for kind in unchecked_types(each, tool_calls=self._checks_tool_calls)]
        return CheckRecord(
            stage=stage,
            message_id=messages[0].id,
            replaced=any(text.is_replaced for text in texts),
            failed=list(failed),
            unchecked=list(dict.fromkeys(types)),
        )


def _outcomes(results: Sequence[CheckedText]) -> dict[str, str]:
    """Map each text to what becomes of it: personal data is replaced, a text that failed a check is removed."""
    return {
        result.original: _REMOVED.format(check=", ".join(result.failed)) if result.failed else result.text
        for result in results
    }


def _map_structured(value: Any, change: Callable[[str], str]) -> Any:
    """Return a structured response with `change` applied to its strings."""
    if value is None:
        return None
    adapter = TypeAdapter(type(value))
    before = adapter.dump_python(value, mode="json", by_alias=True)
    after = map_strings(before, change)
    if after == before:
        return value
    try:
        return adapter.validate_python(after)
    except ValidationError as error:
        field = ".".join(str(step) for step in error.errors()[0]["loc"])
        raise PIIDetectedError(
            f"pii detected in the structured response, and the replacement does not fit the field {field!r} of "
            f'{type(value).__name__}. Allow any string there, or use pii="end"',
            status_code=200,
        ) from None


def _answer(response: ModelResponse[Any]) -> AIMessage:
    return next((message for message in response.result if isinstance(message, AIMessage)), AIMessage(""))


def _stage(message: BaseMessage) -> str:
    """Return the stage at which a message is checked; "" for those that never are."""
    if isinstance(message, ChatMessage):
        return {"user": "input", "human": "input", "assistant": "output", "ai": "output"}.get(message.role, "")
    kinds = {HumanMessage: "input", ToolMessage: "tool", FunctionMessage: "tool", AIMessage: "output"}
    return next((stage for kind, stage in kinds.items() if isinstance(message, kind)), "")


def _failed(texts: Sequence[CheckedText]) -> dict[CheckName, CheckedText]:
    """Map each failed check to the first text that failed it."""
    failed: dict[CheckName, CheckedText] = {}
    for text in texts:
        for name in text.failed:
            failed.setdefault(name, text)
    return failed


def _place(message: BaseMessage) -> str:
    if _stage(message) == "tool":
        return f"the result of the tool {message.name!r}" if message.name else "the result of a tool"
    return "the user's message" if _stage(message) == "input" else "an earlier answer"


def _without_streaming(request: ModelRequest[Any]) -> ModelRequest[Any]:
    # Without the tag, stream_mode="messages" would deliver the answer's tokens before they are checked.
    model = request.model
    if not isinstance(model, BaseChatModel):
        return request
    return request.override(model=model.model_copy(update={"tags": [*(model.tags or []), TAG_NOSTREAM]}))
