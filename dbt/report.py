"""What people read: how a guest ended, statistics, the instruction trace, facts of a program, what is implemented.

Owns: the words and the layout of all of it, and finding a symbol for an address. Must not know: how an engine
works, any architecture (names, disassembly and classes come from the guest), the command line.
"""

from __future__ import annotations

import os
import re
import signal as host_signal
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt import elf
from dbt.memory import EXEC, READ, WRITE, AddressSpace, MemoryFault
from dbt.process import Process, Settings
from dbt.reference import Stop
from guests.decode import planned
from guests.spec import Decoded, Guest, Treat

if TYPE_CHECKING:
    from guests.programs import Program

MASK = (1 << 64) - 1
_LISTED = re.compile(r"^([0-9a-fA-F]{8,16}) [a-zA-Z?] (\S+)", re.MULTILINE)
_LOOK_BACK = 256  # symbols before an address that are looked at: labels inside a function have no size


class Symbols:
    """From addresses to "function+0x12"."""

    def __init__(
        self, symbols: Iterable[elf.Symbol] = (), segments: Sequence[elf.Segment] = (), bias: int = 0
    ) -> None:
        self.bias = bias
        self.symbols = [s for s in symbols if not s.name.startswith(".L")]
        self._addresses = [s.address for s in self.symbols]
        self._segments = segments

    def at(self, address: int) -> str:
        """The function or object around an address, or the label before it in its segment; "" if there is none."""
        name, start = self.around(address)
        return _offset(name, address - start) if name else ""

    def around(self, address: int) -> tuple[str, int]:
        """The same and where it begins; "" and the address itself if there is none."""
        bias, address = self.bias, address - self.bias
        segment = next((s for s in self._segments if s.address <= address < s.end), None)
        if segment is None:
            return "", address + bias
        after = bisect_right(self._addresses, address)
        label = None
        for symbol in reversed(self.symbols[max(after - _LOOK_BACK, 0) : after]):
            if address < symbol.address + symbol.size:
                return symbol.name, symbol.address + bias
            if label is None and symbol.size == 0 and symbol.address >= segment.address:
                label = symbol
        return (label.name, label.address + bias) if label else ("", address + bias)


def _offset(name: str, offset: int) -> str:
    return f"{name}+{offset:#x}" if offset else name


def image_symbols(image: elf.Image, bias: int = 0) -> Symbols:
    """The symbols of a file."""
    return Symbols(image.symbols(), image.segments, bias)


def symbols_of(process: Process) -> Symbols:
    """The symbols of the program that a process runs."""
    loaded = process.kernel.loaded
    return image_symbols(process.image, loaded.bias if loaded else 0)


def listed_symbols(text: str) -> Symbols:
    """The symbols of a list such as nm, a kernel's System.map and /proc/kallsyms have: address, letter, name.

    Without any if it is no such list.
    """
    found = sorted({elf.Symbol(int(at, 16), 0, name) for at, name in _LISTED.findall(text) if int(at, 16)})
    if not found:
        return Symbols()
    first, last = found[0].address, found[-1].address
    return Symbols(found, [elf.Segment(first, last + 1 - first, 0, 0, READ | EXEC)])


def signal_name(number: int) -> str:
    try:
        return host_signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _disassembly(process: Process, pc: int) -> str:
    """The instruction at an address, "" where there is none."""
    try:
        decoded = process.guest.decode(process.space.fetch(pc))
    except MemoryFault:
        return ""
    return process.guest.disassemble(decoded, pc) if decoded else ""


def place(process: Process, pc: int) -> str:
    """An address of code as people want to see it: 0x10400 <main+0x8>: ld a0, 0(zero)."""
    name, text = symbols_of(process).at(pc), _disassembly(process, pc)
    return f"{pc:#x}" + (f" <{name}>" if name else "") + (f": {text}" if text else "")


def fault(process: Process, trap: Stop) -> str:
    """What a trap was: load page fault at 0x0."""
    name = process.guest.trap_names.get(trap.cause, f"trap {trap.cause}")
    if trap.cause == process.guest.illegal_cause:
        row = planned(process.guest.planned, trap.value)
        known = f" ({row.name} of the extension {row.extension}, which is not done yet)" if row else ""
        return f"{name} {trap.value:#x}{known}"
    return name if trap.cause == process.guest.breakpoint_cause else f"{name} at {trap.value:#x}"


