"""`dragoman boot`: a machine from a kernel or firmware, with the options of qemu-system-riscv64.

Owns: its options, where files go in the machine's memory, how the command ends. Must not know: devices, harts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dbt.cli.devices import add_devices
from dbt.cli.errors import FAILURE, LIMIT, NOT_RUNNABLE, STATUSES, USAGE, Fail, opened, say, why
from dbt.cli.options import Parser, bad, number

if TYPE_CHECKING:
    from dbt.machine.boards import Board
    from dbt.machine.exits import Exit

KERNEL_ALIGNMENT = 2 << 20  # of a kernel behind firmware, and of what comes behind a kernel
TREE_BELOW = 3 << 30  # firmware reads the device tree below this distance from the begin of RAM
TREE_ROOM = 2 << 20
LEAST, MOST = 16 << 20, 64 << 30  # bytes of RAM


def memory_size(text: str) -> int:
    """As QEMU's -m: mebibytes, or with a unit."""
    found = re.fullmatch(r"(?:size=)?(\d{1,9})([kKmMgG]?)[bB]?", text)
    if found is None:
        raise bad(f"{text!r} is not a size, such as 512, 512M or 2G")
    value = int(found[1]) << {"": 20, "K": 10, "M": 20, "G": 30}[found[2].upper()]
    if not LEAST <= value <= MOST or value % (1 << 12):
        raise bad(f"{text} is not from {LEAST >> 20}M to {MOST >> 30}G, in whole pages")
    return value


def _parser() -> Parser:
    parser = Parser(
        "boot", "Start a machine: RISC-V firmware, a kernel, or a program for bare metal. It is QEMU's board `virt`.",
        "[@NAME]", STATUSES,
    )  # fmt: skip
    parser.option(
        "--kernel", metavar="FILE",
        help="what to start: an ELF file, the Image of a kernel or raw bytes, also compressed, or @NAME for one that "
        "comes with Dragoman; behind firmware in supervisor mode, else in machine mode",
    )
    parser.option("--bios", metavar="FILE", help="firmware to start first, at the begin of RAM (none: there is none)")
    parser.option("--initrd", metavar="FILE", help="a file system for the kernel, in its memory")
    parser.option("--append", metavar="TEXT", default="", help="the kernel's command line")
    parser.option("-m", "--memory", metavar="SIZE", type=memory_size, default=128 << 20, help="RAM (default: 128M)")
    parser.option("-M", "--machine", metavar="NAME", default="virt", help="the board: virt, which is the only one")
    parser.option("--smp", metavar="N", type=number(1, 1), default=1, help="harts: 1")
    parser.option(
        "--drive", metavar="file=FILE", action="append", default=[],
        help="a disk, as a virtio block device: file=FILE, and readonly=on, or snapshot=on, which leaves the file as "
        "it is; also if=none,id=NAME with a --device",
    )
    parser.option(
        "--device", metavar="KIND", action="append", default=[],
        help="virtio-blk-device,drive=NAME; virtio-rng-device: random bytes; virtio-serial-device: a second console, "
        "which has the terminal's input",
    )
    parser.option("--snapshot", action="store_true", help="leave all files of disks as they are")
    parser.option("--global", metavar="PROPERTY", action="append", default=[], help="taken, and of no effect")
    parser.option("--nographic", action="store_true", help="as it always is: the serial port is the terminal")
    parser.option(
        "--deterministic", action="store_true",
        help="make the run repeatable: time is the number of instructions and waiting takes none; input is read whole "
        "before the machine starts",
    )
    parser.option(
        "--max-instructions", metavar="N", type=number(0),
        help="stop at the end of the first block at which N instructions have been executed or waited for, with "
        "status 124",
    )
    parser.option("--dumpdtb", metavar="FILE", help="write the device tree there, and start nothing")
    return parser


def _normal(words: Sequence[str]) -> list[str]:
    """QEMU's words have one dash: -kernel is --kernel."""
    return ["-" + word if re.match(r"-[a-z]{2}", word) else word for word in words]


