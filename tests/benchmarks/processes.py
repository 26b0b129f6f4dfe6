"""The processes of a run: the server's, and one a contestant. They end with the process that started them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.benchmarks.rows import Row

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 30
"""Seconds that a process gets to end by itself."""


class Process:
    """A process that takes commands as lines of JSON, and ends when this one does."""

    def __init__(self, module: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.name = arguments[0] if arguments else module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env,
        )

    def tell(self, do: str, **what: Any) -> Any:
        """Send a command and wait for its answer. Raises `RuntimeError` if the process ended instead."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self._process.wait()}: see above")
        return json.loads(line)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclasses.dataclass(frozen=True)
class Ground:
    """The server's URLs, and the environment of the contestants."""

    plain: str
    tls: str | None
    env: dict[str, str]

    def url(self, row: Row) -> str:
        base = self.tls if row.tls else self.plain
        if base is None:
            raise RuntimeError("TLS needs a certificate, and so the package trustme")
        return f"{base}/{row.route}"

    def worker(self, name: str) -> Process:
        return Process("tests.benchmarks.worker", name, env=self.env)


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """Start a server, and make an environment without proxies and keys that trusts its certificate."""
    env = {name: value for name, value in os.environ.items() if not _decides(name)}
    with tempfile.TemporaryDirectory() as folder:
        certificate = _certificate(Path(folder), env)
        with Process("tests.benchmarks.server", *([certificate] if certificate else []), env=env) as server:
            plain, *tls = server.answer()
            yield Ground(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls[0]}" if tls else None, env)


def _decides(name: str) -> bool:
    beginnings = ("PREDICTIONGUARD_", "OPENAI_", "MISTRAL_", "LANGCHAIN_", "LANGSMITH_", "LLAMA_")
    return name.startswith(beginnings) or name.lower().endswith("_proxy")


def _certificate(folder: Path, env: dict[str, str]) -> str | None:
    try:
        import certifi
        import trustme
    except ImportError:
        return None
    authority = trustme.CA()
    own = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    # With all the usual roots: reading them is part of the cost of a client.
    bundle = folder / "roots.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
    env["SSL_CERT_FILE"] = str(bundle)
    return str(own)
