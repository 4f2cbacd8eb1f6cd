"""Which piece of a program is explained: what is asked for by address or name, or what was executed most.

Owns: that choice. Must not know: what is said of it.
"""

from __future__ import annotations

from typing import NamedTuple

from dbt.block import Key, Translation
from dbt.explain.watch import Watch
from dbt.lift import Lifter
from dbt.memory import EXEC, MemoryFault
from dbt.process import Process
from dbt.regions import Request
from dbt.report import symbols_of


class NotExplained(ValueError):
    """There is nothing to explain there; the message is one sentence."""


class Subject(NamedTuple):
    """A block, or a region, which has one translation or would have. `asked`: the address that was asked for, if any.

    `translation` is None where the engine has made none, or has dropped it.
    """

    request: Request
    translation: Translation | None
    asked: int | None

    @property
    def key(self) -> Key:
        return self.request.blocks[0]


def address_of(process: Process, place: str) -> int:
    """The guest address of code that a number, a symbol, or one with an offset means. Raises NotExplained."""
    symbols = symbols_of(process)
    name, plus, more = place.partition("+")
    try:
        offset = int(more, 0) if plus else 0
        address = int(name, 0) if name[:1].isdigit() else None
    except ValueError:
        raise NotExplained(f"{place!r} is no address: a number, a symbol or a symbol+offset is wanted") from None
    if address is None:
        found = sorted({symbol.address for symbol in symbols.symbols if symbol.name == name})
        if not found:
            hint = "" if symbols.symbols else ", which has no symbols at all"
            raise NotExplained(f"there is no symbol {name!r} in the program{hint}")
        address = found[0] + symbols.bias
    address += offset
    if not is_code(process, address):
        what = f"{place} is {address:#x}, which" if name[:1].isalpha() or offset else f"{place}"
        raise NotExplained(f"{what} is in no code of the program")
    return address


def is_code(process: Process, pc: int) -> bool:
    """Whether an instruction may begin there."""
    if pc % process.guest.align or not 0 <= pc < process.space.size:
        return False
    try:
        process.space.fetch(pc)
    except MemoryFault:
        return False
    return bool((process.space.protection(pc) or 0) & EXEC)


def choose(process: Process, watch: Watch, place: str | None) -> Subject:
    """What is meant, or what was executed most. Raises NotExplained."""
    engine = process.engine
    asked = None if place is None else address_of(process, place)
    key = _hottest(process, watch) if asked is None else _around(process, asked)
    if not is_code(process, key[0]):
        raise NotExplained(f"the program is at {key[0]:#x}, where it has no code")
    translation = engine.cache.get(key)
    if translation is not None:
        return Subject(watch.requests[translation.key], translation, asked)
    return Subject(engine.translator.request(key, engine), None, asked)


def _hottest(process: Process, watch: Watch) -> Key:
    """The key of the region, or the block, that most instructions were executed in; else of the next instruction."""
    lifter: Lifter = process.engine.translator.lifter
    executed: dict[Key, int] = {}
    for pc, times in watch.entered().items():
        if is_code(process, pc):
            executed[pc, True] = times * max(lifter.shape(pc).instructions, 1)
    for key, retired in process.engine.cache.all_retired.items():
        if is_code(process, key[0]):
            executed[key] = max(retired, executed.get(key, 0))
    return max(executed, key=lambda key: (executed[key], -key[0]), default=(process.pc, True))


def _around(process: Process, pc: int) -> Key:
    """The key of the translation that begins there, or that holds the instruction; else of the block itself."""
    cache = process.engine.cache
    found = cache.get((pc, True))
    if found is not None:
        key: Key = (found.of or found).key
        return key
    holding = [t for t in cache.in_page(pc >> 12) if any(at <= pc < at + len(code) for at, code in t.source)]
    if holding:
        key = max(holding, key=cache.retired).key
        return key
    return pc, True
