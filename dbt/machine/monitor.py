"""The monitor of a machine: commands in the words of QEMU's, a line each, and their answers.

Owns: the commands, their line and its editing. Must not know: where lines come from, how a hart works.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from dbt.machine import views
from dbt.machine.boards import Board
from dbt.machine.log import Log
from dbt.machine.session import Session
from dbt.machine.space import KINDS
from guests.spec import Absent

PROMPT = "(dragoman) "
GREETING = "Dragoman's monitor: help lists the commands\n"
MOST = 1 << 20  # units that are shown at once, and steps that are made
RETURN, NEWLINE, BACKSPACE, DELETE, KILL, CANCEL, ESCAPED = 13, 10, 8, 127, 21, 3, 27
SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
_EXPRESSION = re.compile(r"\s*([+-]?)\s*(?:\$(?P<name>\w+)|(?P<number>0[xX][0-9a-fA-F]+|\d+))")


class Refused(Exception):
    """A command cannot be done; says why."""


class Monitor:
    """`write` takes answers. `echoes`: what is typed is shown, as at a raw terminal, where a line can be edited."""

    def __init__(self, session: Session, log: Log, write: Callable[[bytes], None], echoes: bool = False) -> None:
        self._session = session
        self._log = log
        self._write = write
        self._echoes = echoes
        self._line = bytearray()
        self._after_return = False
        self._greeted = False

    def greet(self) -> None:
        """Somebody has come."""
        self._line.clear()
        self._say(("" if self._greeted else GREETING) + PROMPT)
        self._greeted = True

    def feed(self, data: bytes) -> None:
        """What somebody types."""
        for byte in data:
            if byte == NEWLINE and self._after_return:
                self._after_return = False
                continue
            self._after_return = byte == RETURN
            if byte in (RETURN, NEWLINE):
                if self._echoes:
                    self._say("\n")
                line = self._line.decode(errors="replace")
                self._line.clear()
                self._say(self.answer(line) + PROMPT)
            elif self._echoes and byte in (BACKSPACE, DELETE):
                if self._line:
                    self._line.pop()
                    self._say("\b \b")
            elif self._echoes and byte in (KILL, CANCEL):
                self._say("\b \b" * len(self._line))
                self._line.clear()
            elif byte >= 32:
                self._line.append(byte)
                if self._echoes:
                    self._write(bytes([byte]))

    def answer(self, line: str) -> str:
        """Carry out a command; its answer, in whole lines."""
        name, _, rest = line.strip().partition(" ")
        form = ""
        if "/" in name:
            name, _, form = name.partition("/")
        elif rest.lstrip().startswith("/"):
            form, _, rest = rest.lstrip()[1:].partition(" ")
        if not name:
            return ""
        command = COMMANDS.get(name)
        if command is None:
            return f"unknown command: '{name}'\n"
        if form and "/FMT" not in command.words:
            return f"{name}: takes no format\n"
        try:
            text = command.does(self, form, rest.strip())
        except Refused as refused:
            return f"{name}: {refused}\n"
        return text if not text or text.endswith("\n") else text + "\n"

    def _say(self, text: str) -> None:
        self._write(text.encode())

    @property
    def _board(self) -> Board:
        return self._session.board

    def _number(self, text: str) -> int:
        """A sum of numbers and registers, such as $sp+16."""
        total, at = 0, 0
        while at < len(text) or not at:
            found = _EXPRESSION.match(text, at)
            if found is None or (at and not found[1]):
                raise Refused(f"{text!r} is no address or number, such as 0x80000000, $pc or $sp+16")
            name, number = found["name"], found["number"]
            value = int(number, 0 if number[1:2] in "xX" else 10) if number else self._register(name)
            total += -value if found[1] == "-" else value
            at = found.end()
        return total & (1 << 64) - 1

    def _register(self, name: str) -> int:
        values = views.values(self._board)
        if name not in values:
            raise Refused(f"there is no register ${name}")
        return values[name]

    # --- commands -----------------------------------------------------------------------------------------------

    def _help(self, form: str, text: str) -> str:
        rows = {f"info {name}": row for name, row in SUBJECTS.items()} if text == "info" else COMMANDS
        known: dict[Command, list[str]] = {}
        for name, row in rows.items():
            known.setdefault(row, []).append(name)
        wanted = [row for row, names in known.items() if text in ("", "info", *names)]
        if not wanted:
            return f"unknown command: '{text}'\n"
        return "".join(f"{'|'.join(known[row])}{row.words} -- {row.about}\n" for row in wanted)

    def _info(self, form: str, text: str) -> str:
        if not text:
            return self._help("", "info")
        subject = SUBJECTS.get(text)
        return f"unknown command: 'info {text}'\n" if subject is None else subject.does(self, "", "")

    def _stop(self, form: str, text: str) -> str:
        self._session.stop()
        return ""

    def _go_on(self, form: str, text: str) -> str:
        self._session.go_on()
        return ""

    def _step(self, form: str, text: str) -> str:
        if self._session.running:
            raise Refused("the machine runs: stop it first")
        count = self._number(text) if text else 1
        if count > MOST:
            raise Refused(f"at most {MOST:,} steps")
        for _ in range(count):
            self._session.step()
        self._board.vcpu = self._board.vm.turn
        return views.here(self._board)

    def _choose(self, form: str, text: str) -> str:
        """The hart that is looked at from now on."""
        number = self._number(text) if text else -1
        if not 0 <= number < len(self._board.vcpus):
            raise Refused(f"a hart is wanted, from 0 to {len(self._board.vcpus) - 1}")
        self._board.vcpu = self._board.vcpus[number]
        return ""

    def _reset(self, form: str, text: str) -> str:
        self._session.reset()
        return ""

    def _quit(self, form: str, text: str) -> str:
        self._session.end()
        return ""

    def _print(self, form: str, text: str) -> str:
        _, letter, _ = _format(form, "xduoc", 8)
        value = self._number(text)
        return (hex(value) if letter == "x" else views.number(value, letter, 8).strip()) + "\n"

    def _memory(self, form: str, text: str) -> str:
        return self._dump(form, text, views.reader(self._board.vcpu))

    def _physical(self, form: str, text: str) -> str:
        return self._dump(form, text, self._board.vm.memory.peek)

    def _dump(self, form: str, text: str, read: Callable[[int, int], bytes]) -> str:
        if not text:
            raise Refused("an address is wanted")
        count, letter, size = _format(form, "xduoci", 4)
        address = self._number(text)
        try:
            if letter == "i":
                return views.instructions(self._board, address, count, read)
            return views.dump(address, count, letter, size, read)
        except Absent:
            return f"{address:016x}: Cannot access memory\n"

    def _walk(self, form: str, text: str) -> str:
        address, _, access = text.rpartition(" ")
        if access not in KINDS:
            address, access = text, KINDS[0]
        if not address:
            raise Refused("an address is wanted")
        return views.walk(self._board.vcpu, self._number(address), access)

    def _logs(self, form: str, text: str) -> str:
        if text == "help":
            return self._log.help()
        try:
            self._log.choose("" if text == "none" else text, self._board)
        except ValueError as error:
            raise Refused(str(error)) from None
        return ""

    def _status(self, form: str, text: str) -> str:
        return f"VM status: {'running' if self._session.running else 'paused'}\n"

    def _clock(self, form: str, text: str) -> str:
        return views.clock(self._board, self._session.retired)


def _format(form: str, letters: str, size: int) -> tuple[int, str, int]:
    """/COUNT LETTER SIZE, as x takes it: how many, how, and bytes of each."""
    found = re.fullmatch(r"(\d{0,7})([a-z]*)", form)
    letter, unit = "x", ""
    for each in found[2] if found else "?":
        if each in SIZES and not unit:
            unit = each
        elif each in letters:
            letter = each
        else:
            raise Refused(f"the format {form!r} is not understood: a count, one of {letters}, and one of bhwg")
    count = int(found[1] or 1) if found else 0
    if not 0 < count <= MOST:
        raise Refused(f"from 1 to {MOST:,} at once")
    return count, letter, SIZES.get(unit, size)


class Command(NamedTuple):
    """What a command takes, what it is for, and what does it, given its format and the rest of its line."""

    words: str
    about: str
    does: Callable[[Monitor, str, str], str]


def _view(show: Callable[[Board], str]) -> Callable[[Monitor, str, str], str]:
    return lambda monitor, form, text: show(monitor._board)


def _also(row: Command, *names: str) -> dict[str, Command]:
    return dict.fromkeys(names, row)


COMMANDS: dict[str, Command] = {
    **_also(Command(" [COMMAND]", "this list, or what a command is for", Monitor._help), "help", "?"),
    "info": Command(" [SUBJECT]", "show something: without SUBJECT, which there are", Monitor._info),
    **_also(Command("", "stop the machine, at the next boundary", Monitor._stop), "stop", "s"),
    **_also(Command("", "let it run on", Monitor._go_on), "cont", "c"),
    "step": Command(" [N]", "do N things: instructions, interrupts that are taken, waits that end; then show what is "
                    "next", Monitor._step),
    "cpu": Command(" N", "look at the hart of this number; a step looks at the one that did it", Monitor._choose),
    "system_reset": Command("", "start the machine again", Monitor._reset),
    **_also(Command("", "end the machine", Monitor._quit), "quit", "q"),
    "x": Command("/FMT ADDRESS", "memory at an address of the hart's; FMT is a count, a letter (x d u o c i) and a "
                 "size (b h w g)", Monitor._memory),
    "xp": Command("/FMT ADDRESS", "physical memory", Monitor._physical),
    "walk": Command(" ADDRESS [load|store|fetch]", "a translation of the hart's step by step: each entry of page "
                    "tables that it reads, in both stages", Monitor._walk),
    **_also(Command("/FMT EXPRESSION", "a sum of numbers and registers, such as $sp+16", Monitor._print), "print", "p"),
    "log": Command(" ITEMS", "what is logged from now on, as -d says it; none, or help", Monitor._logs),
}  # fmt: skip
SUBJECTS: dict[str, Command] = {
    "status": Command("", "whether the machine runs", Monitor._status),
    "cpus": Command("", "the harts: where they are, and what they do", _view(views.harts)),
    "registers": Command("", "the hart's registers", _view(lambda board: views.registers(board.vcpu))),
    "mem": Command("", "what its page tables map", _view(views.mappings)),
    "tlb": Command("", "translations that the engine remembers, in the present context", _view(views.tlb)),
    **_also(Command("", "devices, and the interrupts they have", _view(views.devices)), "qtree", "devices"),
    "mtree": Command("", "the map of physical memory", _view(views.memory_map)),
    "memmap": Command("", "which pages of the host's pool RAM is, with --hpa-layout", _view(views.pool_map)),
    "block": Command("", "disks", _view(views.disks)),
    "network": Command("", "networks", _view(views.networks)),
    **_also(Command("", "what the engine has executed, and what it keeps", _view(views.engine)), "jit", "cache"),
    **_also(Command("", "interrupts: pending, enabled, taken; traps taken; the interrupt controller",
                    _view(views.interrupts)), "irq", "interrupts", "pic"),
    "clock": Command("", "the machine's time", Monitor._clock),
}  # fmt: skip
