from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, Field


def tool(name, description="", required=None, /, **properties):
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
WEATHER = tool(
    "get_weather",
    "Get the current weather at a location.",
    ["location"],
    location=TEXT,
    unit={"type": "string", "enum": ["celsius", "fahrenheit"]},
)
TIME = tool("get_time", "Tell the time of day in a city.", city=TEXT)
ADD = tool("add", "Add two numbers.", a=WHOLE, b=WHOLE)
MULTIPLY = tool("multiply", "Multiply two numbers.", a=WHOLE, b=WHOLE)


@pytest.fixture
def calls(chat):
    """The calls that a question makes, as pairs of name and arguments; none if it is answered in words."""

    def ask(question, *tools, **options):
        message = chat(question, tools=list(tools), **options)
        made = message.get("tool_calls", [])
        assert (message["content"] is None) == bool(made)
        return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in made]

    return ask


def filled(calls, question, required=None, /, **properties):
    """The arguments of a forced call of a tool with these fields."""
    [(_, arguments)] = calls(question, tool("record", "", required, **properties), tool_choice="required")
    return arguments


def test_a_call_has_the_documented_shape(ask):
    body = {"model": "Hermes-3-Llama-3.1-8B", "messages": "What is the weather in Oslo?", "tools": [WEATHER]}
    reply = ask(body).body
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert call["id"].startswith("chatcmpl-tool-")
    assert {**call, "id": ""} == {
        "id": "",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"location": "Oslo"}'},
    }
    assert reply["usage"]["completion_tokens"] > 0
    assert ask({**body, "tools": None}).body["usage"]["prompt_tokens"] < reply["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the weather in San Francisco, CA?", [("get_weather", {"location": "San Francisco, CA"})]),
        ("Show the weather please", [("get_weather", {"location": "<location>"})]),
        ("Is rain in the forecast for New York?", [("get_weather", {"location": "New York"})]),
        ("Weather in Oslo in celsius", [("get_weather", {"location": "Oslo", "unit": "celsius"})]),
        ("What is 12 + 30?", [("add", {"a": 12, "b": 30})]),
        ("What is 3 * 12? Also, what is 11 + 49?", [("multiply", {"a": 3, "b": 12}), ("add", {"a": 11, "b": 49})]),
        ("add two and -7", [("add", {"a": 2, "b": -7})]),
        (
            "weather in Paris and in London",
            [("get_weather", {"location": "Paris"}), ("get_weather", {"location": "London"})],
        ),
        (
            "the weather in Paris, London and Rome in fahrenheit?",
            [("get_weather", {"location": city, "unit": "fahrenheit"}) for city in ("Paris", "London", "Rome")],
        ),
        (
            "What's the weather in Paris and what time is it in Tokyo?",
            [("get_weather", {"location": "Paris"}), ("get_time", {"city": "Tokyo"})],
        ),
        ("What is 6 plus 7, then multiply it by 2?", [("add", {"a": 6, "b": 7})]),
        ("What is 2 times 3?", [("multiply", {"a": 2, "b": 3})]),
        ("Why is the sea salty?", []),
        ("Hello!", []),
    ],
)
def test_questions_make_the_calls_a_reader_would_make(calls, question, expected):
    assert calls(question, WEATHER, TIME, ADD, MULTIPLY) == expected


def test_parallel_calls_can_be_forbidden(calls):
    assert len(calls("weather in Paris and in London", WEATHER, parallel_tool_calls=True)) == 2
    made = calls("weather in Paris and in London", WEATHER, parallel_tool_calls=False)
    assert made == [("get_weather", {"location": "Paris"})]


def test_tool_choice(calls):
    assert calls("weather in Oslo", WEATHER, tool_choice="none") == []
    assert calls("Hello!", WEATHER, ADD, tool_choice="auto") == []
    assert len(calls("Hello!", WEATHER, ADD, tool_choice="required")) == 1
    forced = {"type": "function", "function": {"name": "add"}}
    assert calls("weather in Oslo for 2 and 3", WEATHER, ADD, tool_choice=forced) == [("add", {"a": 2, "b": 3})]


def test_a_tool_that_takes_a_question_gets_those_on_its_subject(calls):
    made = tool("library", "Answers questions about a base of documents.", input=TEXT)
    [(name, arguments)] = calls("Which documents mention llamas?", made)
    assert name == "library"
    assert "llamas" in arguments["input"]
    assert calls("Who won the race?", made) == []


