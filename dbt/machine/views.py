"""What the monitor shows of a machine, as text; where QEMU's monitor shows the same, in its form.

Owns: how things look. Must not know: commands. Nothing here changes the machine.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.machine.boards import IRQS, Board
from dbt.machine.devices.block import Block
from dbt.machine.devices.virtio import Function, Virtio
from dbt.machine.devices.virtio_net import VirtioNet
from dbt.machine.pool import runs
from dbt.machine.vm import Vcpu
from guests.spec import Absent, Decoded, Mapped

PAGE = 1 << 12
Read = Callable[[int, int], bytes]  # (address, length): bytes there; Absent where there are none
_DIGITS = {"x": lambda size: 2 * size, "o": lambda size: -(-8 * size // 3), "d": lambda size: -(-80 * size // 33),
           "u": lambda size: -(-80 * size // 33), "c": lambda size: 0}  # fmt: skip


# --- memory -------------------------------------------------------------------------------------------------------


def _doubleword(vcpu: Vcpu) -> Callable[[int], int]:
    return lambda address: int.from_bytes(vcpu.vm.memory.peek(address, 8), "little")


def reader(vcpu: Vcpu) -> Read:
    """Reads RAM at addresses as the hart has them now, whatever it may; Absent where nothing is mapped, or no RAM."""
    slots, inspection = vcpu.state.slots, vcpu.privileged.inspection

    def read(address: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            at = address + len(data) & (1 << 64) - 1
            where = inspection.physical(slots, _doubleword(vcpu), at)
            if where is None:
                raise Absent
            data += vcpu.vm.memory.peek(where, min(length - len(data), PAGE - at % PAGE))
        return data

    return read


def number(value: int, letter: str, size: int) -> str:
    """A value of `size` bytes in a column: x, o, u, d or c."""
    width = _DIGITS[letter](size)
    match letter:
        case "x":
            return f"0x{value:0{width}x}"
        case "o":
            return f"{'0' * bool(value)}{value:o}".rjust(width)
        case "d":
            return str(value - (value >> 8 * size - 1 << 8 * size)).rjust(width)
        case "c":
            return repr(chr(value)) if 32 <= value < 127 else f"'\\x{value:02x}'"
    return str(value).rjust(width)


def dump(address: int, count: int, letter: str, size: int, read: Read) -> str:
    """`count` values of `size` bytes, 16 bytes a line, or 8 of single bytes."""
    if letter == "c":
        size, across = 1, 16
    else:
        across = 8 if size == 1 else 16 // size
    lines = []
    for first in range(0, count, across):
        at = address + first * size & (1 << 64) - 1
        some = min(across, count - first)
        data = read(at, some * size)
        values = (int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(some))
        lines.append(f"{at:016x}: " + " ".join(number(value, letter, size) for value in values))
    return "\n".join(lines) + "\n"


def instruction(board: Board, address: int, read: Read) -> tuple[str, int]:
    """An instruction's address, word and text, and its length. Absent where there is none."""
    word = int.from_bytes(read(address, 2), "little")
    if word & 3 == 3:
        word |= int.from_bytes(read(address + 2, 2), "little") << 16
    return decoded(board, address, word, board.guest.decode(word)), 4 if word & 3 == 3 else 2


def decoded(board: Board, address: int, word: int, what: Decoded | None) -> str:
    """A line of disassembly."""
    text = "(illegal)" if what is None else board.guest.disassemble(what, address)
    return f"0x{address:016x}:  {word:0{8 if word & 3 == 3 else 4}x}".ljust(32) + text


def instructions(board: Board, address: int, count: int, read: Read) -> str:
    """So many instructions from an address on."""
    lines = []
    for _ in range(count):
        line, length = instruction(board, address, read)
        lines.append(line)
        address += length
    return "\n".join(lines) + "\n"


def here(board: Board) -> str:
    """The instruction that is next, and whether the hart waits before it; of several, which hart it is."""
    vcpu = board.vcpu
    told = f"CPU#{vcpu.number}\n" if len(board.vcpus) > 1 else ""
    told += "" if vcpu.ready else "the hart waits for an interrupt\n"
    try:
        return told + instructions(board, vcpu.state.pc, 1, reader(vcpu))
    except Absent:
        return told + f"0x{vcpu.state.pc:016x}:  nothing is there\n"


# --- harts --------------------------------------------------------------------------------------------------------


