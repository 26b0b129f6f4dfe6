"""Every public name has a docstring that `help()`, editors and documentation tools can render."""

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
# Section names of Google's docstring style.
SECTIONS = ("Args", "Attributes", "Example", "Raises", "Returns")
# Headings of the examples in a class docstring, as in LangChain and LlamaIndex.
TASKS = ("Setup", "Instantiate", "Invoke", "Complete", "Stream", "Async", "Batch", "Embed", "Rerank", "Checks")


def public_names() -> Iterator[tuple[str, Any]]:
    """Yield every name in `__all__` and every public method of our own classes, once."""
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
            is_public = not member_name.startswith(("_", "model_"))  # pydantic's hooks begin with model_
            is_ours = inspect.isfunction(function) and function.__module__.partition(".")[0] in OURS
            if is_public and is_ours:
                yield f"{name}.{member_name}", function


PUBLIC = dict(public_names())


def test_public_names_are_found() -> None:
    assert len(PUBLIC) > 100


def test_docstrings_are_complete_and_well_formed() -> None:
    for name, each in PUBLIC.items():
        text = vars(each).get("__doc__") if inspect.isclass(each) else each.__doc__
        assert text, f"{name} has no docstring of its own"
        text = inspect.cleandoc(text)
        first, _, rest = text.partition("\n")
        assert first[0].isupper() or first[0] in "`\"'45", f"{name}: {first}"
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), name
        assert not rest or text.count("```") % 2 == 0, f"{name}: a code block is not closed"
        assert text.count("`") % 2 == 0, f"{name}: a backtick is not closed"


def test_documented_arguments_exist() -> None:
    names = [name for name, each in PUBLIC.items() if "Args:" in (each.__doc__ or "")]
    assert names
    for name in names:
        documented = []
        for line in section(PUBLIC[name].__doc__, "Args"):
            if not line.startswith(" "):
                entry = ENTRY.match(line)
                assert entry, f"{name}: {line}"
                documented += [each.lstrip("*") for each in entry[1].split(", ")]
        assert documented, f"{name}: Args is empty"
        assert len(documented) == len(set(documented)), f"{name}: an argument is documented twice"
        unknown = set(documented) - set(inspect.signature(PUBLIC[name]).parameters)
        assert not unknown, f"{name} has no argument {unknown}"


@pytest.mark.parametrize(
    ("name", "framework_arguments"),
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
def test_every_argument_is_documented(name: str, framework_arguments: str) -> None:
    entries = [match[1] for line in section(PUBLIC[name].__doc__, "Args") if (match := ENTRY.match(line))]
    documented = {each.lstrip("*") for entry in entries for each in entry.split(", ")}
    assert set(inspect.signature(PUBLIC[name]).parameters) - set(framework_arguments.split()) == documented


def test_help_shows_the_docstring() -> None:
    for name, each in PUBLIC.items():
        if inspect.isclass(each):
            text = pydoc.render_doc(each, renderer=pydoc.plaintext)
            assert inspect.cleandoc(each.__doc__ or "").partition("\n")[0] in text, name


def test_section_names_are_known() -> None:
    for name, each in PUBLIC.items():
        for head in re.findall(r"^(\w+):$", inspect.cleandoc(each.__doc__ or ""), re.MULTILINE):
            assert head in (*SECTIONS, *TASKS), f"{name}: {head}"


def section(docstring: str, name: str) -> list[str]:
    """Return the lines of a docstring section without their indentation."""
    lines = inspect.cleandoc(docstring).splitlines()
    start = lines.index(f"{name}:") + 1
    found = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        if line:
            found.append(line.removeprefix("    "))
    return found