def test_a_tool_without_parameters(calls):
    bare = {"type": "function", "function": {"name": "ring_bell"}}
    assert calls("Weather in Oslo and ring the bell", WEATHER, bare) == [
        ("get_weather", {"location": "Oslo"}),
        ("ring_bell", {}),
    ]
    assert calls("Ring the bell, please", bare) == [("ring_bell", {})]


def test_results_are_answered_in_words_unless_a_call_is_forced(chat):
    question = {"role": "user", "content": "weather in Paris and in London"}
    first = chat([question], tools=[WEATHER])
    turns = [question, first]
    for call, text in zip(first["tool_calls"], ("It's sunny", "It rains"), strict=True):
        turns.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    answer = chat(turns, tools=[WEATHER])
    assert "tool_calls" not in answer
    assert "get_weather returned: It's sunny" in answer["content"]
    assert "get_weather returned: It rains" in answer["content"]
    assert "weather in Paris" in answer["content"]
    assert chat(turns, tools=[WEATHER], tool_choice="required")["tool_calls"]
    turns += [
        {"role": "assistant", "content": "Sun and rain."},
        {"role": "user", "content": "And the weather in Rome?"},
    ]
    assert json.loads(chat(turns, tools=[WEATHER])["tool_calls"][0]["function"]["arguments"]) == {"location": "Rome"}


CROP = tool(
    "look_closer",
    "Crop a photo that was taken.",
    photo_id=TEXT,
    part={"type": "string", "enum": ["left", "middle", "right"]},
)
SHOOT = tool("take_photo", "Take a photo.", camera={"type": "string", "enum": ["garden", "desk", "sofa"]})


@pytest.mark.parametrize(
    ("question", "tools", "steps"),
    [
        (
            "What is 6 plus 7, then multiply it by 2?",
            [ADD, MULTIPLY],
            [("add", {"a": 6, "b": 7}, "13"), ("multiply", {"a": 13, "b": 2}, "26")],
        ),
        (
            "Take a photo with the desk camera, then look closer at the middle of it.",
            [SHOOT, CROP],
            [
                ("take_photo", {"camera": "desk"}, "photo-7, from the desk camera"),
                ("look_closer", {"photo_id": "photo-7", "part": "middle"}, "photo-8, the middle of photo-7"),
            ],
        ),
        (
            "Take a photo with the desk camera and with the sofa camera, then compare them.",
            [SHOOT, CROP],
            [("take_photo", {"camera": "desk"}, "photo-1"), ("take_photo", {"camera": "sofa"}, "photo-2")],
        ),
    ],
)
def test_a_step_that_needs_a_result_waits_for_it(chat, question, tools, steps):
    turns, made = [{"role": "user", "content": question}], []
    for _ in range(len(steps) + 1):
        message = chat(turns, tools=tools)
        turns.append(message)
        if "tool_calls" not in message:
            break
        for call in message["tool_calls"]:
            _, _, result = steps[len(made)]
            made.append((call["function"]["name"], json.loads(call["function"]["arguments"]), result))
            turns.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    assert made == steps
    assert steps[-1][2] in turns[-1]["content"]


def test_a_required_call_uses_the_image_once_it_is_there(ask, uri, encoded):
    report = tool("Report", "A report.", width=WHOLE, main_color=TEXT)
    messages = [{"role": "user", "content": "Take a photo with the desk camera, report"}]
    body = {
        "model": "Qwen2.5-VL-7B-Instruct",
        "messages": messages,
        "tools": [report, SHOOT],
        "tool_choice": "required",
    }
    message = ask(body).body["choices"][0]["message"]
    [call] = message["tool_calls"]
    assert call["function"]["name"] == "take_photo"
    photo = {"type": "image_url", "image_url": {"url": uri(encoded(color="blue"))}}
    messages += [
        message,
        {"role": "tool", "tool_call_id": call["id"], "content": "taken"},
        {"role": "user", "content": [photo]},
    ]
    [call] = ask(body).body["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "Report", "arguments": '{"width": 40, "main_color": "blue"}'}


def test_only_the_last_results_are_quoted(chat):
    def called(number):
        call = {"id": f"c{number}", "type": "function", "function": {"name": f"step{number}", "arguments": "{}"}}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": f"result {number}"},
        ]

    content = chat([{"role": "user", "content": "go"}, *called(1), *called(2)])["content"]
    assert "step2 returned: result 2" in content
    assert "result 1" not in content


