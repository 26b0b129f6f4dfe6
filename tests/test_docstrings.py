"""What `help()` and an editor show: every public name says what it does, in a form that renders."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
from collections.abc import Iterator
from typing import Any

import pytest

MODULES = (
    "predictionguard_core",
    "predictionguard_core.sandbox",
    "langchain_predictionguard",
    "llama_index_predictionguard",
    "pytest_predictionguard",
)
OURS = ("predictionguard_core", "langchain_predictionguard", "llama_index_predictionguard")
ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): \S")
# Sections as Google's style has them, which editors and documentation tools read.
SECTIONS = ("Args", "Attributes", "Example", "Raises", "Returns")
# The tasks of the classes, as LangChain and LlamaIndex name them in their docstrings.
TASKS = ("Setup", "Instantiate", "Invoke", "Complete", "Stream", "Async", "Batch", "Embed", "Rerank", "Checks")


def public() -> Iterator[tuple[str, Any]]:
    """Every name that a package lists, and every public method that is ours, once."""
    seen: set[int] = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", ["predictionguard_sandbox"]):
            found = getattr(module, name)
            if isinstance(found, str) or id(found) in seen:
                continue
            seen.add(id(found))
            yield f"{module_name}.{name}", found
            if inspect.isclass(found):
                yield from methods(f"{module_name}.{name}", found)


def methods(name: str, kind: type) -> Iterator[tuple[str, Any]]:
    for each in kind.__mro__:
        if each.__module__.partition(".")[0] not in OURS:
            continue
        for member_name, member in list(vars(each).items()):
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            is_public = not member_name.startswith(("_", "model_"))  # pydantic's own hooks begin so
            if is_public and inspect.isfunction(function):
                yield f"{name}.{member_name}", function


PUBLIC = dict(public())


def test_there_are_names() -> None:
    assert len(PUBLIC) > 100


@pytest.mark.parametrize("name", PUBLIC)
def test_says_what_it_does(name: str) -> None:
    text = vars(PUBLIC[name]).get("__doc__") if inspect.isclass(PUBLIC[name]) else PUBLIC[name].__doc__
    assert text, "no docstring of its own"
    text = inspect.cleandoc(text)
    first, _, rest = text.partition("\n")
    assert first[0].isupper() or first[0] in "`\"'45"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    assert not rest or text.count("```") % 2 == 0
    assert text.count("`") % 2 == 0, "a backtick is left open"


@pytest.mark.parametrize("name", [name for name, each in PUBLIC.items() if "Args:" in (each.__doc__ or "")])
def test_arguments_are_well_formed_and_exist(name: str) -> None:
    documented = []
    for line in section(PUBLIC[name].__doc__, "Args"):
        if not line.startswith(" "):
            entry = ENTRY.match(line)
            assert entry, line
            documented += [each.lstrip("*") for each in entry[1].split(", ")]
    assert documented
    assert len(documented) == len(set(documented))
    taken = set(inspect.signature(PUBLIC[name]).parameters)
    assert set(documented) <= taken, set(documented) - taken


@pytest.mark.parametrize(
    ("name", "of_the_framework"),
    [
        (
            "langchain_predictionguard.ChatPredictionGuard",
            "name cache verbose callbacks tags metadata custom_get_token_ids rate_limiter disable_streaming "
            "output_version profile",
        ),
        (
            "llama_index_predictionguard.PredictionGuard",
            "api_base callback_manager rate_limiter system_prompt messages_to_prompt completion_to_prompt "
            "output_parser pydantic_program_mode query_wrapper_prompt",
        ),
        ("predictionguard_core.ImagePolicy", ""),
    ],
)
def test_every_argument_is_explained(name: str, of_the_framework: str) -> None:
    entries = [match[1] for line in section(PUBLIC[name].__doc__, "Args") if (match := ENTRY.match(line))]
    documented = {each.lstrip("*") for entry in entries for each in entry.split(", ")}
    assert set(inspect.signature(PUBLIC[name]).parameters) - set(of_the_framework.split()) == documented


@pytest.mark.parametrize("name", [name for name, each in PUBLIC.items() if inspect.isclass(each)])
def test_help_renders(name: str) -> None:
    shown = pydoc.render_doc(PUBLIC[name], renderer=pydoc.plaintext)
    assert inspect.cleandoc(PUBLIC[name].__doc__).partition("\n")[0] in shown


def test_sections_have_names_that_tools_know() -> None:
    for name, each in PUBLIC.items():
        for head in re.findall(r"^(\w+):$", inspect.cleandoc(each.__doc__ or ""), re.MULTILINE):
            assert head in (*SECTIONS, *TASKS), f"{name}: {head}"


def section(docstring: str, name: str) -> list[str]:
    """The lines of a section, without its indentation."""
    lines = inspect.cleandoc(docstring).splitlines()
    start = lines.index(f"{name}:") + 1
    found = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        if line:
            found.append(line.removeprefix("    "))
    return found