def harts(board: Board) -> str:
    """Each hart: where it is, and what it does; `*` is the one that is looked at."""
    def does(vcpu: Vcpu) -> str:
        if vcpu.waits:
            return vcpu.privileged.inspection.waiting[vcpu.state.slots[vcpu.privileged.waiting_slot]]
        return "running" if vcpu is board.vm.turn else "ready"

    return "".join([
        f"{'*' if vcpu is board.vcpu else ' '} CPU #{vcpu.number}: pc={vcpu.state.pc:#018x} {does(vcpu)}, "
        f"{vcpu.retired:,} instructions\n" for vcpu in board.vcpus
    ])  # fmt: skip


def values(board: Board) -> dict[str, int]:
    """All registers by name, control registers among them."""
    state = board.vcpu.state
    found = {"pc": state.pc, **board.vcpu.privileged.inspection.control(board.vcpu.at_rest())}
    for register in board.guest.registers:
        if register.kind in "xf":
            found |= dict.fromkeys((register.name, *register.aliases), state.slots[register.slot])
    return found


def registers(vcpu: Vcpu) -> str:
    """Control registers, one a line, then the others, four a line."""
    mode = vcpu.mode
    control = vcpu.privileged.inspection.control(vcpu.at_rest())
    lines = [f"CPU#{vcpu.number}", f" mode     {vcpu.privileged.inspection.modes[mode]}"]
    lines.append(f" pc       {vcpu.state.pc:016x}")
    lines += [f" {name:<8} {value:016x}" for name, value in control.items()]
    for kind in "xf":
        file = [register for register in vcpu.vm.guest.registers if register.kind == kind]
        shown = [f"{'/'.join((r.name, *r.aliases)):<8} {vcpu.state.slots[r.slot]:016x}" for r in file]
        lines += [" " + " ".join(shown[i : i + 4]) for i in range(0, len(shown), 4)]
    return "\n".join(lines) + "\n"


def mappings(board: Board) -> str:
    """What the page tables map; runs that follow one another in both spaces, with the same rights, are one."""
    vcpu = board.vcpu
    found = vcpu.privileged.inspection.mappings(vcpu.state.slots, _doubleword(vcpu))
    if found is None:
        return "No translation or protection\n"
    runs: list[Mapped] = []
    for leaf in found:
        last = runs[-1] if runs else leaf
        if leaf == last._replace(virtual=last.virtual + last.size, physical=last.physical + last.size, size=leaf.size):
            runs[-1] = last._replace(size=last.size + leaf.size)
        else:
            runs.append(leaf)
    lines = [f"{'vaddr':<16} {'paddr':<16} {'size':<16} attr", f"{'-' * 16} {'-' * 16} {'-' * 16} -------"]
    lines += [f"{run.virtual:016x} {run.physical:016x} {run.size:016x} {run.rights}" for run in runs]
    return "\n".join(lines) + "\n"


def walk(vcpu: Vcpu, address: int, access: str) -> str:
    """A translation of the hart's, step by step: which entries of tables are read, of which stage, where they lead."""
    inspection = vcpu.privileged.inspection
    whole = f"a {access} of hart {vcpu.number} in {inspection.modes[vcpu.mode]}-mode"
    lines = []
    for step in inspection.walk(vcpu.state.slots, _doubleword(vcpu), address, 1, access):
        indent = "  " * step.depth
        match step.what:
            case "begin":
                text = f"{step.stage}: {step.address:#x}, tables from {step.value:#x} on"
            case "read" | "write":
                text = f"  level {step.level}: entry at {step.address:#x} {'=' if step.what == 'read' else 'becomes'} "
                text += f"{step.value:#018x} {step.rights}"
            case _:
                traps = step.what == "fault"
                leads = f"traps: {inspection.trap(step.value, vcpu.mode)[1]}" if traps else f"is {step.value:#x}"
                text = f"{step.stage or whole}: {step.address:#x} {leads}"
        lines.append(indent + text)
    return "\n".join(lines) + "\n"


def tlb(board: Board) -> str:
    """Pages whose place the engine remembers: for loads (l), stores (s), fetches (f)."""
    contexts, pages = board.vcpu.space.remembered()
    lines = [f"{contexts} contexts, {len(pages)} pages in the present one"]
    lines += [f"{at:016x} {where:016x} {''.join(kind if kind in kinds else '-' for kind in 'lsf')}"
              for at, where, kinds in pages]  # fmt: skip
    return "\n".join(lines) + "\n"


