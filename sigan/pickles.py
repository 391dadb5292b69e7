"""Pickles read as data: an interpreter of the opcodes that imports nothing and calls nothing a file names.

A global stands for what the caller's table says (`Allowed`): a function of this program, or a `Kind` whose instances
are inert `Record`s. All that the table lacks is refused by name. Work and memory are bounded by a `Budget`.
Opcodes: the standard library's `pickletools`.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sigan.errors import WeightsError

MAX_OPCODES = 2_000_000  # the largest known checkpoint needs 100,000
MAX_ITEMS = 4_000_000  # that functions of the table may copy
MAX_NUMBER = 1024  # bytes of an integer; of a number's decimal digits
MAX_ARGUMENTS = 64  # of one call
MAX_KEY = 2**60  # integers from here up can be chosen to collide in a dict
FAULTS = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RuntimeError, struct.error)  # of bad data
REMEDY = "take the file from its author's page; nothing in it was run"


@dataclass(frozen=True)
class Kind:
    """A class that is known but never made: its instances become records."""

    name: str


@dataclass
class Record:
    """An instance as data: the name of its class, what it was made of, its attributes."""

    kind: str
    args: tuple[Any, ...] = ()
    state: Any = field(default_factory=dict)

    def build(self, state: Any) -> None:
        if self.state:
            raise ValueError(f"a {self.kind} is built twice")
        self.state = state


@dataclass
class Refused:
    """Stands where a refused global would have; whatever is made of it is refused too."""

    name: str


class Budget:
    """What the pickles of one file may still cost together."""

    def __init__(self, source: str):
        self.source, self.opcodes, self.items = source, MAX_OPCODES, MAX_ITEMS

    def spend(self, items: int) -> None:
        """Pays for copying so many items. WeightsError when nothing is left."""
        self.items -= items
        if self.items < 0:
            raise WeightsError(f"{self.source}: a pickle that unfolds to more than {MAX_ITEMS:,} items", REMEDY)


class Refusal(WeightsError):
    """A pickle asks to run or build what weights do not need; all of it is named."""


Allowed = Mapping[str, "Kind | Callable[..., Any]"]


def load(data: memoryview, allowed: Allowed, source: str, *, start: int = 0, budget: Budget | None = None,
         persistent: Callable[[Any], Any] | None = None) -> tuple[Any, int]:
    """The value of the pickle at `start` and the offset after it.

    Functions of `allowed` are called as f(budget, *args), and pay for what they copy; `persistent` answers persistent
    ids. Bytes come as views of `data`. One Refusal names every refused global and opcode; a WeightsError says where a
    pickle is broken. Values may be nested or repeated without end: do not print, hash or compare them.
    """
    machine = _Machine(data, allowed, source, start, budget or Budget(source), persistent)
    try:
        value = machine.run()
    except WeightsError:
        machine.report()  # what was refused tells more than what broke on it
        raise
    machine.report()
    return value, machine.at


class _Machine:
    def __init__(self, data: memoryview, allowed: Allowed, source: str, start: int, budget: Budget,
                 persistent: Callable[[Any], Any] | None):
        self.data, self.allowed, self.source, self.at = data, allowed, source, start
        self.budget, self.persistent = budget, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.refused: dict[str, None] = {}  # in the order met

    def run(self) -> Any:
        while True:
            self.budget.opcodes -= 1
            if self.budget.opcodes < 0:
                raise WeightsError(f"{self.source}: a pickle of more than {MAX_OPCODES:,} opcodes", REMEDY)
            where, code = self.at, self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.pop()
            act = _ACTS.get(code)
            if act is None:
                raise self.broken(f"byte 0x{code:02x} at {where} is no opcode")
            try:
                act(self)
            except FAULTS as error:
                name = _NAMES[code]
                raise self.broken(f"{name} at {where}: {type(error).__name__}: {error}") from None

    # ---- bytes

    def broken(self, what: str) -> WeightsError:
        return WeightsError(f"{self.source} is broken or no pickle: {what}", "download it again, and compare its size")

    def take(self, n: int) -> memoryview:
        end = self.at + n
        if end > len(self.data):
            raise self.broken(f"it ends at byte {len(self.data):,}, and {end - len(self.data):,} more are due")
        self.at, start = end, self.at
        return self.data[start:end]

    def unpack(self, layout: str) -> int:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))[0]

    def line(self) -> bytes:
        window = 256
        while True:
            text = bytes(self.data[self.at : self.at + window])
            end = text.find(b"\n")
            if end >= 0:
                self.at += end + 1
                return text[:end]
            if self.at + window >= len(self.data):
                raise self.broken("it ends in the middle of a line")
            window *= 4

    def number(self) -> str:
        text = self.line()
        if len(text) > MAX_NUMBER:
            raise ValueError(f"a number of {len(text):,} digits")
        return text.decode("ascii")

    def text(self, layout: str, encoding: str = "utf-8") -> str:
        return str(self.take(self.unpack(layout)), encoding, "surrogatepass" if encoding == "utf-8" else "strict")

    def long(self, layout: str) -> int:
        size = self.unpack(layout)
        if not 0 <= size <= MAX_NUMBER:
            raise ValueError(f"an integer of {size:,} bytes")
        return int.from_bytes(self.take(size), "little", signed=True)

    # ---- stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def floor(self) -> int:
        return self.marks[-1] if self.marks else 0

    def pop(self) -> Any:
        if len(self.stack) <= self.floor():
            raise self.broken("it takes from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        if len(self.stack) <= self.floor():
            raise self.broken("it looks at an empty stack")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise self.broken("a mark is missing")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def discard(self) -> None:
        if self.marks and len(self.stack) == self.marks[-1]:
            self.marks.pop()
        else:
            self.pop()

    def put(self, key: int) -> None:
        self.memo[key] = self.top()

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise self.broken(f"memo {key} was never put")
        self.push(self.memo[key])

    # ---- containers

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Refused):
            raise TypeError(f"items for a {type(target).__name__}")

    def add(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, set):
            raise TypeError(f"members for a {type(target).__name__}")
        target.update(map(plain_key, items))

    def set_items(self, flat: list[Any]) -> None:
        if len(flat) % 2:
            raise ValueError("a key without a value")
        target = self.top()
        if isinstance(target, Record) and isinstance(target.state, dict):
            target = target.state
        if isinstance(target, dict):
            target.update((plain_key(flat[i]), flat[i + 1]) for i in range(0, len(flat), 2))
        elif not isinstance(target, Refused):
            raise TypeError(f"keys for a {type(target).__name__}")

    def dictionary(self) -> None:
        items = self.pop_mark()
        self.push({})
        self.set_items(items)

    # ---- what others would run

    def report(self) -> None:
        """WeightsError when anything was refused."""
        if self.refused:
            names = list(self.refused)
            more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
            raise Refusal(f"{self.source} asks to run or build what weights do not need: "
                          f"{', '.join(names[:20])}{more}", REMEDY) from None

    def refuse(self, name: str) -> Refused:
        self.refused[name] = None
        return Refused(name)

    def find(self, module: Any, name: Any) -> Any:
        if not (isinstance(module, str) and isinstance(name, str)):
            return self.refuse("a global that is not named by two strings")
        dotted = f"{module}.{name}"
        known = self.allowed.get(dotted)
        return self.refuse(ascii(dotted)[1:-1][:200]) if known is None else known

    def call(self, function: Any, args: Any) -> None:
        if isinstance(function, Refused):
            self.push(function)
        elif not isinstance(args, tuple):
            raise TypeError(f"arguments in a {type(args).__name__}")
        elif isinstance(function, Kind):
            self.push(Record(function.name, args))
        elif callable(function):
            if len(args) > MAX_ARGUMENTS:
                raise TypeError(f"a call with {len(args):,} arguments")
            self.push(function(self.budget, *args))
        else:
            raise TypeError(f"a {type(function).__name__} is called")

    def new(self, with_keywords: bool = False) -> None:
        if with_keywords and self.pop() != {}:
            raise TypeError("an instance made with keywords")
        args = self.pop()
        self.call(self.pop(), args)

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, (dict, Refused)):
            return  # attributes of an OrderedDict: a state dict's versions
        target.build(state)

    def instance(self) -> None:
        module, name = str(self.line(), "utf-8"), str(self.line(), "utf-8")
        self.pop_mark()
        self.push(self.refuse(f"INST {ascii(module + '.' + name)[1:-1][:200]}"))

    def object(self) -> None:
        made = self.pop_mark()
        name = made[0].name if made and isinstance(made[0], (Refused, Kind)) else "?"
        self.push(self.refuse(f"OBJ {name}"))

    def identity(self, key: Any, name: str) -> None:
        self.push(self.refuse(name) if self.persistent is None else self.persistent(key))

    def extension(self, layout: str) -> None:
        self.push(self.refuse(f"extension code {self.unpack(layout)}"))


def plain_key(value: Any) -> Any:
    """The value if it may be a dict's key: text, small integers, None. Hashes of others can be made costly."""
    if value is None or isinstance(value, str) or isinstance(value, int) and abs(value) < MAX_KEY:
        return value
    raise TypeError(f"a {type(value).__name__} is a key")


