"""Sync and async code can't drift apart: async code without `async` and `await` must be the sync code."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

import pytest

from predictionguard_core import client
from predictionguard_core.http import size_limits, timeouts, transport
from predictionguard_core.images import download

# Async names and their sync counterparts. Everything else must have the same name.
NAMES = {
    "_ASYNC_KINDS": "_KINDS",
    "AsyncChatStream": "ChatStream",
    "StopAsyncIteration": "StopIteration",
    "async_run_all": "run_all",
    "__anext__": "__next__",
    "AsyncBackend": "Backend",
    "AsyncClient": "Client",
    "AsyncGenerator": "Generator",
    "AsyncHTTPTransport": "HTTPTransport",
    "AsyncIterator": "Iterator",
    "AsyncPool": "Pool",
    "AsyncTransport": "Transport",
    "QueueEmpty": "Empty",
    "_AsyncStream": "_Stream",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "_async_close": "_close",
    "_async_get": "_get",
    "_async_get_key": "_get_key",
    "_async_resolve": "_resolve",
    "aclose": "close",
    "aclosing": "closing",
    "aiter": "iter",
    "aiter_bytes": "iter_bytes",
    "anext": "next",
    "async_compute_all": "compute_all",
    "async_deadline": "deadline",
    "async_download": "download",
    "async_download_all": "download_all",
    "async_drain": "drain",
    "_async_decompressed": "_decompressed",
    "aiter_raw": "iter_raw",
    "async_iter_body": "iter_body",
    "async_read_body": "read_body",
    "async_send_request": "send_request",
    "async_tls_context": "tls_context",
    "asynccontextmanager": "contextmanager",
    "handle_async_request": "handle_request",
    "new_async_transport": "new_transport",
    "put_nowait": "put",
    "release_async_client": "release_client",
    "shared_async_client": "shared_client",
}
MODULES = {("asyncio", "sleep"): "time"}


def without_docstring(node: Any) -> list[ast.stmt]:
    return node.body[1:] or [ast.Pass()] if ast.get_docstring(node) is not None else node.body


class _ToSync(ast.NodeTransformer):
    """Takes `async` and `await` out of a tree, and gives asynchronous things their synchronous names."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        node.body = without_docstring(node)
        return self._as(ast.FunctionDef, node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> Any:
        return self._as(ast.For, node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> Any:
        return self._as(ast.With, node)

    def _as(self, kind: type[ast.AST], node: ast.AST) -> Any:
        return self.visit(kind(**dict(ast.iter_fields(node))))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.name = NAMES.get(node.name, node.name)
        node.body = without_docstring(node)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        node.name = NAMES.get(node.name, node.name)
        node.body = without_docstring(node)
        return self.generic_visit(node)

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, str):  # the examples of docstrings await, too
            node.value = NAMES.get(node.value, node.value).replace("await ", "")
        return node

    def visit_Name(self, node: ast.Name) -> Any:
        node.id = NAMES.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name):
            node.value.id = MODULES.get((node.value.id, node.attr), node.value.id)
        node.attr = NAMES.get(node.attr, node.attr)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        was = ast.unparse(node.value)
        self.generic_visit(node)
        if was == "AsyncGenerator" and isinstance(node.slice, ast.Tuple):
            node.slice.elts.append(ast.Constant(None))  # a sync generator's type has a return type, too
        return node


def source_of(thing: Any) -> str:
    return textwrap.dedent(inspect.getsource(thing))


def to_sync(source: str) -> str:
    tree = _ToSync().visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(tree))


PAIRS_OF_CODE = [
    (client.ChatStream, client.AsyncChatStream),
    (client.Client, client.AsyncClient),
    (download.download, download.async_download),
    (download._get, download._async_get),
    (size_limits.iter_body, size_limits.async_iter_body),
    (size_limits._decompressed, size_limits._async_decompressed),
    (size_limits.read_body, size_limits.async_read_body),
    (timeouts.drain, timeouts.async_drain),
    (transport.Pool.handle_request, transport.AsyncPool.handle_async_request),
    (transport.Pool.close, transport.AsyncPool.aclose),
    (transport.Pool._give_back, transport.AsyncPool._give_back),
    (transport._Stream, transport._AsyncStream),
    (transport.new_transport, transport.new_async_transport),
]
PAIRS = pytest.mark.parametrize(("sync_code", "async_code"), PAIRS_OF_CODE, ids=lambda each: each.__name__)
# These prove that the comparison notices differences; a function and a class are enough.
SAMPLES = pytest.mark.parametrize(
    ("sync_code", "async_code"),
    [(download.download, download.async_download), (transport._Stream, transport._AsyncStream)],
    ids=lambda each: each.__name__,
)


@PAIRS
def test_async_code_without_await_equals_the_sync_code(sync_code: Any, async_code: Any) -> None:
    assert to_sync(source_of(async_code)) == to_sync(source_of(sync_code))


@PAIRS
def test_sync_code_uses_no_async_name(sync_code: Any, async_code: Any) -> None:
    source = source_of(sync_code)
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert not (names | attributes) & (NAMES.keys() - {"anext"})


@SAMPLES
def test_a_missing_statement_is_noticed(sync_code: Any, async_code: Any) -> None:
    wanted = to_sync(source_of(sync_code))
    source = source_of(async_code)
    count = sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(source)))
    noticed = 0
    for number in range(1, count):  # the first is the class or the function itself
        tree = ast.parse(source)
        left_out = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)][number]
        if isinstance(left_out, ast.Pass) or is_docstring(left_out):
            noticed += 1
            continue
        for parent in ast.walk(tree):
            for _, value in ast.iter_fields(parent):
                if isinstance(value, list) and left_out in value:
                    value[value.index(left_out)] = ast.Pass()
        noticed += to_sync(ast.unparse(tree)) != wanted
    assert noticed == count - 1


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@SAMPLES
def test_a_changed_name_is_noticed(sync_code: Any, async_code: Any) -> None:
    source = source_of(async_code)
    for old in ("step", "timeout", "self.", "response", "chunk"):
        if old in source:
            assert to_sync(source.replace(old, f"other_{old}")) != to_sync(source_of(sync_code)), old


def test_the_public_methods_are_the_same() -> None:
    def public(kind: type) -> set[str]:
        return {NAMES.get(name, name) for name in vars(kind) if not name.startswith("_") or name.startswith("__a")}

    assert public(client.AsyncClient) - {"__enter__", "__exit__"} == public(client.Client)