def command(words: Sequence[str]) -> int:
    parser = _parser()
    options, rest = parser.split(_normal(words))
    if len(rest) == 1 and rest[0].startswith("@") and options.kernel is None:
        options.kernel = rest[0]
    elif rest:
        parser.error(f"what is {rest[0]!r}? A kernel is given with -kernel")
    if options.machine.partition(",")[0] != "virt":
        parser.error(f"-machine: there is no board {options.machine!r} (there is: virt)")
    bios = None if options.bios == "none" else options.bios
    if options.kernel is None and bios is None and options.dumpdtb is None:
        parser.error("-kernel or -bios is wanted")
    if options.initrd is not None and options.kernel is None:
        parser.error("-initrd is for a kernel, and there is no -kernel")
    import guests
    from dbt.machine.boards import Board
    from dbt.machine.devices.console import Console
    from dbt.machine.terminal import Terminal

    terminal = Terminal()
    board = Board(guests.load_machine("riscv64"), options.memory, Console(terminal.write))
    add_devices(board, options)
    plan = opened(lambda: _load(board, bios, options.kernel, options.initrd), options.kernel or bios or "")
    tree = board.tree(options.append, plan.initrd)
    if options.dumpdtb is not None:
        return _write(options.dumpdtb, tree)
    board.vm.memory.poke(plan.tree, tree)
    board.add_htif(plan.symbols)
    board.reset(plan.start, plan.tree, plan.next_stage)
    with terminal:
        if options.deterministic:
            board.console.feed(b"" if terminal.interactive else sys.stdin.buffer.read())
        else:
            terminal.connect(board)
        exit = board.vcpu.run() if options.max_instructions is None else board.vcpu.run(options.max_instructions)
    return _status(exit, board)


class Plan(NamedTuple):
    """Where everything is."""

    start: int
    next_stage: int
    tree: int
    initrd: tuple[int, int] | None
    symbols: dict[str, int]


def _load(board: Board, bios: str | None, kernel: str | None, initrd: str | None) -> Plan:
    """Put the files into memory: firmware, the kernel behind it, the file system behind that, the tree at the end."""
    from dbt.machine import images
    from dbt.machine.boards import VIRT

    base = VIRT["ram"].base
    memory, guest = board.vm.memory, board.guest
    firmware = None if bios is None else images.place(memory, guest, bios, base)
    placed = None
    if kernel is not None:
        at = base if firmware is None else _up(firmware.end)
        placed = images.place(memory, guest, _file(kernel), at)
    tree = base + min(board.ram, TREE_BELOW) - TREE_ROOM
    behind = max((each.end for each in (firmware, placed) if each is not None), default=base)
    where = None
    if initrd is not None:
        data = images.read(initrd)
        start = _up(behind)
        images.put(memory, data, initrd, start)
        where = start, start + len(data)
        behind = start + len(data)
    if behind > tree:
        raise images.NotRunnable(f"{kernel or bios}: leaves no room in {board.ram >> 20} MiB of RAM: more with -m")
    first = firmware or placed
    symbols = {} if first is None else first.symbols
    return Plan(
        base if first is None else first.entry,
        placed.entry if firmware is not None and placed is not None else 0,
        tree, where, symbols,
    )  # fmt: skip


def _file(kernel: str) -> str:
    """The file that is meant by a path, or by "@name" for a bundled program of a machine; raises UnknownProgram."""
    if not kernel.startswith("@"):
        return kernel
    from guests import programs

    return programs.system_file(kernel)


def _up(address: int) -> int:
    return (address + KERNEL_ALIGNMENT - 1) & -KERNEL_ALIGNMENT


def _write(path: str, data: bytes) -> int:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise Fail(USAGE, f"cannot write {path}: {why(error)}") from None
    return 0


def _status(exit: Exit, board: Board) -> int:
    """The status that goes with how the machine ended, and the line that goes with ours."""
    from dbt.machine.exits import SYSTEM_EVENT_RESET, Hlt, Intr, Shutdown, SystemEvent

    match exit:
        case SystemEvent(kind, code):
            if kind == SYSTEM_EVENT_RESET:
                say("the machine asked for a reset, and ended")
            return code & 0xFF
        case Intr():
            say(f"the limit was reached after {board.vcpu.retired:,} instructions")
            return LIMIT
        case Shutdown(pc, cause):
            name = board.guest.trap_names.get(cause, f"cause {cause}")
            say(f"the hart is lost: its handler at {pc:#x} traps ({name}), for ever")
            return NOT_RUNNABLE
        case Hlt():
            say("the hart waits for an interrupt that nothing will ever send")
            return FAILURE
    raise AssertionError(exit)