def _integer(text: str) -> int | bool:
    return text == "01" if text in ("00", "01") else int(text)


def _string(line: bytes) -> str:
    if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
        raise ValueError("a string without quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin-1")


def _pop_many(machine: _Machine, n: int) -> tuple[Any, ...]:
    return tuple(machine.pop() for _ in range(n))[::-1]


def _append(machine: _Machine) -> None:
    item = machine.pop()
    machine.extend([item])


def _frame(machine: _Machine) -> None:
    size = machine.unpack("Q")
    if size > len(machine.data) - machine.at:
        raise machine.broken(f"a frame of {size:,} bytes, and {len(machine.data) - machine.at:,} are left")


def _stack_global(machine: _Machine) -> None:
    module, name = _pop_many(machine, 2)
    machine.push(machine.find(module, name))


_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_ACTS: dict[int, Callable[[_Machine], Any]] = {ord(code): act for code, act in {
    "\x80": lambda m: m.take(1), "\x95": _frame,  # PROTO, FRAME
    "N": lambda m: m.push(None), "\x88": lambda m: m.push(True), "\x89": lambda m: m.push(False),
    "I": lambda m: m.push(_integer(m.number())), "J": lambda m: m.push(m.unpack("i")),
    "K": lambda m: m.push(m.unpack("B")), "M": lambda m: m.push(m.unpack("H")),
    "L": lambda m: m.push(int(m.number().removesuffix("L"))),
    "\x8a": lambda m: m.push(m.long("B")), "\x8b": lambda m: m.push(m.long("i")),
    "F": lambda m: m.push(float(m.number())), "G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    "S": lambda m: m.push(_string(m.line())), "V": lambda m: m.push(str(m.line(), "raw-unicode-escape")),
    "T": lambda m: m.push(m.text("I", "latin-1")), "U": lambda m: m.push(m.text("B", "latin-1")),
    "X": lambda m: m.push(m.text("I")), "\x8c": lambda m: m.push(m.text("B")), "\x8d": lambda m: m.push(m.text("Q")),
    "B": lambda m: m.push(m.take(m.unpack("I"))), "C": lambda m: m.push(m.take(m.unpack("B"))),
    "\x8e": lambda m: m.push(m.take(m.unpack("Q"))), "\x96": lambda m: m.push(m.take(m.unpack("Q"))),
    "]": lambda m: m.push([]), "}": lambda m: m.push({}), ")": lambda m: m.push(()), "\x8f": lambda m: m.push(set()),
    "(": lambda m: m.marks.append(len(m.stack)), "0": _Machine.discard, "1": _Machine.pop_mark,
    "2": lambda m: m.push(m.top()),
    "l": lambda m: m.push(m.pop_mark()), "t": lambda m: m.push(tuple(m.pop_mark())), "d": _Machine.dictionary,
    "\x85": lambda m: m.push(_pop_many(m, 1)), "\x86": lambda m: m.push(_pop_many(m, 2)),
    "\x87": lambda m: m.push(_pop_many(m, 3)),
    "a": _append, "e": lambda m: m.extend(m.pop_mark()), "s": lambda m: m.set_items(list(_pop_many(m, 2))),
    "u": lambda m: m.set_items(m.pop_mark()), "\x90": lambda m: m.add(m.pop_mark()),
    "\x91": lambda m: m.push(frozenset(map(plain_key, m.pop_mark()))),
    "p": lambda m: m.put(int(m.number())), "q": lambda m: m.put(m.unpack("B")), "r": lambda m: m.put(m.unpack("I")),
    "\x94": lambda m: m.put(len(m.memo)),
    "g": lambda m: m.get(int(m.number())), "h": lambda m: m.get(m.unpack("B")), "j": lambda m: m.get(m.unpack("I")),
    "c": lambda m: m.push(m.find(str(m.line(), "utf-8"), str(m.line(), "utf-8"))), "\x93": _stack_global,
    "R": _Machine.new, "\x81": _Machine.new, "\x92": lambda m: m.new(with_keywords=True), "b": _Machine.build,
    "i": _Machine.instance, "o": _Machine.object,
    "P": lambda m: m.identity(str(m.line(), "utf-8"), "PERSID"), "Q": lambda m: m.identity(m.pop(), "BINPERSID"),
    "\x82": lambda m: m.extension("B"), "\x83": lambda m: m.extension("H"), "\x84": lambda m: m.extension("i"),
    "\x97": lambda m: m.push(m.refuse("NEXT_BUFFER")), "\x98": lambda m: m.refuse("READONLY_BUFFER"),
}.items()}
