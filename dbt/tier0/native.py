"""A little language for native code of our own: functions over 64-bit integers, written in Python, as LLVM text.

    f = Function("sum", "n")
    total = f.variable(0)
    with f.loop():
        f.leave_loop(f.n.value == 0)
        total.set(total.value + f.n.value)
        ...

Owns: this notation. Must not know: what is written in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dbt.state import SLOTS


class Value:
    """An i64 operand, or the result of a comparison; arithmetic is modulo 2^64, comparison unsigned."""

    def __init__(self, function: Function, text: str) -> None:
        self.function = function
        self.text = text

    def _binary(self, operation: str, other: Value | int) -> Value:
        return self.function.let(f"{operation} i64 {self.text}, {operand(other)}")

    def __add__(self, other: Value | int) -> Value:
        return self._binary("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._binary("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._binary("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value | int) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._binary("xor", other)

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary("shl", other)

    def __rshift__(self, other: Value | int) -> Value:
        return self._binary("lshr", other)

    def compare(self, how: str, other: Value | int) -> Value:
        return self._binary(f"icmp {how}", other)

    def __eq__(self, other: Value | int) -> Value:  # type: ignore[override]
        return self.compare("eq", other)

    def __ne__(self, other: Value | int) -> Value:  # type: ignore[override]
        return self.compare("ne", other)

    def __lt__(self, other: Value | int) -> Value:
        return self.compare("ult", other)

    def __ge__(self, other: Value | int) -> Value:
        return self.compare("uge", other)

    def __gt__(self, other: Value | int) -> Value:
        return self.compare("ugt", other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("a native value has no truth here: use when() or leave_loop()")


def operand(value: Value | int) -> str:
    if isinstance(value, int):
        return str(value - (1 << 64) if value >> 63 else value)
    return value.text


class Variable:
    """A place for an i64."""

    def __init__(self, function: Function, name: str) -> None:
        self._function = function
        self._name = name

    @property
    def value(self) -> Value:
        return self._function.let(f"load i64, ptr {self._name}")

    def set(self, value: Value | int) -> None:
        self._function.put(f"store i64 {operand(value)}, ptr {self._name}")

    def add(self, value: Value | int) -> None:
        self.set(self.value + value)


class Function:
    """One function of C calling convention, i64 parameters and result."""

    def __init__(self, name: str, *parameters: str) -> None:
        self.name = name
        self._parameters = parameters
        self._first: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self._ends: list[tuple[str, str]] = []
        self.given = {p: Value(self, f"%{p}") for p in parameters}

    def text(self, linkage: str = "") -> str:
        parameters = ", ".join(f"i64 %{p}" for p in self._parameters)
        body = "\n".join([*self._first, *self._lines])
        return f"define {linkage} i64 @{self.name}({parameters}) #1 {{\nentry:\n{body}\n unreachable\n}}"

    def put(self, line: str) -> None:
        self._lines.append(" " + line)

    def let(self, expression: str) -> Value:
        self._count += 1
        self.put(f"%v{self._count} = {expression}")
        return Value(self, f"%v{self._count}")

    def variable(self, value: Value | int) -> Variable:
        self._count += 1
        name = f"%x{self._count}"
        self._first.append(f" {name} = alloca i64")
        made = Variable(self, name)
        made.set(value)
        return made

    def _label(self) -> str:
        self._count += 1
        return f"l{self._count}"

    # --- memory: addresses are integers -----------------------------------------------------------------

    def load(self, address: Value, size: int) -> Value:
        pointer = self.let(f"inttoptr i64 {address.text} to ptr")
        if size == 8:
            return self.let(f"load i64, ptr {pointer.text}, align 1")
        narrow = self.let(f"load i{8 * size}, ptr {pointer.text}, align 1")
        return self.let(f"zext i{8 * size} {narrow.text} to i64")

    def store(self, address: Value, value: Value | int, size: int) -> None:
        pointer = self.let(f"inttoptr i64 {address.text} to ptr")
        what = operand(value)
        if size < 8:
            what = self.let(f"trunc i64 {what} to i{8 * size}").text
        self.put(f"store i{8 * size} {what}, ptr {pointer.text}, align 1")

    # --- control ----------------------------------------------------------------------------------------

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """What is inside is done where the condition holds."""
        yes, on = self._label(), self._label()
        self.put(f"br i1 {condition.text}, label %{yes}, label %{on}")
        self._lines.append(f"{yes}:")
        yield
        self.put(f"br label %{on}")
        self._lines.append(f"{on}:")

    @contextmanager
    def loop(self) -> Iterator[None]:
        """What is inside is done again and again."""
        again, end = self._label(), self._label()
        self.put(f"br label %{again}")
        self._lines.append(f"{again}:")
        self._ends.append((again, end))
        yield
        self._ends.pop()
        self.put(f"br label %{again}")
        self._lines.append(f"{end}:")

    def leave_loop(self, condition: Value) -> None:
        on = self._label()
        self.put(f"br i1 {condition.text}, label %{self._ends[-1][1]}, label %{on}")
        self._lines.append(f"{on}:")

    def next_turn(self, condition: Value) -> None:
        on = self._label()
        self.put(f"br i1 {condition.text}, label %{self._ends[-1][0]}, label %{on}")
        self._lines.append(f"{on}:")

    def give(self, value: Value | int) -> None:
        """Return; what follows is not reached."""
        self.put(f"ret i64 {operand(value)}")
        self._lines.append(f"{self._label()}:")

    def call(self, name: str, *arguments: Value | int) -> Value:
        return self.let(f"call i64 @{name}({', '.join(f'i64 {operand(a)}' for a in arguments)})")

    def select(self, condition: Value, a: Value | int, b: Value | int) -> Value:
        return self.let(f"select i1 {condition.text}, i64 {operand(a)}, i64 {operand(b)}")

    def power(self, exponent: Value) -> Value:
        """Two to this power."""
        return self.let(f"shl i64 1, {exponent.text}")

    def signed_shift(self, a: Value, places: Value) -> Value:
        """To the right."""
        return self.let(f"ashr i64 {a.text}, {places.text}")

    def no(self, a: Value) -> Value:
        return self.let(f"xor i1 {a.text}, true")

    def both(self, a: Value, b: Value) -> Value:
        return self.let(f"and i1 {a.text}, {b.text}")

    def either(self, a: Value, b: Value) -> Value:
        return self.let(f"or i1 {a.text}, {b.text}")


class OnState(Function):
    """A function whose first parameter is the address of a CPU state, of which it knows words by number."""

    def __init__(self, name: str, *parameters: str) -> None:
        super().__init__(name, "s", *parameters)
        self.s = self.given["s"]

    def slot(self, number: int) -> Value:
        """A guest register."""
        return self.load(self.s + (SLOTS + 8 * number), 8)

    def set_slot(self, number: int, value: Value | int) -> None:
        self.store(self.s + (SLOTS + 8 * number), value, 8)

    def field(self, number: int) -> Value:
        return self.load(self.s + 8 * number, 8)

    def set_field(self, number: int, value: Value | int) -> None:
        self.store(self.s + 8 * number, value, 8)


class Body:
    """The domain in which bodies (`guests`) are written, for what they ask of integers and of registers.

    `remap` is told where addresses come to mean something else.
    """

    def __init__(self, function: OnState, link: Callable[[Any], None], remap: Callable[[], None]) -> None:
        self._f = function
        self.remap = remap
        link(self)

    def files(self) -> Callable[..., _File]:
        return lambda first, count, zero=None, sink=None: _File(self._f, first)

    def select(self, condition: Value, a: Value | int, b: Value | int) -> Value:
        return self._f.select(condition, a, b)

    def not_(self, a: Value) -> Value:
        return self._f.no(a)

    def bit(self, condition: Value) -> Value:
        return self._f.select(condition, 1, 0)


class _File:
    """Registers from a slot on."""

    def __init__(self, function: OnState, first: int) -> None:
        self._f = function
        self._first = first

    def __getitem__(self, number: int) -> Value:
        return self._f.slot(self._first + number)

    def __setitem__(self, number: int, value: Value | int) -> None:
        self._f.set_slot(self._first + number, value)


def _operation(text: str) -> Callable[[Body, Value | int, Value | int], Value]:
    kind = "i1" if text in ("and i1", "or i1") else "i64"
    what = text.split()[0] if kind == "i1" else text
    return lambda self, a, b: self._f.let(f"{what} {kind} {operand(a)}, {operand(b)}")


for _name, _text in (
    ("add", "add"), ("sub", "sub"), ("and_", "and"), ("or_", "or"), ("xor", "xor"), ("shl", "shl"), ("shr", "lshr"),
    ("eq", "icmp eq"), ("ne", "icmp ne"), ("ltu", "icmp ult"), ("geu", "icmp uge"), ("both", "and i1"),
    ("either", "or i1"),
):  # fmt: skip
    setattr(Body, _name, _operation(_text))