def test_an_image_after_a_tool_result_belongs_to_it(ask, uri, encoded):
    call = {"id": "c1", "type": "function", "function": {"name": "take_photo", "arguments": "{}"}}
    photo = {"type": "image_url", "image_url": {"url": uri(encoded(color="blue"))}}
    messages = [
        {"role": "user", "content": "take a photo"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "see the image"},
        {"role": "user", "content": [photo]},
    ]
    body = {"model": "Qwen2.5-VL-7B-Instruct", "messages": messages, "tools": [tool("take_photo", "Take a photo.")]}
    message = ask(body).body["choices"][0]["message"]
    assert "take_photo returned: see the image" in message["content"]
    assert "blue" in message["content"]
    messages[-1]["content"].insert(0, {"type": "text", "text": "From the result of take_photo c1:"})
    message = ask(body).body["choices"][0]["message"]
    assert 'You wrote: "take a photo".' in message["content"]


def test_a_model_without_tools_refuses_them(ask):
    reply = ask({"model": "neural-chat-7b-v3-3", "messages": "x", "tools": [ADD]})
    assert reply.status == 400
    assert "tool calling" in reply.body["error"]


@pytest.mark.parametrize(
    ("question", "fields", "expected"),
    [
        (
            "Create a customer named '你好啊集团' (Hello Group)",
            {"customer_name": TEXT},
            {"customer_name": "你好啊集团"},
        ),
        (
            'Anna Smith is 31 years old and likes chess, hiking and "board games"',
            {"name": TEXT, "age": WHOLE, "hobbies": {"type": "array", "items": TEXT}},
            {"name": "board games", "age": 31, "hobbies": ["<hobbies>"]},
        ),
        (
            "Book a flight from Berlin to New York on 2024-05-01 for 2 passengers",
            {"origin": TEXT, "destination": TEXT, "date": {**TEXT, "format": "date"}, "passengers": WHOLE},
            {"origin": "Berlin", "destination": "New York", "date": "2024-05-01", "passengers": 2},
        ),
        (
            'Send "Lunch at noon" to bob@example.com',
            {"to": {**TEXT, "format": "email"}, "message": TEXT},
            {"to": "bob@example.com", "message": "Lunch at noon"},
        ),
        ("Compute (3 + 4) * 2 please", {"expression": TEXT}, {"expression": "(3 + 4) * 2"}),
        ("Translate: the cat sat", {"text": TEXT}, {"text": "the cat sat"}),
        ("Where is order A-1234?", {"order_id": TEXT}, {"order_id": "A-1234"}),
        ("The price is 19.99 and 1,250 were sold", {"price": NUMBER, "sold": WHOLE}, {"price": 19.99, "sold": 1250}),
        ("open https://example.org/a?b=1.", {"url": TEXT}, {"url": "https://example.org/a?b=1"}),
        ("sum of 1, 2 and 3", {"values": {"type": "array", "items": WHOLE}}, {"values": [1, 2, 3]}),
        (
            "Add John Doe from Berlin",
            {
                "first_name": TEXT,
                "last_name": TEXT,
                "address": {"type": "object", "properties": {"city": TEXT, "country": TEXT}},
            },
            {
                "first_name": "<first_name>",
                "last_name": "<last_name>",
                "address": {"city": "Berlin"},
            },
        ),
        ("What does the receipt say?", {"shop": TEXT, "total": NUMBER}, {"shop": "<shop>", "total": 0}),
        ("Read /data/in/report 1.pdf", {"path": TEXT}, {"path": "1.pdf"}),
        ("Read './in/report 1.pdf', please", {"text": TEXT}, {"text": "./in/report 1.pdf"}),
        ("Crop ~/photos/img_20.final.jpeg now", {"image": TEXT}, {"image": "~/photos/img_20.final.jpeg"}),
        (r"Crop C:\photos\cat.png", {"source": TEXT}, {"source": r"C:\photos\cat.png"}),
        ("Read 'notes for Bob.txt' now", {"path": TEXT}, {"path": "notes for Bob.txt"}),
        (
            "Mail bob@example.com that 'lunch is ready'",
            {"to": TEXT, "body": TEXT, "subject": TEXT},
            {"to": "bob@example.com", "body": "lunch is ready", "subject": "<subject>"},
        ),
        (
            "From Zürich to São Paulo",
            {"origin": TEXT, "destination": TEXT},
            {"origin": "Zürich", "destination": "São Paulo"},
        ),
        ("The receipt of 3 May 2024", {"shop": TEXT, "total": NUMBER}, {"shop": "<shop>", "total": 0}),
        ("Fetch the photo named coffee", {"name": TEXT}, {"name": "coffee"}),
        (
            "make 2 cards",
            {
                "cards": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"ok": {"const": 1}}, "required": ["ok"]},
                }
            },
            {"cards": [{"ok": 1}]},
        ),
    ],
)
def test_arguments_are_taken_from_the_question_or_are_placeholders(calls, question, fields, expected):
    assert filled(calls, question, **fields) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "maximum": -5}, -5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "number", "minimum": 1.5}, 1.5),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "integer", "default": 42}, 42),
        ({"type": "string", "default": "d"}, "d"),
        ({"type": "boolean"}, False),
        ({"type": "boolean", "default": True}, True),
        ({"type": "null"}, None),
        ({"const": {"a": 1}}, {"a": 1}),
        ({"enum": [3, "x"]}, 3),
        ({"enum": ["a", "b"], "default": "b"}, "b"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [0, 0, 0]),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}]}, [1, 2]),
        ({"type": "object", "properties": {"x": {"const": 1}, "y": {"type": "integer"}}, "required": ["x"]}, {"x": 1}),
        ({"type": "object"}, {}),
        ({"$ref": "#/$defs/Known"}, "known"),
        ({"anyOf": [{"type": "null"}, {"const": 5}]}, 5),
        ({"oneOf": [{"const": 5}, {"type": "string"}]}, 5),
        ({"allOf": [{"type": "integer"}, {"minimum": 9}]}, 9),
        ({"type": ["null", "integer"], "minimum": 4}, None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": "d"}, "d"),
        ({"type": "string", "format": "date"}, "1970-01-01"),
        ({"type": "string", "format": "email"}, "placeholder@example.com"),
        ({"type": "string", "maxLength": 3}, "<fi"),
    ],
)
def test_placeholders_fit_the_schema(calls, schema, expected):
    made = tool("record", field=schema)
    made["function"]["parameters"]["$defs"] = {"Known": {"const": "known"}}
    [(_, arguments)] = calls("Hello!", made, tool_choice="required")
    assert arguments == {"field": expected}


