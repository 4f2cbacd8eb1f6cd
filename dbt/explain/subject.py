"""Which piece of a program is explained: what is asked for by address or name, or what was executed most.

Owns: that choice. Must not know: what is said of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dbt.block import Translation
from dbt.explain.process import InProcess, Name
from dbt.explain.watch import Watch
from dbt.memory import PAGE_SHIFT
from dbt.regions import Request

if TYPE_CHECKING:
    from dbt.explain.hart import OnHart

    Where = InProcess | OnHart

PHYSICAL = "phys:"  # before a number: an address of a machine's memory


class NotExplained(ValueError):
    """There is nothing to explain there; the message is one sentence."""


class Subject(NamedTuple):
    """A block, or a region, which has one translation or would have, and where it stands. `asked`: the address that was
    asked for, if any.

    `translation` is None where the engine has made none, or has dropped it.
    """

    where: Where
    watch: Watch
    request: Request
    translation: Translation | None
    asked: int | None

    @property
    def name(self) -> Name:
        return self.where.name(self.request, self.request.blocks[0][0])


def address_of(where: Where, place: str) -> tuple[int, bool]:
    """The address that a number, a symbol, or one with an offset means, and whether it is a physical one. Raises
    NotExplained.
    """
    symbols = where.symbols
    physical = where.kind == "machine" and place.startswith(PHYSICAL)
    name, plus, more = place.removeprefix(PHYSICAL if physical else "").partition("+")
    try:
        offset = int(more, 0) if plus else 0
        address = int(name, 0) if name[:1].isdigit() else None
    except ValueError:
        raise NotExplained(f"{place!r} is no address: a number, a symbol or a symbol+offset is wanted") from None
    if address is None:
        found = sorted({symbol.address for symbol in symbols.symbols if symbol.name == name})
        if not found:
            hint = "" if symbols.symbols else ", which has no symbols at all"
            raise NotExplained(f"there is no symbol {name!r} in the {where.kind}{hint}")
        address = found[0] + symbols.bias
    return address + offset, physical


def choose(candidates: Sequence[tuple[Where, Watch]], place: str | None, pc: int) -> Subject:
    """What is meant, or what was executed most; of a machine, on one of its harts. `pc` is meant if nothing was
    executed. Raises NotExplained.
    """
    where, watch = candidates[0]
    if place is None:
        hottest = max([(*_hottest(*each), -i) for i, each in enumerate(candidates)])
        executed, _, name, boundary, i = hottest
        where, watch = candidates[-i]
        if not executed:
            name, boundary = where.find(pc, False), True
        if not where.is_code(name):
            raise NotExplained(f"the {where.kind} is at {pc:#x}, where it has no code")
        return _subject(where, watch, name, boundary)
    address, physical = address_of(where, place)
    names = [each.find(address, physical) for each, _ in candidates]
    ran = [watch.near(name) for name, (_, watch) in zip(names, candidates)]
    at = ran.index(max(ran))
    (where, watch), name = candidates[at], names[at]
    if not where.is_code(name):
        plain = place.removeprefix(PHYSICAL).isalnum() and (physical or place[:1].isdigit())
        raise NotExplained(f"{place if plain else f'{place} is {address:#x}, which'} is in no code of the {where.kind}")
    return _subject(where, watch, name, True)._replace(asked=name[0])


def _subject(where: Where, watch: Watch, name: Name, boundary: bool) -> Subject:
    """What begins there; else what holds the instruction; else the block itself."""
    cache = where.engine.cache
    place = where.place(name)
    found = None
    if place is not None:
        found = cache.get((place, boundary))
        holding = [t for t in cache.in_page(name[1] >> PAGE_SHIFT)
                   if any(at <= name[1] < at + len(code) for at, code in t.source)
                   and where.name(watch.requests[t.key], name[0]) == name]  # fmt: skip
        if found is None and holding:
            found = max(holding, key=cache.retired)
    if found is None:
        return Subject(where, watch, where.request(name), None, None)
    whole = found.of or found
    return Subject(where, watch, watch.requests[whole.key], whole, None)


def _hottest(where: Where, watch: Watch) -> tuple[int, int, Name, bool]:
    """The region, or the block, that most instructions were executed in: how many, about, and where it begins."""
    most = where.engine.options.max_instructions
    best = 0, 0, (0, 0), True
    for (name, boundary), retired in watch.retired().items():
        if where.is_code(name):
            best = max(best, (retired, -name[0], name, boundary))
    for name, times in watch.entered().most_common():
        if times * most < best[0]:
            break  # however long it is
        if where.is_code(name):
            length = len(where.engine.translator.lifter_of(where.around(name)).shape(name[0]).addresses)
            best = max(best, (times * max(length, 1), -name[0], name, True))
    return best
