"""Where a run's instructions went: functions, by samples of the guest's pc, and regions, by their exact counts.

Samples are events, so they come at points of virtual time, whatever the host does meanwhile: a deterministic run has
the same samples every time, under either engine. Each stands for the instructions since the one before. It is taken at
the first boundary after its time, and so counted for the block that comes next, which may be in a function that was
just called, or returned to.
Owns: when samples are taken, what is made of them. Must not know: how an engine runs, where the profile goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ir.records import record

if TYPE_CHECKING:
    from dbt.process import Process
    from dbt.report import Symbols

FINEST, COARSEST = 1 << 10, 1 << 24  # instructions between samples, about: many of a short run, few of a long one
PART = 1 << 7  # one sample in so many of the instructions until then
SHOWN = 20  # rows of a table
HOTTEST = 3  # places in a function
_MASK = (1 << 64) - 1


@record
class Place:
    """Samples at one guest address."""

    samples: int = 0
    instructions: int = 0


class Profiler:
    """Samples of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.places: dict[int, Place] = {}
        self.samples = 0
        self._last = process.instructions
        self._random = 1

    def attach(self) -> None:
        """Take samples from now on."""
        self._process.events.at(self._next(), self._event)

    def _event(self) -> bool:
        self.sample(self._process.pc, self._process.instructions)
        self._process.events.at(self._next(), self._event)
        return False

    def sample(self, pc: int, count: int) -> None:
        """The guest is at `pc`, and has executed so many instructions."""
        place = self.places.get(pc)
        if place is None:
            place = self.places[pc] = Place()
        place.samples += 1
        place.instructions += count - self._last
        self.samples += 1
        self._last = count

    def _next(self) -> int:
        """When the next sample is due: not in step with any loop."""
        self._random = self._random * 6364136223846793005 + 1442695040888963407 & _MASK
        period = min(max(self._last // PART, FINEST), COARSEST)
        return self._last + (period >> 1) + period * (self._random >> 48) // 0x10000

    def data(self, symbols: Symbols) -> dict[str, Any]:
        """The profile as plain data. What was executed since the last sample belongs to nobody."""
        found: dict[str, Any] = {
            "instructions": self._process.instructions, "samples": self.samples, "sampled_instructions": self._last,
            "functions": self._functions(symbols),
        }  # fmt: skip
        if self._process.engine.name == "translated":
            found |= {"retired": self._process.stats()["retired"], "regions": _regions(self._process, symbols)}
        return found

    def _functions(self, symbols: Symbols) -> list[dict[str, Any]]:
        """The most executed first; where there is no symbol, a place is a function of its own."""
        functions: dict[int, dict[str, Any]] = {}
        for pc, place in self.places.items():
            name, start = symbols.around(pc)
            function = functions.setdefault(
                start, {"address": start, "name": name, "samples": 0, "instructions": 0, "places": []}
            )
            function["samples"] += place.samples
            function["instructions"] += place.instructions
            function["places"].append({"address": pc, "samples": place.samples, "instructions": place.instructions})
        for function in functions.values():
            function["places"].sort(key=lambda place: (-place["instructions"], place["address"]))
        return sorted(functions.values(), key=lambda function: (-function["instructions"], function["address"]))


def _regions(process: Process, symbols: Symbols) -> list[dict[str, Any]]:
    """All that were ever entered, the most executed first; of those that are gone no more is known than that."""
    cache = process.engine.cache
    found = []
    for key, retired in cache.all_retired.items():
        region = cache.get(key)
        row: dict[str, Any] = {"address": key[0], "symbol": symbols.at(key[0]), "boundary": key[1], "retired": retired}
        if region is not None:
            row |= {
                "guest_instructions": region.instructions, "host_bytes": region.size, "blocks": len(region.source),
                "code": [[start, len(code)] for start, code in region.source],
            }  # fmt: skip
        found.append(row)
    return sorted(found, key=lambda row: (-row["retired"], row["address"]))


# --- as a table ---------------------------------------------------------------------------------------------------


def text(data: dict[str, Any]) -> str:
    """`Profiler.data` for people."""
    total = data["instructions"]
    shown = f"{data['samples']:,} samples" if data["samples"] else "no samples: the run was too short"
    lines = [f"hot functions, of {total:,} instructions; {shown}", f"{'%':>7} {'about':>16}  {'address':>12}  function"]
    for function in data["functions"][:SHOWN]:
        name = function["name"] or "(no symbol)"
        hottest = "" if len(function["places"]) == 1 else _hottest(function)
        lines.append(
            f"{_share(function['instructions'], total):7.2f} {function['instructions']:16,}  "
            f"{function['address']:#12x}  {name:24} {hottest}".rstrip()
        )
    lines += _more(data["functions"])
    if "regions" not in data:
        return "\n".join(lines)
    retired = data["retired"]
    lines += [
        "", "hot regions, by exact counts",
        f"{'%':>7} {'retired':>16}  {'address':>12} {'blocks':>7} {'guest':>7} {'host':>8}  begins at",
        f"{'':7} {'':16}  {'':12} {'':>7} {'insns':>7} {'bytes':>8}",
    ]  # fmt: skip
    for row in data["regions"][:SHOWN]:
        if "host_bytes" in row:
            facts = f"{row['blocks']:7,} {row['guest_instructions']:7,} {row['host_bytes']:8,}"
        else:
            facts = f"{'':7} {'':7} {'gone':>8}"
        inside = "" if row["boundary"] else " (inside a block)"
        lines.append(
            f"{_share(row['retired'], total):7.2f} {row['retired']:16,}  {row['address']:#12x} {facts}  "
            f"{row['symbol'] or '(no symbol)'}{inside}"
        )
    lines += _more(data["regions"])
    rest = (("tier0", "stencils"), ("reference", "cold code, interpreted"), ("monitor", "callouts and slow paths"))
    lines += [f"{_share(retired[where], total):7.2f} {retired[where]:16,}  {name}" for where, name in rest]
    return "\n".join(lines)


def _hottest(function: dict[str, Any]) -> str:
    """Where in a function most samples are, and how much of them."""
    start, all_of_it = function["address"], function["instructions"]
    return ", ".join(
        f"+{place['address'] - start:#x} {_share(place['instructions'], all_of_it):.0f}%"
        for place in function["places"][:HOTTEST]
    )


def _share(part: int, total: int) -> float:
    return 100 * part / total if total else 0.0


def _more(rows: list[Any]) -> list[str]:
    return [f"{'':7} {'':16}  and {len(rows) - SHOWN:,} more"] if len(rows) > SHOWN else []
