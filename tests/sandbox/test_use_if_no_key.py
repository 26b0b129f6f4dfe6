"""`use_if_no_key` starts a sandbox where no API key is set, and never keeps a real key from the real service."""

import os
import subprocess
import sys

import pytest

from predictionguard_core import AuthenticationError, ChatRequest, Client
from predictionguard_core.sandbox import Sandbox, use_if_no_key

REQUEST = ChatRequest(model="Hermes-3-Llama-3.1-8B", messages="hello")
NAMES = ("PREDICTIONGUARD_API_KEY", "PREDICTIONGUARD_URL", "NO_PROXY")


@pytest.fixture(autouse=True)
def _stopped(monkeypatch):
    """End each test without a sandbox and without its variables."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ["PREDICTIONGUARD_API_KEY"] = "any key stops the sandbox"
    use_if_no_key()
    for name in NAMES:
        os.environ.pop(name, None)


def chat():
    with Client(max_retries=0) as client:
        return client.chat(REQUEST).choices[0].message.content


def test_without_a_key_models_made_without_arguments_go_to_the_sandbox(capsys, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    box = use_if_no_key()
    assert isinstance(box, Sandbox)
    assert "hello" in chat()
    assert len(box.requests) == 1
    assert capsys.readouterr().out == (
        f"PREDICTIONGUARD_API_KEY is not set: calls go to a local sandbox at {box.url}. No AI model is asked.\n"
    )


def test_a_second_call_uses_the_same_sandbox(capsys):
    box = use_if_no_key()
    assert use_if_no_key() is box
    assert capsys.readouterr().out.count(box.url) == 2


def test_with_a_key_nothing_is_started(capsys, monkeypatch):
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "mine")
    assert use_if_no_key() is None
    assert capsys.readouterr().out == ("PREDICTIONGUARD_API_KEY is set: calls go to https://api.predictionguard.com.\n")
    monkeypatch.setenv("PREDICTIONGUARD_URL", "https://self-hosted.example.com/v1")
    assert use_if_no_key() is None
    assert "https://self-hosted.example.com/v1" in capsys.readouterr().out
    assert os.environ["PREDICTIONGUARD_API_KEY"] == "mine"


def test_a_key_set_later_is_refused_with_the_remedy_until_the_next_call(monkeypatch):
    monkeypatch.setenv("PREDICTIONGUARD_URL", "https://self-hosted.example.com")
    box = use_if_no_key()
    os.environ["PREDICTIONGUARD_API_KEY"] = "mine"
    remedy = r"local sandbox.*use_if_no_key\(\) again or unset PREDICTIONGUARD_URL"
    with pytest.raises(AuthenticationError, match=remedy):
        chat()
    assert use_if_no_key() is None
    assert os.environ["PREDICTIONGUARD_URL"] == "https://self-hosted.example.com"
    assert "NO_PROXY" not in os.environ
    with pytest.raises(RuntimeError, match="not running"):
        _ = box.url


def test_a_key_given_as_an_argument_is_refused_too():
    use_if_no_key()
    with Client(api_key="mine", max_retries=0) as client, pytest.raises(AuthenticationError, match="local sandbox"):
        client.chat(REQUEST)


def test_a_url_set_later_is_kept():
    use_if_no_key()
    os.environ.update(PREDICTIONGUARD_API_KEY="mine", PREDICTIONGUARD_URL="https://other.example.com")
    assert use_if_no_key() is None
    assert os.environ["PREDICTIONGUARD_URL"] == "https://other.example.com"


def test_a_url_inherited_from_another_process_with_a_sandbox_is_not_restored():
    os.environ.update(PREDICTIONGUARD_API_KEY="key-of-the-sandbox", PREDICTIONGUARD_URL="http://127.0.0.1:9")
    assert use_if_no_key() is not None
    assert "hello" in chat()
    os.environ["PREDICTIONGUARD_API_KEY"] = "mine"
    assert use_if_no_key() is None
    assert "PREDICTIONGUARD_URL" not in os.environ


def test_a_key_removed_later_brings_the_sandbox_back():
    use_if_no_key()
    os.environ["PREDICTIONGUARD_API_KEY"] = "mine"
    use_if_no_key()
    del os.environ["PREDICTIONGUARD_API_KEY"]
    assert use_if_no_key() is not None
    assert "hello" in chat()


def test_the_sandbox_ends_with_the_process_and_a_child_may_call_it_too():
    code = """if True:
        import os
        from predictionguard_core.sandbox import use_if_no_key
        use_if_no_key()
        child = os.fork()
        if child == 0:
            use_if_no_key()
            os.environ["PREDICTIONGUARD_API_KEY"] = "mine"
            assert use_if_no_key() is None
            assert "PREDICTIONGUARD_URL" not in os.environ
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREDICTIONGUARD_")}
    # From Python 3.12 on, a fork beside threads, such as the sandbox's, is warned of.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