def test_optional_fields_are_left_out_unless_the_question_means_them(calls):
    fields = {
        "city": TEXT,
        "unit": {"enum": ["metric", "imperial"]},
        "days": {"type": "integer", "default": 1},
        "alerts": {"type": "boolean"},
    }
    assert filled(calls, "For Oslo, please", ["city"], **fields) == {"city": "Oslo"}
    question = "for Oslo, 3 days, metric"
    assert filled(calls, question, ["city"], **fields) == {"city": "Oslo", "unit": "metric", "days": 3}


def test_a_field_that_is_left_out_keeps_no_value_from_the_others(calls):
    line = {"type": "object", "properties": {"amount": NUMBER, "article": TEXT}, "required": ["amount", "article"]}
    fields = {"lines": {"type": "array", "items": line}, "total": NUMBER, "shop": TEXT}
    assert filled(calls, "The total is 19.10 at 'Paper Lantern'", [], **fields) == {"total": 19.1}


def test_a_named_tool_ends_with_stop_where_vllm_is_imitated(ask):
    forced = {"type": "function", "function": {"name": "add"}}
    body = {"model": "Hermes-3-Llama-3.1-8B", "messages": "2 and 3", "tools": [ADD], "tool_choice": forced}
    assert ask(body).body["choices"][0]["finish_reason"] == "tool_calls"
    assert ask(body, strictness="vllm").body["choices"][0]["finish_reason"] == "stop"
    required = ask({**body, "tool_choice": "required"}, strictness="vllm").body
    assert required["choices"][0]["finish_reason"] == "tool_calls"


def test_without_strict_the_first_call_misses_a_field_where_vllm_is_imitated(ask):
    strict = {"type": "function", "function": {**ADD["function"], "strict": True}}

    def arguments(tool, messages):
        body = {"model": "Hermes-3-Llama-3.1-8B", "messages": messages, "tools": [tool], "tool_choice": "required"}
        message = ask(body, strictness="vllm").body["choices"][0]["message"]
        return message, json.loads(message["tool_calls"][0]["function"]["arguments"])

    question = {"role": "user", "content": "add 2 and 3"}
    message, lax = arguments(ADD, [question])
    assert lax == {"a": 2}
    assert arguments(strict, [question])[1] == {"a": 2, "b": 3}
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "b is missing"}
    assert arguments(ADD, [question, message, result])[1] == {"a": 2, "b": 3}


