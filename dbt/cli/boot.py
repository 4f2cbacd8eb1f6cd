"""`dragoman boot`: a machine from a kernel or firmware, with the options of qemu-system-riscv64.

Owns: its options, what is connected to what, how the command ends. Must not know: devices, harts.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

from dbt.cli.devices import epoch, functions
from dbt.cli.errors import DIFFER, FAILURE, LIMIT, NOT_FOUND, NOT_RUNNABLE, STATUSES, USAGE, Fail, opened, say, why
from dbt.cli.lines import lines
from dbt.cli.options import Parser, bad, events_option, flag, number, numbered, stats_option

if TYPE_CHECKING:
    from dbt.machine.boards import Board
    from dbt.machine.devices.console import Console
    from dbt.machine.devices.virtio import Function
    from dbt.machine.exits import Exit
    from dbt.machine.lockstep import Make
    from dbt.machine.log import Log
    from dbt.machine.pool import Pool
    from dbt.options import Options
    from dbt.report import Symbols
    from guests.spec import Guest

IGNORED = {  # words of QEMU's that hold anyway, or are about what a machine of ours never has: their values
    "global": "PROPERTY", "accel": "NAME", "display": "none", "name": "NAME", "parallel": "none",
    "vga": "none", "nodefaults": "", "no-user-config": "",
}  # fmt: skip
REFUSED = {
    "-s": "there is no server for a debugger yet; the monitor (Ctrl-A c) stops and steps",
    "-gdb": "there is no server for a debugger yet; the monitor (Ctrl-A c) stops and steps",
    "-net": "-netdev and -nic are its newer forms",
    "-icount": "--deterministic makes time the number of instructions",
    "-qmp": "the monitor speaks lines of text only (-monitor)", "-chardev": "-serial and -monitor name their lines",
    "-mon": "-serial and -monitor name their lines", "-enable-kvm": "a machine is translated",
    "-dfilter": "the log cannot be narrowed to addresses", "-plugin": "plugins are QEMU's own",
    "-loadvm": "there are no snapshots of machines yet",
}  # fmt: skip
OPENSBI = (
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
)
LEAST, MOST = 16 << 20, 64 << 30  # bytes of RAM
MOST_HARTS = 8
MODELS = ("rv64", "max", "any")  # all that there is
HYPERVISOR = {"": False, "h=true": True, "h=on": True, "h=false": False, "h=off": False}
LAYOUTS = IDENTITY, SCATTER = ("identity", "scatter")
TOPOLOGY = ("cpus", "maxcpus", "drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")


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
    parser.option(
        "--bios", metavar="FILE", default="own",
        help="firmware to start first, at the begin of RAM; own (the default): it is no program, Dragoman answers a "
        "kernel's calls (SBI), but for a kernel that is linked for the very begin of RAM; none: there is none, and the "
        "kernel begins in machine mode; default: OpenSBI, as Debian's packages opensbi and qemu-system-data have it",
    )
    parser.option("--initrd", metavar="FILE", help="a file system for the kernel, in its memory")
    parser.option("--dtb", metavar="FILE", help="a device tree in place of the board's")
    parser.option("--append", metavar="TEXT", default="", help="the kernel's command line")
    parser.option("-m", "--memory", metavar="SIZE", type=memory_size, default=128 << 20, help="RAM (default: 128M)")
    parser.option(
        "--hpa-layout", choices=LAYOUTS, default=None,
        help="have RAM made of pages of a pool, in its order (identity), or each at random in it (scatter); the guest "
        "sees no difference (default: there is no pool)",
    )
    parser.option("--seed", metavar="N", type=number(0), help="how --hpa-layout=scatter scatters them (default: 0)")
    parser.option("-M", "--machine", metavar="NAME", default="virt", help="the board: virt, which is the only one")
    parser.option(
        "--cpu", metavar="MODEL", type=model, default=(None, False),
        help="rv64, max, or an ISA string such as rv64imac or rv64gc_zba (default: all of `dragoman info --isa`); with "
        "the hypervisor extension as in rv64,h=true or rv64gch (default: without)",
    )
    parser.option("--smp", metavar="N", type=harts, default=1, help=f"harts, at most {MOST_HARTS} (default: 1)")
    parser.option(
        "--drive", metavar="file=FILE", action="append", default=[],
        help="a disk, as a virtio block device: file=FILE, and readonly=on, or snapshot=on, which leaves the file as "
        "it is; also if=none,id=NAME with a --device",
    )
    parser.option(
        "--device", metavar="KIND", action="append", default=[],
        help="virtio-blk-device,drive=NAME; virtio-net-device,netdev=NAME; virtio-rng-device: random bytes; "
        "virtio-serial-device: a second console, which has the terminal's input",
    )
    parser.option(
        "--netdev", metavar="KIND,id=NAME", action="append", default=[],
        help="a network for a --device. user: the guest gets 10.0.2.15 by DHCP, and reaches the host's 127.0.0.1 as "
        "10.0.2.2 and what the host reaches; with hostfwd=tcp:127.0.0.1:PORT-:PORT the host reaches a port of the "
        "guest, and with restrict=on the guest reaches nothing. socket: a wire to another machine, of ours or QEMU's, "
        "with listen=ADDRESS:PORT or connect=ADDRESS:PORT",
    )
    parser.option(
        "--nic", metavar="KIND", action="append", default=[],
        help="a network and its device in one, as in user,hostfwd=..., also mac=; none: of no effect",
    )
    parser.option("--snapshot", action="store_true", help="leave all files of disks as they are")
    parser.option(
        "--rtc", metavar="base=TIME",
        help="what the clock of the day shows at the begin: utc (the default), localtime, or a date such as "
        "2026-01-31T12:00:00; with --deterministic it is a date, by default in 2023",
    )
    for name, value in IGNORED.items():
        how = {"metavar": value, "action": "append"} if value else {"action": "store_true"}
        parser.option(f"--{name}", help="taken, and of no effect", **how)
    parser.option("--nographic", action="store_true", help="as it always is: the serial port is the terminal")
    parser.option(
        "--serial", metavar="LINE",
        help="where the serial port leads: mon:stdio, the terminal with the keys of Ctrl-A (default at a terminal); "
        "stdio, without them (the default elsewhere); none; file:FILE; unix:PATH,server=on,wait=off",
    )
    parser.option("--monitor", metavar="LINE", help="where a monitor leads (default: none but that of Ctrl-A c)")
    parser.option("-S", "--stopped", action="store_true", help="do not start until the monitor says cont")
    parser.option("--no-reboot", action="store_true", help="end when the machine asks for a reset")
    parser.option(
        "-d", "--log-items", metavar="ITEMS",
        help="log what happens in the machine: -d help lists the items; they go to stderr",
    )
    parser.option("-D", "--log", metavar="FILE", help="where lines of -d, --events and --stats go; %%d is our process")
    stats_option(parser, ", of each hart since the last reset")
    parser.option(
        "--deterministic", action="store_true",
        help="make the run repeatable: time is the number of instructions and waiting takes none; input is read whole "
        "before the machine starts",
    )
    parser.option(
        "--max-instructions", metavar="N", type=number(0),
        help="stop at the end of the first block at which N instructions have been executed, with status 124",
    )
    parser.option(
        "--engine", choices=("translated", "reference"), default="translated",
        help="what runs the machine: the reference interpreter is the same machine, slowly (default: translated)",
    )
    events_option(parser, "and at the end write a line: how many have been executed, pc, and a digest of the machine")
    parser.option(
        "--lockstep", metavar="N", type=number(1, 4000),
        help="run the machine in both engines, its input read whole before it starts, and compare all registers after "
        "at most N instructions and the rest of a block; say where they differ, or that they do not",
    )
    parser.option("--dumpdtb", metavar="FILE", help="write the device tree there, and start nothing")
    return parser


def model(text: str) -> tuple[str | None, bool]:
    """-cpu: an ISA string, or None for all that there is; and whether with the hypervisor extension."""
    name, _, given = text.partition(",")
    if name not in MODELS and not name.startswith("rv64"):
        raise bad(f"there is no model {name!r} (there are: {' '.join(MODELS)}, and ISA strings)")
    if given not in HYPERVISOR:
        raise bad(f"{given!r} is no property of a model (there is: h=true)")
    return None if name in MODELS else name, HYPERVISOR[given]


def harts(text: str) -> int:
    """-smp: how many, by itself or as cpus=, and what makes up so many."""
    given: dict[str, int] = {}
    for i, part in enumerate(text.split(",")):
        name, _, value = part.rpartition("=")
        name = name or ("cpus" if i == 0 else part)
        if name not in TOPOLOGY or name in given or not value.isascii() or not value.isdigit():
            raise bad(f"{text!r} is no number of harts, such as 2 or cpus=2")
        given[name] = int(value[:4])
    product = prod(given.get(name, 1) for name in TOPOLOGY[2:])
    count = given.get("cpus", product)
    if product not in (1, count) or given.get("maxcpus", count) != count:
        raise bad(f"{text!r}: these are not {count} harts")
    if not 1 <= count <= MOST_HARTS:
        raise bad(f"{text} is not from 1 to {MOST_HARTS} harts")
    return count


def normal(words: Sequence[str]) -> list[str]:
    """QEMU's words have one dash: -kernel is --kernel."""
    return ["-" + word if re.match(r"-[a-z]{2}", word) else word for word in words]