def engine(board: Board) -> str:
    """Counts of the engine."""
    vcpu = board.vcpu
    classes = ", ".join(f"{count:,} {treat.value}" for treat, count in vcpu.engine.classes.items())
    lines = [f"engine        {vcpu.engine.name}", f"instructions  {vcpu.retired:,}",
             f"blocks        {vcpu.state.blocks:,}", f"by class      {classes}"]  # fmt: skip
    lines += [f"{name:<13} {value}" for name, value in vcpu.engine.kept()]
    return "\n".join(lines) + "\n"


def interrupts(board: Board) -> str:
    """Interrupts of the hart, traps it has taken, sources of the interrupt controller."""
    vcpu = board.vcpu
    inspection = vcpu.privileged.inspection
    taken = vcpu.taken
    lines = ["interrupt             cause pending enabled to       taken"]
    for each in inspection.interrupts(vcpu.at_rest()):
        count = sum(number for (cause, _), number in taken.items() if cause == each.cause)
        yes = ["yes" if flag else "-" for flag in (each.pending, each.enabled)]
        lines.append(f"{each.name:<21} {each.cause & 63:5} {yes[0]:<7} {yes[1]:<7} {each.mode:<2} {count:11,}")
    lines.append("trap")
    for (cause, mode), count in sorted(taken.items()):
        if not cause >> 63:
            code, name = inspection.trap(cause, mode)
            lines.append(f"{name:<32} {code:3} from {inspection.modes[mode]} {count:11,}")
    lines.append("source  priority pending served by context")
    for source, priority, pending, served, contexts in board.plic.sources():
        name = next((m.device.name for m in board.vm.memory.devices if IRQS.get(m.base) == source), "")
        flags = ["yes" if flag else "-" for flag in (pending, served)]
        lines.append(f"{source:6}  {priority:8} {flags[0]:<7} {flags[1]:<6} {contexts} {name}".rstrip())
    return "\n".join(lines) + "\n"


def clock(board: Board, before: int) -> str:
    """Instructions, waiting, and what the guest's clock shows."""
    each = board.vm.clock
    lines = [f"instructions  {each.retired:,}", f"waited        {each.waited / 1e9:.3f} s",
             f"time          {each.time}"]  # fmt: skip
    if before:
        lines.append(f"before resets {before:,} instructions")
    return "\n".join(lines) + "\n"


# --- devices ------------------------------------------------------------------------------------------------------


def devices(board: Board) -> str:
    """Each device: where it is, its interrupt, and for virtio's what its driver has set up."""
    lines = []
    for base, device in board.vm.memory.devices:
        irq = IRQS.get(base, 0)
        lines.append(f"dev: {device.name}" + (f", irq {irq}" if irq else ""))
        lines.append(f"  mmio {base:016x}/{device.size:016x}")
        if isinstance(device, Virtio):
            lines += [f"  {line}" for line in device.described()]
    return "\n".join(lines) + "\n"


def memory_map(board: Board) -> str:
    """Everything that answers at physical addresses."""
    found = [(slot.base, slot.size, "ram") for slot in board.vm.memory.slots]
    found += [(base, device.size, f"i/o {device.name}") for base, device in board.vm.memory.devices]
    return "".join(f"{base:016x}-{base + size - 1:016x} {what}\n" for base, size, what in sorted(found))


def pool_map(board: Board) -> str:
    """Which pages of the pool RAM is: runs that are contiguous in both."""
    pooled = board.vm.memory.pooled
    if not pooled:
        return "RAM is of no pool (--hpa-layout)\n"
    lines = ["guest-physical                    pool             pages"]
    for base, pages in sorted(pooled.items()):
        for at, page, count in runs(pages):
            first = base + at * PAGE
            lines.append(f"{first:016x}-{first + count * PAGE - 1:016x} {page * PAGE:016x} {count:5}")
    return "\n".join(lines) + "\n"


def _functions(board: Board) -> list[Function]:
    """Those of virtio's devices, in the order of their transports."""
    return [device.function for _, device in board.vm.memory.devices if isinstance(device, Virtio)]


def disks(board: Board) -> str:
    """The disks."""
    found = [each.described() for each in _functions(board) if isinstance(each, Block)]
    return "".join(f"{each}\n" for each in found) or "there is none\n"


def networks(board: Board) -> str:
    """The network devices, and what goes on in their networks."""
    found = [each.described() for each in _functions(board) if isinstance(each, VirtioNet)]
    return "".join("\n  ".join(lines) + "\n" for lines in found) or "there is none\n"