def test_the_token_limit_cuts_calls_as_vllm_does(ask, events):
    body = {"model": "Hermes-3-Llama-3.1-8B", "messages": "weather in Oslo", "tools": [WEATHER]}
    whole = ask(body).body["usage"]["completion_tokens"]
    assert ask({**body, "max_completion_tokens": whole}).body["choices"][0]["finish_reason"] == "tool_calls"
    cut = ask({**body, "max_completion_tokens": whole - 1}).body
    choice = cut["choices"][0]
    assert (choice["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", whole - 1)
    assert choice["message"]["content"].startswith("<tool_call>")
    assert "tool_calls" not in choice["message"]
    chunks = events(ask({**body, "max_completion_tokens": whole - 1, "stream": True}).events)
    fragments = [part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [part["function"] for part in fragments] == [{"name": "get_weather", "arguments": "{}"}]
    assert not any(chunk["choices"][0]["delta"].get("content") for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_recursive_schemas_terminate(calls):
    node = {
        "type": "object",
        "properties": {name: {"$ref": "#"} for name in "abcdefgh"},
        "required": list("abcdefgh"),
    }
    made = {"type": "function", "function": {"name": "grow", "parameters": node}}
    [(name, _)] = calls("grow", made, tool_choice="required")
    assert name == "grow"
    loop = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
    made = {"type": "function", "function": {"name": "grow", "parameters": loop}}
    assert calls("grow", made, tool_choice="required") == [("grow", {})]


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": 5},
        {"properties": []},
        {"properties": {"a": None}, "required": ["a"]},
        {"properties": {"a": []}, "required": "a"},
        {"properties": {"a": {"type": "integer", "minimum": "x", "multipleOf": 0}}, "required": ["a", 3, "b"]},
        {"properties": {"a": {"type": "array", "items": 7, "minItems": -1, "maxItems": "x"}}, "required": ["a"]},
        {"properties": {"a": {"enum": []}, "b": {"anyOf": []}, "c": {"$ref": 5}}, "required": ["a", "b", "c"]},
        {"properties": {"a": {"type": "string", "pattern": "(a+)+$", "minLength": 10**9}}, "required": ["a"]},
        {"properties": {"a": {"type": "integer", "minimum": 1e308, "multipleOf": 1e-300}}, "required": ["a"]},
        {"$ref": "#/nowhere/at/all"},
    ],
)
def test_bad_schemas_still_give_json_arguments(calls, parameters):
    made = {"type": "function", "function": {"name": "odd", "parameters": parameters}}
    [(name, arguments)] = calls("a" * 100, made, tool_choice="required")
    assert name == "odd"
    assert isinstance(arguments, dict)


def test_a_large_schema_and_a_long_question_are_answered(calls):
    fields = {f"field_{number}": {"type": ("string", "integer")[number % 2]} for number in range(2000)}
    question = "take 5 and 'six' " * 1000
    [(_, arguments)] = calls(question, tool("record", **fields), tool_choice="required", model="gpt-oss-120b")
    assert len(arguments) == 2000


def test_long_hostile_questions_are_answered(calls):
    for text in (
        "a" * 100_000,
        "1" * 100_000,
        '"' * 100_000,
        "'a" * 40_000,
        "in " * 100_000,
        "A, " * 40_000,
        "@." * 40_000,
    ):
        assert calls(text, WEATHER, ADD, tool_choice="required", model="gpt-oss-120b")


class Folder(BaseModel):
    """Recursive through a required list, an optional field, and a union with another model."""

    name: str
    folders: list[Folder]
    parent: Folder | None
    first: Folder | File
    next: Folder | None = None
    several: list[Folder | File] = Field(min_length=1)


class File(BaseModel):
    name: str
    folder: Folder | None
    size: int


class Expression(BaseModel):
    left: Expression | int
    right: Expression | int
    operator: str


@pytest.mark.parametrize("model", [Folder, File, Expression])
@pytest.mark.parametrize("tool_choice", ["required", "auto"])
def test_the_arguments_for_a_recursive_schema_are_valid(calls, model, tool_choice):
    function = {"name": "record", "description": "Record a tree.", "parameters": model.model_json_schema()}
    [(_, arguments)] = calls("Record a tree", {"type": "function", "function": function}, tool_choice=tool_choice)
    model.model_validate(arguments, strict=True)


def test_the_arguments_for_a_schema_that_refers_to_itself_are_valid(calls):
    node = {"$ref": "#"}
    tree = tool("record", "", ["label", "left", "children"], label=TEXT, children={"type": "array", "items": node})
    tree["function"]["parameters"]["properties"]["left"] = {"oneOf": [{"type": "null"}, node]}
    [(_, arguments)] = calls('Record "root"', tree, tool_choice="required")
    assert arguments == {"label": "root", "left": None, "children": []}