def command(words: Sequence[str]) -> int:
    options = asked(words)
    if options is None:
        return 0
    return _boot(options) if options.lockstep is None else _lockstep(options)


def asked(words: Sequence[str]) -> Any:
    """The options that are meant; None if there was a question, which is answered. Raises Fail."""
    for word in words:
        if word in REFUSED:
            raise Fail(USAGE, f"{word} of qemu-system-riscv64 is not done: {REFUSED[word]}")
    parser = _parser()
    ours = normal(words)
    options, rest = parser.split(ours)
    if rest and rest[0].startswith("@"):  # options may come behind it
        name = rest[0]
        options, rest = parser.split(ours[: -len(rest)] + rest[1:])
        if options.kernel is not None:
            rest.insert(0, name)
        options.kernel = options.kernel or name
    if options.log_items == "help":
        from dbt.machine.log import Log

        sys.stdout.write(Log.help())
        return None
    if rest:
        parser.error(f"what is {rest[0]!r}? A kernel is given with -kernel")
    if options.machine.partition(",")[0] != "virt":
        parser.error(f"-machine: there is no board {options.machine!r} (there is: virt)")
    options.bios = _firmware() if options.bios == "default" else None if options.bios == "none" else options.bios
    if options.kernel is None and options.bios in (None, "own") and options.dumpdtb is None:
        parser.error("-kernel or -bios is wanted")
    if options.initrd is not None and options.kernel is None:
        parser.error("-initrd is for a kernel, and there is no -kernel")
    if options.kernel is not None:
        options.kernel = opened(lambda: _file(options.kernel), "")
    if options.seed is not None and options.hpa_layout != SCATTER:
        parser.error(f"--seed is for --hpa-layout={SCATTER}")
    if options.lockstep is not None:
        if options.drive and not options.snapshot:
            parser.error("--lockstep is two machines, which cannot both write a disk: add -snapshot")
    return options


