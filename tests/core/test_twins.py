"""The twins can't drift: what is asynchronous, with the colour taken out, has to be what is synchronous."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

from predictionguard_core import client
from predictionguard_core.http import calls, size_limits, transport
from predictionguard_core.images import download

# What one colour calls otherwise than the other. Everything else must have the same name.
NAMES = {
    "AsyncClient": "Client",
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "aclosing": "closing",
    "asynccontextmanager": "contextmanager",
    "aclose": "close",
    "aiter": "iter",
    "handle_async_request": "handle_request",
    "__aiter__": "__iter__",
    "AsyncBackend": "Backend",
    "AsyncBaseTransport": "BaseTransport",
    "AsyncByteStream": "SyncByteStream",
    "AsyncHTTPConnection": "HTTPConnection",
    "AsyncIterable": "Iterable",
    "AsyncAnswered": "Answered",
    "AsyncReply": "Reply",
    "AsyncTransport": "Transport",
    "_AsyncStream": "_Stream",
    "_async_shut": "_shut",
    "async_slots": "slots",
    "async_take": "take",
    "aiter_bytes": "iter_bytes",
    "aiter_raw": "iter_raw",
    "anext": "next",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "_async_client": "_client",
    "_async_get": "_get",
    "_async_resolve": "_resolve",
    "_async_mapped_download": "_mapped_download",
    "async_download": "download",
    "async_pieces": "pieces",
    "async_whole": "whole",
    "async_drain": "drain",
    "async_limit": "limit",
    "async_load": "load",
    "async_tls_context": "tls_context",
    "async_until_finished": "until_finished",
    "async_opened": "opened",
    "async_work_all": "work_all",
    "async_fetch_all": "fetch_all",
    "shared_async_client": "shared_client",
    "release_async_client": "release_client",
}
MODULES = {("asyncio", "sleep"): "time"}


class Uncoloured(ast.NodeTransformer):
    """Takes `async` and `await` out of a tree, and gives asynchronous things their synchronous names."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self._as(ast.FunctionDef, node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> Any:
        return self._as(ast.For, node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> Any:
        return self._as(ast.With, node)

    def _as(self, kind: type[ast.AST], node: ast.AST) -> Any:
        return self.visit(kind(**dict(ast.iter_fields(node))))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.name = NAMES.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        node.name = NAMES.get(node.name, node.name)
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        return self.generic_visit(node)

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> Any:
        node.value = NAMES.get(node.value, node.value) if isinstance(node.value, str) else node.value
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
            node.slice.elts.append(ast.Constant(None))  # a generator of this colour names what it returns, too
        return node


def uncoloured(source: str) -> str:
    tree = Uncoloured().visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(tree))


TWINS = [
    (client.Client, client.AsyncClient),
    (size_limits.pieces, size_limits.async_pieces),
    (size_limits.whole, size_limits.async_whole),
    (download.download, download.async_download),
    (download._get, download._async_get),
    (transport.Transport, transport.AsyncTransport),
    (transport._Stream, transport._AsyncStream),
    (calls.Reply, calls.AsyncReply),
]
PAIRS = pytest.mark.parametrize(("plain", "coloured"), TWINS, ids=lambda each: each.__name__)


@PAIRS
def test_they_are_one_text_in_two_colours(plain: Any, coloured: Any) -> None:
    assert uncoloured(inspect.getsource(coloured)) == uncoloured(inspect.getsource(plain))


@PAIRS
def test_taking_the_colour_out_leaves_the_plain_one_as_it_is(plain: Any, coloured: Any) -> None:
    source = inspect.getsource(plain)
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert not (names | attributes) & (NAMES.keys() - {"anext"})


@PAIRS
def test_every_statement_that_is_left_out_is_noticed(plain: Any, coloured: Any) -> None:
    wanted = uncoloured(inspect.getsource(plain))
    source = inspect.getsource(coloured)
    count = sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(source)))
    noticed = 0
    for number in range(1, count):  # the first is the class or the function itself
        tree = ast.parse(source)
        left_out = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)][number]
        if isinstance(left_out, ast.Pass) or is_class_docstring(tree, left_out):
            noticed += 1
            continue
        for parent in ast.walk(tree):
            for _, value in ast.iter_fields(parent):
                if isinstance(value, list) and left_out in value:
                    value[value.index(left_out)] = ast.Pass()
        noticed += uncoloured(ast.unparse(tree)) != wanted
    assert noticed == count - 1


def is_class_docstring(tree: ast.Module, node: ast.stmt) -> bool:
    return isinstance(tree.body[0], ast.ClassDef) and tree.body[0].body[0] is node


@PAIRS
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("step", "stop"),
        ("flow", "flaw"),
        ("timeout", "limit"),
        ("self.", "cls."),
        ("True", "False"),
        ("client", "clients"),
    ],
)
def test_every_name_that_drifts_is_noticed(plain: Any, coloured: Any, old: str, new: str) -> None:
    source = inspect.getsource(coloured)
    if old not in source:
        pytest.skip("not in this pair")
    assert uncoloured(source.replace(old, new)) != uncoloured(inspect.getsource(plain))


def test_the_public_methods_are_the_same() -> None:
    def public(kind: type) -> set[str]:
        return {NAMES.get(name, name) for name in vars(kind) if not name.startswith("_") or name.startswith("__a")}

    assert public(client.AsyncClient) - {"__enter__", "__exit__"} == public(client.Client)