def reason(process: Process) -> str:
    """One line on the signal that killed a guest."""
    assert process.signal is not None
    child = f" process {process.kernel.pid} ({os.fsdecode(process.kernel.thread.name)})" if process.child else ""
    line = f"guest{child} killed by {signal_name(process.signal)}"
    if process.trap is None:
        return line
    return f"{line}: {fault(process, process.trap)}, pc {place(process, process.pc)}"


def registers_text(process: Process) -> str:
    """The integer registers and pc, four a line."""
    cells = [(r.aliases[0] if r.aliases else r.name, process.state.slots[r.slot])
             for r in process.guest.registers if r.kind == "x" and r.slot != process.guest.zero_slot]  # fmt: skip
    cells.append(("pc", process.pc))
    shown = [f"{name:>4} {value:016x}" for name, value in cells]
    return "\n".join(" ".join(shown[i : i + 4]) for i in range(0, len(shown), 4))


def backtrace(process: Process) -> str:
    """The calls that a process is in, the innermost first, and why there are no more: a line each."""
    from dbt.unwind import Unwinder

    frames, why = Unwinder(process).frames()
    lines = []
    for number, frame in enumerate(frames):
        if frame.signal:
            lines.append(f"#{number:<2} handler of {signal_name(frame.signal)} entered")
            continue
        where = f" <{_offset(frame.function, frame.pc - frame.start)}>" if frame.function else ""
        file = f" in {frame.module.name}" if frame.module else ""
        lines.append(f"#{number:<2} {frame.pc:#x}{where}{file}")
    return "\n".join([*lines, f"the backtrace ends: {why}"])


# --- statistics -------------------------------------------------------------------------------------------------


def statistics(counts: Mapping[str, Any], load: float, wall: float, cpu: float) -> dict[str, Any]:
    """The counts of a run, of a process or a hart, with times in seconds: of loading, of running, of the processor."""
    blocks = counts["blocks"]
    more: dict[str, Any] = {}
    if "python_entries" in counts:
        more["python_entries_per_million_blocks"] = round(counts["python_entries"] / blocks * 1e6, 1) if blocks else 0.0
    return {
        **counts,
        **more,
        "load_seconds": round(load, 4),
        "wall_seconds": round(wall, 4),
        "cpu_seconds": round(cpu, 4),
        "instructions_per_second": round(counts["instructions"] / wall) if wall else 0,
    }


def statistics_shown(counts: Mapping[str, Any], times: tuple[float, float, float], form: str) -> str:
    """What `--stats` shows of these counts and times: a table, or with the form `json` one line."""
    import json

    stats = statistics(counts, *times)
    return json.dumps(stats) if form == "json" else statistics_text(stats)


def statistics_text(stats: Mapping[str, Any]) -> str:
    """`statistics` as a table."""
    total = stats["instructions"]
    lines = [("hart", str(stats["hart"]))] if "hart" in stats else []
    lines += [("engine", stats["engine"]), ("instructions", f"{total:>15,}")]
    for treat in Treat:
        count = stats[treat.value]
        lines.append((f"  {treat.value}", _part(count, total)))
    if "retired" in stats:
        lines.append(("executed by", ""))
        for where, name, what in _WHERE:
            lines.append((f"  {name}", f"{_part(stats['retired'][where], total)}  {what}"))
    each = f"  {total / stats['blocks']:6.2f} instructions each" if stats["blocks"] else ""
    lines.append(("blocks", f"{stats['blocks']:>15,}{each}"))
    lines += [(name, f"{stats[key]:>15,}") for key, name in _BESIDE.items() if key in stats]
    if "translations" in stats:
        looked = stats["cache_hits"] + stats["cache_misses"]
        lines += [
            ("stencils", f"{stats['copied_instructions']:>15,}  guest instructions made of them, in "
                         f"{stats['copied_blocks']:,} blocks"),
            ("regions made", f"{stats['translations']:>15,}"),
            ("  guest instructions", f"{stats['translated_instructions']:>15,}"),
            ("  bytes of host code", f"{stats['code_bytes']:>15,}"),
            *([("  refused", f"{stats['translations_refused']:>15,}  that no code could be made of")]
              if stats["translations_refused"] else []),
            *_worker_lines(stats["background"]),
            *_disk_lines(stats["disk"]),
            ("  invalidations", f"{stats['invalidations']:>15,}  dropped because guest code changed"),
            ("  writes to code pages", f"{stats['writes_to_code_pages']:>15,}"),
            ("cache", f"{stats['cache_bytes']:>15,}  bytes in use, {stats['cache_bytes_max']:,} at most"),
            ("  look-ups", f"{looked:>15,}  {100 * stats['cache_hits'] / looked if looked else 0:.1f} % found"),
            ("  evictions", f"{stats['cache_evictions']:>15,}  dropped to make room"),
            *((f"  {name}", f"{stats['cache_' + name]:>15,}") for name in ("overwrites", "refused")
              if stats['cache_' + name]),
            ("python entries", f"{stats['python_entries']:>15,}  {stats['python_entries_per_million_blocks']:,.1f} "
                               f"per million blocks"),
            ("exits of host code", f"{sum(stats['exits'].values()):>15,}"),
            *((f"  {why}", f"{count:>15,}") for why, count in stats["exits"].items() if count),
            ("translation", f"{sum(stats['seconds'].values()) + stats['background']['seconds']:>15.4f}  CPU seconds"),
            ("  in the worker", f"{stats['background']['seconds']:>15.4f}"),
            ("  in this process", f"{sum(stats['seconds'].values()):>15.4f}{_stages(stats['seconds'])}"),
        ]  # fmt: skip
    lines += [
        ("loading", f"{stats['load_seconds']:>15.4f}  seconds"),
        ("running", f"{stats['wall_seconds']:>15.4f}  seconds, {stats['cpu_seconds']:.4f} of CPU"),
        ("speed", f"{stats['instructions_per_second'] / 1e6:>15.2f}  million instructions/s, translation included"),
    ]
    return "\n".join(f"{name:22}{value}".rstrip() for name, value in lines)


