"""Records: what these packages use of `dataclasses`, without its price at every start.

`dataclasses` imports `inspect`, and compiles each method of each class from text: 18 ms of a run of @hello. A record
is written in the same way, and type checkers take it for the same thing. `dataclasses.fields`, `replace` and `asdict`
work on records; the fields they ask for are made when they are asked for.
Not here, since nothing needs it: slots, order, inheritance of fields.
Owns: this decorator and its companions. Must not know: any record.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which is slow to import as well
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from dataclasses import dataclass as record
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import Any


def names(of: Any) -> tuple[str, ...]:
    """The fields of a record, or of its class, in order."""
    found: tuple[str, ...] = of.__match_args__
    return found


def as_dict(of: Any) -> dict[str, Any]:
    """The fields with their values, which are not copied."""
    return {name: getattr(of, name) for name in names(of)}


_NONE: Any = object()


class _Field:
    """What `field` says of one."""

    def __init__(self, *, default: Any = _NONE, default_factory: Callable[[], Any] | None = None, repr: bool = True):
        self.default = default
        self.factory = default_factory
        self.shown = repr


def _replace(of: Any, /, **changes: Any) -> Any:
    """A copy with some fields changed."""
    return type(of)(**{**as_dict(of), **changes})


def _record(cls: type | None = None, /, *, frozen: bool = False, eq: bool = True) -> Any:
    """Decorator: a class of annotated fields gets `__init__`, `__repr__` and, unless `eq` is false, equality.

    One that is `frozen` cannot be changed, and has a hash.
    """
    if cls is None:
        return lambda cls: _record(cls, frozen=frozen, eq=eq)
    fields = tuple(cls.__annotations__)
    said = {name: cls.__dict__[name] for name in fields if isinstance(cls.__dict__.get(name), _Field)}
    factories = {name: one.factory for name, one in said.items() if one.factory is not None}
    for name, one in said.items():
        if one.default is _NONE:
            delattr(cls, name)
        else:
            setattr(cls, name, one.default)
    defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
    added: dict[str, Any] = {
        "__init__": _init(cls.__name__, fields, defaults, factories),
        "__repr__": _repr(tuple(name for name in fields if name not in said or said[name].shown)),
        "__match_args__": fields,
        "__dataclass_fields__": _Fields(cls, said),
    }
    if eq:
        added |= {"__eq__": _equal, "__hash__": _hash if frozen else None}
    if frozen:
        added |= {"__setattr__": _refuse, "__delattr__": _refuse}
    for name, method in added.items():
        setattr(cls, name, method)
    return cls


def _init(
    record: str, fields: tuple[str, ...], defaults: dict[str, Any], factories: dict[str, Callable[[], Any]]
) -> Callable[..., None]:
    def __init__(self: Any, *given: Any, **named: Any) -> None:
        values = self.__dict__  # a frozen one is written here only
        values.update(defaults)
        values.update(zip(fields, given))
        values.update(named)
        if len(values) == len(fields) and not named and len(given) <= len(fields):
            return
        for name, factory in factories.items():
            if name not in values:
                values[name] = factory()
        twice = [name for name in fields[: len(given)] if name in named]
        missing = [name for name in fields if name not in values]
        unknown = [name for name in named if name not in fields]
        if twice or missing or unknown or len(given) > len(fields):
            wrong = (
                f"takes {len(fields)} arguments, and {len(given)} were given" if len(given) > len(fields)
                else f"got {twice[0]!r} twice" if twice
                else f"got an unexpected argument {unknown[0]!r}" if unknown
                else f"misses {', '.join(map(repr, missing))}"
            )  # fmt: skip
            raise TypeError(f"{record}() {wrong}")

    return __init__


def _repr(shown: tuple[str, ...]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    return __repr__


def _values(self: Any) -> Iterator[Any]:
    return (getattr(self, name) for name in self.__match_args__)


def _equal(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return tuple(_values(self)) == tuple(_values(other))


def _hash(self: Any) -> int:
    return hash(tuple(_values(self)))


def _refuse(self: Any, name: str, value: object = None) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


class _Fields:
    """`__dataclass_fields__`: made by `dataclasses`, for whoever has imported it."""

    def __init__(self, record: type, said: dict[str, _Field]) -> None:
        self.record = record
        self.said = said

    def __get__(self, instance: object, owner: type) -> Any:
        import dataclasses

        del self.record.__dataclass_fields__  # type: ignore[attr-defined]
        for name, one in self.said.items():
            default: dict[str, Any] = {} if one.default is _NONE else {"default": one.default}
            if one.factory is not None:
                default = {"default_factory": one.factory}
            setattr(self.record, name, dataclasses.field(**default, repr=one.shown))
        dataclasses.dataclass(self.record, init=False, repr=False, eq=False)
        return self.record.__dataclass_fields__  # type: ignore[attr-defined]


if not TYPE_CHECKING:
    record, field, replace = _record, _Field, _replace
