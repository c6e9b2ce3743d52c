"""Docstrings and options of components, read from their source where importing them would be slow."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

PACKAGE, HERE = __name__.split(".")[0], Path(__file__).parent
REQUIRED = inspect.Parameter.empty
ARGS = re.compile(r"^Args:\n((?: +\S.*\n?)+)", re.MULTILINE)
ARG = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", re.MULTILINE)


class Option(NamedTuple):
    """A keyword-only argument of a constructor."""

    annotation: Any
    default: Any  # REQUIRED where it has none
    sentence: str


class Signature(NamedTuple):
    """A class's docstring, and its options by name."""

    doc: str
    options: dict[str, Option]


class Registered(NamedTuple):
    """A class under `@register(kind, name)`, and where it is."""

    kind: str
    name: str
    module: str
    cls: str


def inspected(component: type) -> Signature:
    """The signature of a class that is imported."""
    init = component.__init__  # type: ignore[misc]
    doc, hints = inspect.getdoc(component) or "", get_type_hints(init, include_extras=True)
    given = [p for p in inspect.signature(init).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    said = _sentences(doc)
    return Signature(doc, {p.name: Option(hints[p.name], p.default, said.get(p.name, "")) for p in given})


def read(module: str, cls: str) -> Signature:
    """The signature of a class of this package, without importing it."""
    source = _source(module)
    doc = source.docstring(cls)
    said = _sentences(doc)
    where, arguments = source.options(cls)
    options = {}
    for argument, default in arguments:
        assert argument.annotation is not None, f"{cls}.{argument.arg} has no annotation"
        value = REQUIRED if default is None else where.value(default)
        options[argument.arg] = Option(where.value(argument.annotation), value, said.get(argument.arg, ""))
    return Signature(doc, options)


def modules(folder: str) -> list[str]:
    """The modules in a folder of this package."""
    return [".".join((PACKAGE, *folder.split("/"), path.stem)) for path in sorted((HERE / folder).glob("[!_]*.py"))]


def registered(module: str) -> Iterator[Registered]:
    """The components that importing this module of the package would register."""
    source = _source(module)
    for cls, node in source.nodes.items():
        for mark in node.decorator_list if isinstance(node, ast.ClassDef) else []:
            if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "register":
                kind, name = map(source.value, mark.args)
                yield Registered(kind, name, module, cls)


def declared(module: str, cls: str, attribute: str) -> dict[str, str]:
    """A dictionary in a class's own body; empty where there is none of that name."""
    source = _source(module)
    node = source.nodes[cls]
    for member in node.body if isinstance(node, ast.ClassDef) else []:
        if isinstance(member, ast.AnnAssign) and member.value and ast.unparse(member.target) == attribute:
            table: dict[str, str] = source.value(member.value)
            return table
    return {}


def first_line(module: str, cls: str) -> str:
    """Of the class's docstring."""
    return _source(module).docstring(cls).split("\n")[0]


def _sentences(doc: str) -> dict[str, str]:
    """The description of each argument in a docstring's `Args:`, on one line."""
    section = ARGS.search(doc)
    found = ARG.findall(section[1]) if section else []
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


class _Source(dict[str, Any]):
    """The constants of a module of this package, each evaluated when it is asked for."""

    def __init__(self, module: str) -> None:
        super().__init__()
        path = HERE.joinpath(*module.split(".")[1:]).with_suffix(".py")
        self.nodes: dict[str, ast.stmt] = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                self.nodes[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                self.nodes |= dict.fromkeys((alias.name for alias in node.names), node)
            elif isinstance(node, ast.Assign):
                self.nodes |= dict.fromkeys((name.id for name in node.targets if isinstance(name, ast.Name)), node)

    def __missing__(self, name: str) -> Any:
        node = self.nodes[name]  # for `int` and the like, the KeyError sends `eval` to the built-ins
        if isinstance(node, ast.Assign):
            return self.value(node.value)
        if (home := self.home(name)) is not None:
            return home[name]
        assert isinstance(node, ast.ImportFrom), f"{name} is no constant"
        return getattr(import_module(node.module or ""), name)

    def value(self, expression: ast.expr) -> Any:
        return eval(compile(ast.Expression(expression), "<signature>", "eval"), {}, self)

    def home(self, name: str) -> _Source | None:
        """The module of this package that a name is imported from."""
        node = self.nodes.get(name)
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        return _source(module) if module.split(".")[0] == PACKAGE else None

    def docstring(self, cls: str) -> str:
        node = self.nodes[cls]
        assert isinstance(node, ast.ClassDef)
        return ast.get_docstring(node) or ""

    def options(self, cls: str) -> tuple[_Source, list[tuple[ast.arg, ast.expr | None]]]:
        """Keyword-only arguments and defaults of a class's constructor, its own or inherited, and its module."""
        if (home := self.home(cls)) is not None:
            return home.options(cls)
        node = self.nodes.get(cls)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    return self, list(zip(member.args.kwonlyargs, member.args.kw_defaults, strict=True))
            for base in node.bases:
                if isinstance(base, ast.Name):
                    return self.options(base.id)
        return self, []  # nn.Module and object have none


@cache
def _source(module: str) -> _Source:
    return _Source(module)
