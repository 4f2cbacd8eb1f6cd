"""Records do what `dataclasses` does, as far as they go: every claim is made of both."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from ir import records

BOTH = pytest.mark.parametrize("made", ["record", "dataclass"])


@records.record(frozen=True)
class Point:
    x: int
    y: int = 2
    names: list[str] = records.field(default_factory=list, repr=False)
    call: Callable[..., Any] = records.field(default=print)


@dataclasses.dataclass(frozen=True)
class PointData:
    x: int
    y: int = 2
    names: list[str] = dataclasses.field(default_factory=list, repr=False)
    call: Callable[..., Any] = dataclasses.field(default=print)


@records.record
class Count:
    hits: int = 0
    seen: dict[str, int] = records.field(default_factory=dict)


@dataclasses.dataclass
class CountData:
    hits: int = 0
    seen: dict[str, int] = dataclasses.field(default_factory=dict)


@records.record(eq=False)
class Same:
    x: int


@dataclasses.dataclass(eq=False)
class SameData:
    x: int


def of(made: str, name: str) -> Any:
    return globals()[name if made == "record" else f"{name}Data"]


@BOTH
def test_fields_by_place_by_name_and_by_default(made: str) -> None:
    point, count = of(made, "Point"), of(made, "Count")
    assert vars(point(1)) == {"x": 1, "y": 2, "names": [], "call": print}
    assert vars(point(1, 3, ["a"], len)) == {"x": 1, "y": 3, "names": ["a"], "call": len}
    assert vars(point(y=5, x=4)) == {"x": 4, "y": 5, "names": [], "call": print}
    assert vars(count()) == {"hits": 0, "seen": {}}
    one, other = count(), count()
    one.seen["a"] = 1
    assert other.seen == {}
    assert point.y == 2 and not hasattr(point, "names")


@BOTH
@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, 2, [], print, 5), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})]
)
def test_wrong_arguments_are_refused(made: str, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"(Point|__init__)"):
        of(made, "Point")(*given, **named)


@BOTH
def test_equality_and_hash(made: str) -> None:
    point, count, same = of(made, "Point"), of(made, "Count"), of(made, "Same")
    assert point(1) == point(1) and point(1) != point(2) and point(1) != (1, 2, [], print)
    assert hash(point(1, names=())) == hash(point(1, names=())) and hash(same(1)) != hash(same(2))
    with pytest.raises(TypeError, match="unhashable"):
        hash(count())
    assert count(1) == count(1) and count(1) != count(2)
    assert same(1) != same(1)


@BOTH
def test_a_frozen_one_cannot_be_changed(made: str) -> None:
    point, count = of(made, "Point")(1), of(made, "Count")()
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert point.x == 1
    count.hits = 5
    assert count.hits == 5


@BOTH
def test_text_copies_and_patterns(made: str) -> None:
    point = of(made, "Point")
    assert repr(point(1, call=0)) == f"{point.__name__}(x=1, y=2, call=0)"
    match point(1, 3):
        case point(x, y):
            assert (x, y) == (1, 3)
    assert pickle.loads(pickle.dumps(point(7))) == point(7)


@BOTH
def test_the_functions_of_dataclasses_work(made: str) -> None:
    point, count = of(made, "Point"), of(made, "Count")
    assert dataclasses.is_dataclass(point) and dataclasses.is_dataclass(count())
    assert [(f.name, f.repr) for f in dataclasses.fields(point)] == [
        ("x", True), ("y", True), ("names", False), ("call", True),
    ]  # fmt: skip
    assert dataclasses.replace(point(1), y=9) == point(1, 9)
    assert dataclasses.asdict(count(3, {"a": 1})) == {"hits": 3, "seen": {"a": 1}}
    assert vars(point(1)) == {"x": 1, "y": 2, "names": [], "call": print}  # nothing changed by that


def test_companions() -> None:
    assert records.names(Point) == records.names(Point(1)) == ("x", "y", "names", "call")
    assert records.as_dict(Count(3)) == {"hits": 3, "seen": {}}
    assert records.replace(Point(1), y=9) == Point(1, 9)
    with pytest.raises(TypeError):
        records.replace(Point(1), z=9)
