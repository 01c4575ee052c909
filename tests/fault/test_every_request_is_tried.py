"""No request the library can make is missing in the table of faults.

The requests are read from the source: every module that knows GitHub's API writes a path as
one text, and the method beside it. Both ways: a request without a row fails, and so does a row
no request was found for, so that a way of writing this reader does not know is noticed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import agentrelay.workstream
from tests.fault._github_calls import CALLS, NAME

_PACKAGE: Final = Path(str(agentrelay.workstream.__file__)).parent
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

# What sends a request, or hands one on with the path it was given.
_SENDERS: Final = {"request", "page", "ask"}
# The doors: they send what others ask for. The connection is the one below them all, and
# moves.py reads where a server says that a repository has gone.
_DOORS: Final = {"client.py", "connection.py", "memory.py", "moves.py", "transport.py"}
_MOVED: Final = ("GET", "/repositories/1")

_Request = tuple[str, str]


def _sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        if "testing" not in path.relative_to(_PACKAGE).parts:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def _text(node: ast.AST) -> str | None:
    """Return a text, with 1 for whatever is put into it."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "1" for part in node.values)
        return "".join(map(str, parts))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _sends(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _SENDERS
    )


def _in_order(function: ast.AST) -> list[ast.expr]:
    """Return the expressions of a function as they are written, not those within a text."""
    within = {
        id(part)
        for node in ast.walk(function)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.expr)]
    nodes = [node for node in nodes if id(node) not in within]
    return sorted(nodes, key=lambda node: (node.lineno, node.col_offset))


def _paths(function: ast.AST) -> list[str]:
    """Return the paths a function writes down, the API's own places among them."""
    found = []
    for node in _in_order(function):
        if isinstance(node, ast.Call) and _sends(node) and "" in map(_text, node.args):
            is_graphql = any(_text(word.value) == "graphql" for word in node.keywords)
            found.append("/graphql" if is_graphql else f"/repos/{NAME}")
        elif (text := _text(node)) is not None and re.match("/[a-z]", text):
            found.append(text)
    return found


def _requests(module: ast.Module) -> Iterator[_Request]:
    """Read the requests of a module, function by function."""
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    for function in functions.values():
        methods = [text for node in _in_order(function) if (text := _text(node)) in _METHODS]
        paths = _paths(function)
        if methods and not paths and "path" not in {arg.arg for arg in function.args.args}:
            # It is in the function that is told the method.
            names = [node.id for node in _in_order(function) if isinstance(node, ast.Name)]
            told = [functions[name] for name in names if name in functions]
            paths = [path for each in told for path in _paths(each)][:1]
            assert paths, f"{function.name}: no path for {methods}"
        # Lists are read, and name no method.
        yield from zip(methods or ["GET"] * len(paths), paths, strict=bool(paths))


def _row_of(request: _Request) -> set[str]:
    method, path = request
    full = path if path.startswith(("/repo", "/app/", "/graphql")) else f"/repos/{NAME}{path}"
    return {
        call.title
        for call in CALLS
        if call.method == method
        and any(re.search(call.path, asked) for asked in (full, f"{full}?state=open&base=main"))
    }


def test_every_request_has_a_row_and_every_row_a_request() -> None:
    """Whoever adds a request adds the row that says what comes of its failures."""
    found = {_MOVED} | {
        request
        for path, module in _sources()
        if path.parent.name == "_github" and path.name not in _DOORS
        for request in _requests(module)
    }
    assert {request: _row_of(request) for request in found if not _row_of(request)} == {}
    tried = {title for request in found for title in _row_of(request)}
    assert {call.title for call in CALLS} - tried == set()


def test_requests_are_made_in_one_package() -> None:
    """Nothing else speaks HTTP to GitHub, so nothing else has to be read."""
    elsewhere = {
        path.name
        for path, module in _sources()
        if path.parent.name != "_github" and any(_sends(node) for node in ast.walk(module))
    }
    assert elsewhere == set()
