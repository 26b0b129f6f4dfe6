"""`use_if_no_key`: let a program or a notebook without an API key run against a sandbox."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from predictionguard_core.sandbox.sandbox import Sandbox

KEY = "key-of-the-sandbox"  # no word that a text may hold: the clients remove the API key from error texts
"""The API key of the sandbox that `use_if_no_key` starts."""
SERVICE_URL = "https://api.predictionguard.com"
WRONG_KEY = (
    "this is the local sandbox, not Prediction Guard, and it takes no API key but its own. To use your key with the "
    "real service, call predictionguard_core.sandbox.use_if_no_key() again or unset PREDICTIONGUARD_URL"
)

_KEY_NAME, _URL_NAME = "PREDICTIONGUARD_API_KEY", "PREDICTIONGUARD_URL"
_NO_PROXY_NAMES = ("NO_PROXY", "no_proxy")

_lock = threading.Lock()
_sandbox: Sandbox | None = None
_environment_before: dict[str, str | None] = {}
_process: int | None = None


def use_if_no_key() -> Sandbox | None:
    """Start a sandbox if no API key is set, and print where calls go.

    Without PREDICTIONGUARD_API_KEY, one sandbox is started for the process. PREDICTIONGUARD_API_KEY and
    PREDICTIONGUARD_URL lead there, for every model that is made without a key and URL of its own. The sandbox stops
    when the process ends. With a key of the user's, nothing is started.

    Call it again after the key was set or removed: it starts or stops the sandbox and restores PREDICTIONGUARD_URL. A
    sandbox started here answers 401 to every other key.

    Returns:
        The sandbox, or None if calls go to the real service.
    """
    with _lock:
        key = os.environ.get(_KEY_NAME, "").strip()
        if key not in ("", KEY):
            _stop()
            url = os.environ.get(_URL_NAME, "").strip() or SERVICE_URL
            _print(f"{_KEY_NAME} is set: calls go to {url}.")
            return None
        box = _sandbox or _start()
        os.environ[_KEY_NAME], os.environ[_URL_NAME] = KEY, box.url
        _print(f"{_KEY_NAME} is not set: calls go to a local sandbox at {box.url}. No AI model is asked.")
        return box


def _start() -> Sandbox:
    global _sandbox, _process
    box = Sandbox(api_key=KEY, wrong_key=WRONG_KEY).start()
    if _process is None:
        atexit.register(_stop)
    _sandbox, _process = box, os.getpid()
    _environment_before.update({name: os.environ.get(name) for name in (_URL_NAME, *_NO_PROXY_NAMES)})
    if os.environ.get(_KEY_NAME) == KEY:
        _environment_before[_URL_NAME] = None  # inherited from the process that started us: another sandbox's URL
    for name in _NO_PROXY_NAMES:
        hosts = os.environ.get(name, "")
        if hosts != "*":
            os.environ[name] = f"{hosts},127.0.0.1".lstrip(",")
    return box


def _stop() -> None:
    """Stop the sandbox and restore the environment, except for what the user has changed since."""
    global _sandbox
    box, _sandbox = _sandbox, None
    if box is None:
        return
    if os.environ.get(_KEY_NAME) == KEY:
        del os.environ[_KEY_NAME]
    if os.environ.get(_URL_NAME) != box.url:
        _environment_before.pop(_URL_NAME)
    for name, value in _environment_before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _environment_before.clear()
    # The server's thread runs in the process that started it: in a forked child, stopping it would wait for ever.
    if os.getpid() == _process:
        box.stop()


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