_BESIDE = {"syscalls": "system calls", "traps": "traps"}  # what a process counts, and a hart
_WHERE = (
    ("regions", "regions", ""), ("tier0", "tier 0", "stencils"),
    ("monitor", "monitor", "callouts, and what left host code on a slow path"),
    ("reference", "reference", "the interpreter: cold code, and looks at what is hot"),
)  # fmt: skip


def _part(count: int, total: int) -> str:
    return f"{count:>15,}  {100 * count / total if total else 0:6.2f} %"


def _stages(seconds: Mapping[str, float]) -> str:
    """The stages that took any time."""
    found = ", ".join(f"{stage} {spent:.4f}" for stage, spent in seconds.items() if spent)
    return f"  {found}" if found else ""


def _worker_lines(background: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the worker was asked for; nothing if nothing was."""
    if not background["asked"]:
        return []
    what = {"answered": background["answered"], "refused": background["refused"], "forgotten": background["forgotten"]}
    lines = [("  asked of the worker", f"{background['asked']:>15,}  "
              + ", ".join(f"{count:,} {name}" for name, count in what.items()))]  # fmt: skip
    if background["lost"]:
        lines.append(("  workers lost", f"{background['lost']:>15,}"))
    return lines


def _disk_lines(disk: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What came from disk and went there; nothing if nothing did."""
    if not disk["pages"]:
        return []
    damaged = f", {disk['damaged']:,} records damaged" if disk["damaged"] else ""
    return [
        ("regions from disk", f"{disk['found']:>15,}  {disk['pages']:,} look-ups{damaged}"),
        ("  written", f"{disk['written']:>15,}  {disk['bytes']:,} bytes"),
        ("  disk time", f"{disk['seconds']:>15.4f}  CPU seconds"),
    ]


# --- the instruction trace --------------------------------------------------------------------------------------


class TracedProcess(Process):
    """A process under the reference interpreter that tells every instruction and what it changed.

    `write` is given one line for each: address, symbol, instruction, registers old->new, memory [address]size=value.
    A system call is shown with what it returned, an instruction that traps with its trap.
    """

    def __init__(self, path: str | Path, args: Sequence[str], settings: Settings, write: Callable[[str], None]) -> None:
        if settings.engine != "reference":
            raise ValueError("only the reference engine can be traced")
        super().__init__(path, args, settings)
        self._write = write
        self._symbols = symbols_of(self)
        self._names = {r.slot: r.aliases[0] if r.aliases else r.name for r in self.guest.registers}
        self._before = self.state.slots.tolist()
        self._stores: list[str] = []
        self.engine.watch = self._after
        self.engine.observe_stores(self._stored)

    def handle(self, stop: Stop) -> None:
        pc = self.pc
        if not stop.trap:
            return
        call = stop.cause == self.guest.syscall_cause
        what = self.kernel.name(self.state.slots[self._number]) if call else fault(self, stop)
        super().handle(stop)
        end = f"exit {self.status}" if self.status is not None else signal_name(self.signal) if self.signal else ""
        self._line(pc, _disassembly(self, pc), (f"({what})", *self._changes(), end))

    def _after(self, pc: int, decoded: Decoded) -> None:
        self._line(pc, self.guest.disassemble(decoded, pc), self._changes())

    def _stored(self, address: int, size: int, value: int) -> None:
        self._stores.append(f"[{address:#x}]{size}={value:#x}")

    def _changes(self) -> list[str]:
        """Registers and memory changed since the last call."""
        now, before = self.state.slots.tolist(), self._before
        changes = []
        if now != before:
            for slot, name in self._names.items():
                if now[slot] != before[slot]:
                    changes.append(f"{name} {before[slot]:#x}->{now[slot]:#x}")
        self._before = now
        changes += self._stores
        self._stores.clear()
        return changes

    def _line(self, pc: int, text: str, changes: Iterable[str]) -> None:
        name = self._symbols.at(pc)
        shown = " ".join(change for change in changes if change)
        self._write(f"{pc:#x} {f'<{name}>' if name else '':20} {text:28} {shown}".rstrip())


# --- facts of a program -----------------------------------------------------------------------------------------

_SWEEP = 64 << 20  # bytes of code that are looked at


def program_text(path: Path, guest: Guest, bundled: Program | None = None) -> str:
    """What an ELF file is, what is in it, and which instruction set it needs of all that the guest has."""
    image = elf.open_image(path, guest.linux)
    symbols = image_symbols(image)
    entry = symbols.at(image.entry)
    kind = "position-independent executable" if image.position_independent else "executable at fixed addresses"
    lines = [f"{path}: {guest.name} {kind}"]
    if bundled is not None:
        lines.append(f"bundled as @{bundled.name}: {bundled.about} ({bundled.kind})")
    lines += [
        f"size      {len(image.data):,} bytes, {len(image.symbols()):,} symbols, ELF flags {image.flags:#x}",
        f"entry     {image.entry:#x}" + (f" <{entry}>" if entry else ""),
        "stack     " + ("executable" if image.executable_stack else "not executable"),
        f"segments  {'address':>18} {'in memory':>13} {'in file':>13}  rights",
    ]
    for s in image.segments:
        rights = "".join(letter if s.protection & bit else "-" for letter, bit in zip("rwx", (READ, WRITE, EXEC)))
        lines.append(f"          {s.address:#18x} {s.size:13,} {s.file_size:13,}  {rights}")
    by_extension: Counter[str] = Counter()
    by_class: Counter[str] = Counter()
    needed: set[str] = set()
    unknown = total = 0
    for decoded in _sweep(image, guest.decode):
        if decoded is None:
            unknown += 1
            continue
        total += 1
        by_extension[decoded.row.extension] += 1
        by_class[decoded.treat.value] += 1
        needed |= decoded.row.requires
    lines += [
        f"code      {total:,} instructions, swept from start to end of the executable segments",
        "          by extension: " + _counted(by_extension),
        "          by class: " + _counted(by_class),
    ]
    if unknown:
        lines.append(f"          {unknown:,} places that are data, or instructions that are not implemented")
    if needed:
        lines.append(f"needs     {_isa(needed)} (at most: data may look like an instruction)")
    return "\n".join(lines)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"


def _sweep(image: elf.Image, decode: Callable[[int], Decoded | None]) -> Iterable[Decoded | None]:
    """Decode executable segments from start to end; None for a place that does not decode."""
    for segment in image.segments:
        if not segment.protection & EXEC:
            continue
        code = image.data[segment.offset : segment.offset + min(segment.file_size, _SWEEP)]
        at = 0
        while at + 2 <= len(code):
            word = code[at] | code[at + 1] << 8
            if word & 3 == 3:
                word |= int.from_bytes(code[at + 2 : at + 4], "little") << 16
            decoded = decode(word)
            yield decoded
            at += decoded.length if decoded else 4 if word & 3 == 3 else 2


def _isa(extensions: set[str]) -> str:
    order = "imafdqcbv"
    letters = sorted((e for e in extensions if len(e) == 1), key=lambda e: (order.find(e) % 99, e))
    return "_".join(["rv64" + "".join(letters), *sorted(e for e in extensions if len(e) > 1)])


def programs_text() -> str:
    """The bundled programs, a line each: of user mode, of a machine, of a virtual machine."""
    from guests.programs import PROGRAMS, SYSTEMS, VIRTUALS

    lines = [f"{'name':12} {'kind':8} {'small':>12} {'large':>16}  about"]
    for p in PROGRAMS.values():
        lines.append(f"@{p.name:11} {p.kind:8} {p.small_instructions:12,} {p.large_instructions:16,}  {p.about}")
    lines.append("small and large: guest instructions, about, with that word as the argument")
    lines += ["", "programs of a machine, for dragoman boot -kernel:"]
    lines += [f"@{s.name:11} {s.about}" for s in SYSTEMS.values()]
    lines += ["", "guests of a virtual machine, for a monitor:"]
    lines += [f"@{v.name:11} {v.about}" for v in VIRTUALS.values()]
    return "\n".join(lines)


def isa_text(process: Guest, machine: Guest) -> str:
    """What guests have: the ISA string of a process, that of a hart, and the modes of a hart."""
    assert machine.privileged is not None
    more = sorted(machine.features - process.features - {"system"})
    return "\n".join([
        f"process  {process.isa}", "_".join([f"machine  {process.isa}", *more]),
        f"modes    {' '.join(machine.privileged.inspection.modes.values())}",
        "         and with boot -cpu rv64,h=true the hypervisor extension: VS VU",
    ])  # fmt: skip


def coverage_text(guest: Guest) -> str:
    """Instructions of a guest and system calls: which are done, which are not."""
    from dbt.linux.kernel import Kernel

    done: Counter[str] = Counter()
    todo: dict[str, list[str]] = {}
    for row in (*guest.rows, *guest.planned):
        todo.setdefault(row.extension, [])
        if row.body is None:
            todo[row.extension].append(row.name)
        else:
            done[row.extension] += 1
    lines = [f"instructions of {guest.name}: {sum(done.values())} done, {sum(map(len, todo.values()))} to do"]
    for extension, missing in todo.items():
        left = f", to do: {' '.join(missing)}" if missing else ""
        lines.append(f"  {extension:12} {done[extension]:4} done{left}")
    space = AddressSpace()
    rows = Kernel(space, guest.linux, argv=[], env=[], executable="/").coverage()
    space.close()
    calls = {status: [r for r in rows if r.status == status] for status in ("done", "refused", "todo")}
    lines.append(f"system calls of Linux: {len(calls['done'])} done, {len(calls['refused'])} refused on purpose, "
                 f"{len(calls['todo'])} to do (both of these give ENOSYS)")  # fmt: skip
    lines += _wrapped("  done: ", [r.name for r in calls["done"]])
    lines += [f"  refused: {r.name} ({r.note})" for r in calls["refused"]]
    lines += _wrapped("  to do: ", [r.name for r in calls["todo"]])
    return "\n".join(lines)


_SYSCALLS_HEAD = """\
# System calls

Every system call of Linux on riscv64, as `dragoman info --syscalls` lists them from the tables that run. What is
*refused* returns `ENOSYS` on purpose, as a kernel does that was built without it; what is *not done* returns it, too,
and is named once on standard error. [Deviations](deviations.md) says where a call that is done differs from Linux.
"""


def syscalls_text(guest: Guest) -> str:
    """The page docs/syscalls.md: each system call of a guest's Linux, and whether it is done."""
    from dbt.linux.kernel import Kernel

    space = AddressSpace()
    rows = Kernel(space, guest.linux, argv=[], env=[], executable="/").coverage()
    space.close()
    names = {"done": "done", "refused": "refused", "todo": "not done"}
    counts = Counter(row.status for row in rows)
    counted = ", ".join(f"{counts[status]} {name}" for status, name in names.items())
    return "\n".join([
        _SYSCALLS_HEAD, f"{len(rows)} calls: {counted}.", "", "| number | name | | note |", "|---|---|---|---|",
        *(f"| {row.number} | `{row.name}` | {names[row.status]} | {row.note.replace('|', '&#124;')} |" for row in rows),
    ])  # fmt: skip


def _wrapped(head: str, words: list[str]) -> list[str]:
    import textwrap

    return textwrap.wrap(" ".join(words), 110, initial_indent=head, subsequent_indent=" " * len(head))