def _board(
    options: Any, console: Console, engine: str, how: Options, devices: dict[int, Function], began: int,
    pool: Pool | None,
) -> tuple[Board, bytes]:
    """A machine that is ready to start, and its device tree."""
    import guests
    from dbt.machine import start
    from dbt.machine.boards import Board

    guest = guests.load_machine("riscv64", *options.cpu)
    board = Board(guest, options.memory, console, engine, how, began, options.smp, pool)
    for transport, function in devices.items():
        board.add_virtio(function, transport)
    files = start.Files(options.bios, options.kernel, options.initrd, options.append, options.dtb)
    return board, start.place(board, files)


def _pool(options: Any) -> Pool | None:
    """The pages that RAM is made of, as --hpa-layout says it. Raises Fail."""
    from dbt.machine.boards import ROM_SIZE
    from dbt.machine.pool import Pool

    if options.hpa_layout is None:
        return None
    try:
        return Pool(options.memory + ROM_SIZE, options.seed or 0 if options.hpa_layout == SCATTER else None)
    except ValueError as error:
        raise Fail(USAGE, f"--hpa-layout={options.hpa_layout}: {error}") from None


def looked_at(parser: Parser, options: Any, words: list[str]) -> Any:
    """The options of a machine that another command runs, to look at it: its run is repeatable and translated, and
    leaves disks as they are. `options` are that command's, of which those for programs are refused. Raises Fail.
    """
    for name in ("isa", "extensions", "sysroot", "edits", "argv0"):
        if getattr(options, name):
            parser.error(f"{flag(name)} is for programs; `dragoman boot --help` has what is for machines")
    found = asked(words)
    if found is None or found.lockstep is not None or found.engine != "translated" or found.dumpdtb is not None:
        parser.error("the machine is to be translated, and to run")
    found.deterministic = found.snapshot = True
    return found


