"""The pickle machine over an allow-list of opcodes. It builds plain values and inert nodes, and calls nothing.

Lengths are checked against the bytes that are there before they are used; bytes and long texts stay where they lie in
the file; the number of operations is bounded by the file's size, and so is the memory of what they build.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from hmgan.importers.pickled.nodes import Blob, Call, Global, Persistent, UnreadableError

SHORT = 256  # bytes: what is longer is no name, and stays in the file
PROTOCOLS = range(2, 6)
FREE_OPERATIONS = 300_000
BYTES_PER_OPERATION = 64  # of the file, beyond those
LONGEST_INTEGER = 16  # bytes
DEEPEST = 1_000  # marks within marks


class Budget:
    """How many operations, and bytes of tensors, a file may ask for in all: no more than its size accounts for."""

    def __init__(self, size: int) -> None:
        self.operations = FREE_OPERATIONS + size // BYTES_PER_OPERATION
        self.tensor_bytes = self.decoded_bytes = size

    def operate(self) -> None:
        """Spends an operation. Raises UnreadableError where none is left."""
        self.operations -= 1
        if self.operations < 0:
            raise UnreadableError("holds more operations than a checkpoint of its size can need")

    def materialise(self, size: int) -> None:
        """Spends bytes of tensors. Raises UnreadableError where more is asked for than the file holds."""
        self.tensor_bytes -= size
        if self.tensor_bytes < 0:
            raise UnreadableError("describes tensors that are larger than the file")

    def decode(self, size: int) -> None:
        """Spends bytes that are written as texts. Raises UnreadableError where the file holds fewer."""
        self.decoded_bytes -= size
        if self.decoded_bytes < 0:
            raise UnreadableError("decodes more bytes than it holds")


class Read(NamedTuple):
    """One pickle: its value, what it names, what it refers to outside, and where it ends."""

    value: Any
    globals: list[Global]
    persistent: list[Persistent]
    end: int


def read_pickle(data: memoryview, budget: Budget, start: int = 0) -> Read:
    """The pickle that begins at `start`. Raises UnreadableError for anything but a whole one of known opcodes."""
    return _Machine(data, budget, start).run()


class _Machine:
    def __init__(self, data: memoryview, budget: Budget, start: int) -> None:
        self.data, self.at, self.budget = data, start, budget
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.names: dict[Global, Global] = {}
        self.persistent: list[Persistent] = []

    def run(self) -> Read:
        while True:
            self.budget.operate()
            code = self.take(1)[0]
            if code == STOP:
                break
            operation = OPERATIONS.get(code)
            if operation is None:
                raise UnreadableError(f"holds pickle opcode 0x{code:02x}, which no known checkpoint needs")
            operation(self)
        value = self.pop()
        if self.stack or self.marked:
            raise UnreadableError("ends within an object")
        return Read(value, list(self.names), self.persistent, self.at)

    def take(self, size: int) -> memoryview:
        """The next bytes."""
        end = self.at + size
        if end > len(self.data):
            raise UnreadableError("is cut short")
        self.at, view = end, self.data[self.at : end]
        return view

    def number(self, size: int) -> int:
        """The next unsigned integer."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        """The next name of a global in the old form, which ends its line."""
        text = bytes(self.data[self.at : self.at + SHORT])
        end = text.find(b"\n")
        if end < 0:
            raise UnreadableError("names a global by more than a name")
        self.at += end + 1
        return decoded(text[:end])

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise UnreadableError("takes from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise UnreadableError("looks at an empty stack")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marked) >= DEEPEST:
            raise UnreadableError(f"nests more than {DEEPEST} deep")
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """What lies above the last mark."""
        if not self.marked:
            raise UnreadableError("takes up to a mark, and there is none")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def protocol(self) -> None:
        version = self.number(1)
        if version not in PROTOCOLS:
            raise UnreadableError(f"is of pickle protocol {version}, not 2 to 5")

    def frame(self) -> None:
        if self.number(8) > len(self.data) - self.at:
            raise UnreadableError("is cut short")

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise UnreadableError(f"recalls memo {index}, which nothing was put into")
        self.push(self.memo[index])

    def blob(self, size_bytes: int, text: bool) -> None:
        view = self.take(self.number(size_bytes))
        self.push(decoded(bytes(view)) if text and len(view) <= SHORT else Blob(view, text))

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def integer(self) -> None:
        size = self.number(1)
        if size > LONGEST_INTEGER:
            raise UnreadableError(f"holds an integer of {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise UnreadableError("names a global by what is no name")
        found = Global(module, name)
        self.push(self.names.setdefault(found, found))

    def stacked_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def call(self) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(function, Global) or type(args) is not tuple:
            raise UnreadableError("calls what is no global")
        self.push(Call(function, args))

    def build(self) -> None:
        state, built = self.pop(), self.top()
        if not isinstance(built, Call):
            raise UnreadableError("sets the state of what is no object")
        built.state = state

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list and not isinstance(target, Call):
            raise UnreadableError("appends to what is no list")
        (target.elements if isinstance(target, Call) else target).extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict and not isinstance(target, Call):
            raise UnreadableError("sets items of what is no dictionary")
        if len(items) % 2:
            raise UnreadableError("sets a key without a value")
        pairs = target.pairs if isinstance(target, Call) else target
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing anything else could take for ever: tuples that share tuples, nested.
            if type(key) not in (str, int):
                raise UnreadableError("has a dictionary key that is neither a short text nor an integer")
            pairs[key] = value

    def persistent_id(self) -> None:
        node = Persistent(self.pop())
        self.persistent.append(node)
        self.push(node)


def decoded(text: bytes) -> str:
    """A short text. Raises UnreadableError where it is not UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise UnreadableError("holds a name that is no UTF-8") from None


STOP = ord(".")
OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    ord("("): _Machine.mark,
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    ord("J"): lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
    0x8A: _Machine.integer,
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    0x8C: lambda m: m.blob(1, True),
    ord("X"): lambda m: m.blob(4, True),
    0x8D: lambda m: m.blob(8, True),
    ord("C"): lambda m: m.blob(1, False),
    ord("B"): lambda m: m.blob(4, False),
    0x8E: lambda m: m.blob(8, False),
    ord(")"): lambda m: m.tuple_of(0),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("t"): lambda m: m.push(tuple(m.pop_mark())),
    ord("]"): lambda m: m.push([]),
    ord("}"): lambda m: m.push({}),
    0x8F: lambda m: m.push(Call(Global("builtins", "set"), ())),
    ord("a"): lambda m: m.extend([m.pop()]),
    ord("e"): lambda m: m.extend(m.pop_mark()),
    0x90: lambda m: m.extend(m.pop_mark()),
    ord("s"): lambda m: m.update([m.pop(), m.pop()][::-1]),
    ord("u"): lambda m: m.update(m.pop_mark()),
    ord("q"): lambda m: m.put(m.number(1)),
    ord("r"): lambda m: m.put(m.number(4)),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.get(m.number(1)),
    ord("j"): lambda m: m.get(m.number(4)),
    ord("c"): lambda m: m.name(m.line(), m.line()),
    0x93: _Machine.stacked_name,
    ord("R"): _Machine.call,
    0x81: _Machine.call,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.persistent_id,
}
