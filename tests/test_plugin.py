"""The pytest plugin in a project of its own: registered, cheap to load, and gone after its test."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.faults.server import unused_port


def run(folder: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project with one test file, with this plugin only: loading those of others takes seconds."""
    (folder / "test_it.py").write_text(textwrap.dedent(source), encoding="utf-8")
    ours = ("PREDICTIONGUARD_", "PYTEST_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = {
        **clean,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "pytest_predictionguard",
        **environment,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, check=False, timeout=300
    )


def test_gives_a_sandbox_and_sets_the_environment(tmp_path: Path) -> None:
    source = """
        import os

        from predictionguard_core import ChatRequest, Client
        from predictionguard_core.sandbox import Sandbox, use_if_no_key

        HELLO = ChatRequest(model="Hermes-3-Llama-3.1-8B", messages="hello")
        BEFORE = dict(os.environ)
        boxes = []

        def test_one(predictionguard_sandbox):
            assert isinstance(predictionguard_sandbox, Sandbox)
            predictionguard_sandbox.fail(503)
            with Client() as client:
                assert client.base_url == predictionguard_sandbox.url == os.environ["PREDICTIONGUARD_URL"]
                client.chat(HELLO)
            assert len(predictionguard_sandbox.requests) == 2
            assert use_if_no_key() is None  # it is one already
            boxes.append(predictionguard_sandbox)

        def test_another_has_a_sandbox_of_its_own(predictionguard_sandbox):
            with Client() as client:
                client.chat(HELLO)
            assert len(predictionguard_sandbox.requests) == 1
            assert predictionguard_sandbox is not boxes[0]

        def test_afterwards_all_is_as_before():
            assert {**os.environ, "PYTEST_CURRENT_TEST": ""} == {**BEFORE, "PYTEST_CURRENT_TEST": ""}
    """
    proxy = f"http://127.0.0.1:{unused_port()}"
    done = run(tmp_path, source, PREDICTIONGUARD_API_KEY="own", HTTP_PROXY=proxy, NO_PROXY="example.com")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_a_fault_that_nothing_meets_fails_the_test(tmp_path: Path) -> None:
    source = """
        def test_one(predictionguard_sandbox):
            predictionguard_sandbox.cut_stream(3)

        def test_another(predictionguard_sandbox):
            predictionguard_sandbox.cut_stream(3).cancel()
            predictionguard_sandbox.fail(model="any", times=None)
    """
    done = run(tmp_path, source)
    assert done.returncode == 1, done.stdout
    assert "scripted, but no request met it: <Fault cut_stream: met 0, 1 left>" in done.stdout
    assert "2 passed, 1 error" in done.stdout


def test_is_registered_with_pytest_and_documented() -> None:
    (entry_point,) = importlib.metadata.entry_points(group="pytest11", name="predictionguard")
    plugin = entry_point.load()
    assert "A running mock of Prediction Guard's API" in plugin.predictionguard_sandbox.__doc__


def test_imports_nothing_until_it_is_used(tmp_path: Path) -> None:
    source = """
        import sys

        def test():
            assert "pytest_predictionguard" in sys.modules
            packages = {name.partition(".")[0] for name in sys.modules}
            heavy = {"predictionguard_core", "langchain_predictionguard", "httpx", "pydantic", "PIL"}
            assert not packages & heavy, packages & heavy
    """
    done = run(tmp_path, source)
    assert done.returncode == 0, done.stdout