def repeatable(options: Any) -> Make:
    """What makes the machine, as often as is wanted, each time with all of its input, which is read now."""
    began = epoch(options)()
    feed = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()

    def build(console: Console, engine: str, how: Options) -> Board:
        board, _ = _board(options, console, engine, how, functions(options, console, None), began, _pool(options))
        console.feed(feed)
        return board

    return build


def _lockstep(options: Any) -> int:
    """Run the machine in both engines."""
    from dbt.machine.exits import Intr
    from dbt.machine.lockstep import lockstep
    from dbt.options import Options

    build = repeatable(options)
    report = opened(
        lambda: lockstep(build, options.lockstep, 0, options.max_instructions, Options(disk=True)), "",
    )  # fmt: skip
    sys.stdout.buffer.write(report.output)
    sys.stdout.flush()
    if report.difference:
        say(*report.difference)
        raise Fail(DIFFER, f"the engines differ after {report.stops:,} stops")
    end = "the limit was reached" if isinstance(report.exit, Intr) else "the machine has ended"
    say(f"the engines agree at all of {report.stops:,} stops: {report.instructions:,} instructions, "
        f"{report.pages:,} pages compared; {end}")  # fmt: skip
    return 0


def _boot(options: Any) -> int:
    """Put the machine together and run it to its end."""
    from dbt.events import NEVER
    from dbt.machine.devices.console import Console
    from dbt.machine.digest import digest
    from dbt.machine.monitor import Monitor
    from dbt.machine.outside import Inputs
    from dbt.machine.session import Abandoned, Session
    from dbt.options import Options

    start = time.perf_counter()
    terminal, serial, monitor_line = lines(options)
    if options.stopped and monitor_line is None and not terminal.commands:
        raise Fail(USAGE, "-S: there is no monitor that could let the machine go on")
    console = Console(_told(terminal.write if serial is None else serial.write))
    inputs = Inputs()
    devices = functions(options, console, None if options.deterministic else inputs)
    begins = epoch(options)
    log = _log(options)
    tree = b""
    pool: Pool | None = None
    how = Options(disk=True, background=True)

    def build() -> Board:
        nonlocal tree, pool
        if pool is not None:  # that of the machine before a reset
            pool.close()
        pool = _pool(options)
        board, tree = _board(options, console, options.engine, how, devices, begins(), pool)
        log.attach(board)
        return board

    follows, most = not options.deterministic, options.max_instructions
    session = opened(
        lambda: Session(
            build, inputs, follows, not options.no_reboot, NEVER if most is None else most, options.events or NEVER,
            lambda board: log.line(
                f"{board.vm.clock.retired} {board.vm.turn.state.pc:#x} {digest(board)}"),
        ),
        "",
    )  # fmt: skip
    if options.dumpdtb is not None:
        return _write(options.dumpdtb, tree)
    session.running = not options.stopped
    if serial is not None:
        serial.listen(inputs, console.feed if follows else lambda data: None)
    if monitor_line is not None:
        monitor = Monitor(session, log, monitor_line.write)
        monitor_line.listen(inputs, monitor.feed, monitor.greet)
    if terminal.commands:
        terminal.attend(Monitor(session, log, terminal.write, terminal.interactive), session.end)
    if serial is None and not follows and not terminal.interactive:
        console.feed(b"" if sys.stdin is None else sys.stdin.buffer.read())
    elif serial is None or terminal.commands:
        terminal.listen(inputs, console.feed if follows else lambda data: None)
    begin, cpu = time.perf_counter(), time.process_time()
    with terminal:
        try:
            exit = session.run()
        except Abandoned:
            raise Fail(FAILURE, "the machine is stopped, and the monitor's input has ended") from None
        finally:
            times = begin - start, time.perf_counter() - begin, time.process_time() - cpu
            for line in (serial, monitor_line):
                if line is not None:
                    line.close()
            session.board.vm.close()
            if options.stats:
                from dbt.report import statistics_shown

                for hart, vcpu in enumerate(session.board.vcpus):
                    log.line(statistics_shown({"hart": hart, **vcpu.stats()}, times, options.stats))
    for note in dict.fromkeys(note for vcpu in session.board.vcpus for note in vcpu.notes()):
        say(note)
    return status(exit, session.board)


