"""A pickled network as two tables: its layers by their paths, and its tensors by the names of a state dict."""

from __future__ import annotations

from typing import Any, NamedTuple

from hmgan.importers.pickled.arrays import ArrayView
from hmgan.importers.pickled.content import Content, Layer
from hmgan.importers.pickled.storages import View

MOST_LAYERS = 5_000
DEEPEST = 16


class Network(NamedTuple):
    """A network of a file."""

    label: str
    content: Content
    layers: dict[str, Layer]
    views: dict[str, View | ArrayView]

    def sources(self) -> list[str]:
        """The source text of each layer's class."""
        return [layer.source for layer in self.layers.values()]

    def number(self, path: str, name: str, default: float | None = None) -> bool | int | float | None:
        """A layer's attribute; the default where the layer or its number is not there."""
        found = self.content.number(self.layers[path].state.get(name)) if path in self.layers else None
        return default if found is None else found

    def numbers(self, path: str, name: str) -> list[bool | int | float]:
        """A layer's attribute of several numbers."""
        return self.content.numbers(self.layers[path].state.get(name)) if path in self.layers else []

    def text(self, path: str, name: str) -> str:
        """A layer's attribute that is a word; nothing where it is not."""
        return self.content.text(self.layers[path].state.get(name)) if path in self.layers else ""

    def kernel(self, name: str) -> list[list[float]]:
        """A small constant's numbers, by row."""
        tensor = self.views[name].tensor(self.content.budget).float()
        rows: list[list[float]] = tensor.reshape(len(tensor), -1).tolist()
        return rows


def flatten(content: Content, node: Any, label: str) -> Network:
    """The tables of a network. Raises UnreadableError for a layer whose class is not known, by its name."""
    layers: dict[str, Layer] = {}
    views: dict[str, View | ArrayView] = {}
    left = [("", node)]
    while left:  # no recursion: a file nests as deep as it likes
        path, part = left.pop()
        layer = content.layer(part, _full(label, path))
        if layer is None or len(layers) >= MOST_LAYERS or path.count(".") >= DEEPEST:
            raise content.unknown_at(_full(label, path), part)
        layers[path] = layer
        # Frozen layers keep their weights among the buffers.
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(content, layer, kind):
                view = content.view(value)
                if view is None:
                    raise content.unknown_at(_full(label, _joined(path, name)), value)
                views[_joined(path, name)] = view
        children = [(_joined(path, name), child) for name, child in _items(content, layer, "_modules")]
        left.extend(reversed(children))
    return Network(label, content, layers, views)


def _items(content: Content, layer: Layer, kind: str) -> list[tuple[str, Any]]:
    table = content.mapping(layer.state.get(kind)) or {}
    return [(str(name), value) for name, value in table.items() if value is not None]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _full(label: str, path: str) -> str:
    return f"{label}/{path}" if path else label