def _told(write: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Output of the guest: where the host takes it no more it is lost, which is told once, and the machine runs on."""
    lost = False

    def told(data: bytes) -> None:
        nonlocal lost
        try:
            write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            if not lost:
                say(f"the serial port's output is lost: {why(error)}")
            lost = True

    return told


def _firmware() -> str:
    """Where OpenSBI is. Raises Fail."""
    found = next((path for path in OPENSBI if os.path.exists(path)), None)
    if found is None:
        raise Fail(NOT_FOUND, f"-bios default: there is no OpenSBI here (looked for: {' '.join(OPENSBI)})")
    return found


def _file(kernel: str) -> str:
    """The file that is meant by a path, or by "@name" for a bundled program of a machine; raises UnknownProgram."""
    if not kernel.startswith("@"):
        return kernel
    from guests import programs

    return programs.system_file(kernel)


def _log(options: Any) -> Log:
    """What -d and -D ask for. Raises Fail."""
    from dbt.machine.log import Log

    file = sys.stderr
    if options.log is not None:
        try:
            file = open(numbered(options.log), "w", buffering=1)  # noqa: SIM115 - open until the end
        except OSError as error:
            raise Fail(USAGE, f"cannot write {options.log}: {why(error)}") from None

    def write(text: str) -> None:
        with suppress(OSError):  # nobody reads it, or the disk is full: the machine runs on
            file.write(text)

    log = Log(write)
    try:
        log.choose(options.log_items or "")
    except ValueError as error:
        raise Fail(USAGE, f"-d: {error}") from None
    return log


def _write(path: str, data: bytes) -> int:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise Fail(USAGE, f"cannot write {path}: {why(error)}") from None
    return 0


def status(exit: Exit, board: Board) -> int:
    """The status that goes with how the machine ended; the line that goes with ours is said."""
    from dbt.machine.exits import SYSTEM_EVENT_RESET, Hlt, Intr, SystemEvent

    if not isinstance(exit, SystemEvent) or exit.kind == SYSTEM_EVENT_RESET:
        say(ending(exit, board))
    match exit:
        case SystemEvent(_, code):
            return code & 0xFF
        case Intr():
            return LIMIT
        case Hlt():
            return FAILURE
    return NOT_RUNNABLE


def symbols(options: Any, named: str | None, guest: Guest) -> Symbols:
    """Names for a machine's code: those of the file that is named, an ELF file or a list; else those of its kernel, or
    of its firmware, if they have any. Raises Fail.
    """
    found = opened(lambda: _symbols(named or options.kernel or options.bios, guest), "")
    if named is not None and not found.symbols:
        raise Fail(USAGE, f"--symbols: {named} names no symbols")
    return found


def _symbols(path: str | None, guest: Guest) -> Symbols:
    from dbt import elf
    from dbt.machine import images
    from dbt.report import Symbols, image_symbols, listed_symbols

    if path in (None, "own"):
        return Symbols()
    data = images.read(path)
    if data.startswith(elf.MAGIC):
        return image_symbols(elf.parse(data, guest.linux, path))
    return listed_symbols(data.decode(errors="replace")) if b"\0" not in data[:4096] else Symbols()


def ending(exit: Exit, board: Board) -> str:
    """How the machine ended, in words."""
    from dbt.machine.exits import SYSTEM_EVENT_RESET, Hlt, Intr, Shutdown, SystemEvent

    match exit:
        case SystemEvent(kind, code):
            return "the machine asked for a reset, and ended" if kind == SYSTEM_EVENT_RESET else f"status {code & 0xFF}"
        case Intr():
            return f"the limit was reached after {board.vm.clock.retired:,} instructions"
        case Shutdown(pc, cause):
            name = board.guest.trap_names.get(cause, f"cause {cause}")
            hart = "the hart" if len(board.vcpus) == 1 else f"hart {board.vm.turn.number}"
            return f"{hart} is lost: its handler at {pc:#x} traps ({name}), for ever"
        case Hlt():
            who = "the hart waits" if len(board.vcpus) == 1 else "all harts wait"
            return f"{who} for an interrupt that nothing will ever send"
    raise AssertionError(exit)
