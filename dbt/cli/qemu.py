"""The options and variables of qemu-riscv64, as those of `dragoman run`.

Owns: one table of them, `ROWS`: what each is here, and which are ignored or refused, with the reason.
Must not know: what our options do. Words that both have, such as -L, never come here, and a run without any of the
others has no part of this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from dbt.cli.errors import USAGE, Fail
from dbt.cli.options import PREFIX

# Items of -d as options of ours; "" is ignored: what it shows is always told, or there is nothing of the kind.
_LOGGED = {
    "in_asm": "--dump=decode", "op": "--dump=ir", "op_opt": "--dump=opt", "op_ind": "", "out_asm": "--dump=asm",
    "strace": "--strace", "exec": "--trace", "cpu": "--trace", "int": "--trace", "fpu": "", "nochain": "--chain=off",
    "unimp": "", "guest_errors": "", "page": "", "mmu": "", "pcall": "", "cpu_reset": "", "plugin": "", "tid": "",
}  # fmt: skip
_MODELS = {"any": "", "max": "", "rv64": "", "rva22u64": "--isa=rva22u64", "rva22s64": "--isa=rva22u64"}
_ON = ("on", "true", "yes")


def _log(items: str) -> list[str]:
    """-d: stages of a dump are one option."""
    words: list[str] = []
    stages: list[str] = []
    for item in items.split(","):
        if item not in _LOGGED:
            raise Fail(USAGE, f"-d: there is no item {item!r} (there are: {' '.join(_LOGGED)})")
        word = _LOGGED[item]
        if word.startswith("--dump="):
            stages.append(word.removeprefix("--dump="))
        elif word:
            words.append(word)
    return [*dict.fromkeys(words), *([f"--dump={','.join(dict.fromkeys(stages))}"] if stages else [])]


def _model(text: str) -> list[str]:
    """-cpu: a model, or an ISA string; properties that switch on what is there anyway."""
    name, *properties = text.split(",")
    if name not in _MODELS and not re.fullmatch(r"rv64[a-z][a-z0-9_]*", name):
        raise Fail(USAGE, f"-cpu: there is no model {name!r} (there are: {' '.join(_MODELS)}, and ISA strings)")
    import guests

    has = guests.load("riscv64").isa.split("_")
    for each in properties:
        extension, _, value = each.partition("=")
        if value not in _ON or (extension not in has and extension not in "imafdcg"):
            raise Fail(USAGE, f"-cpu: the property {each!r} is not done; --isa says which extensions there are")
    word = _MODELS.get(name, f"--isa={name}")
    return [word] if word else []


def _set(text: str) -> list[str]:
    """QEMU_SET_ENV: VAR=VALUE, or several. A comma that no name follows is a part of a value."""
    return [f"--env={part}" for part in re.split(r",(?=[A-Za-z_][A-Za-z0-9_]*=)", text)]


def _single(_: str) -> list[str]:
    return ["--max-block=1", "--region=0"]


class Row(NamedTuple):
    """One option, or a variable that has none.

    `ours`: what it becomes, with {} for its value; "" if it is ignored, None if it is refused.
    """

    option: str
    variable: str
    value: str  # what its value is called; "" if it has none
    ours: str | Callable[[str], list[str]] | None
    about: str

    def words(self, value: str) -> list[str]:
        """Options of ours; Fail if there are none of that kind."""
        if self.ours is None:
            raise Fail(USAGE, f"{self.option} of qemu-riscv64 is not done: {self.about}")
        if callable(self.ours):
            return self.ours(value)
        return [self.ours.format(value)] if self.ours else []


ROWS = (
    Row("-h", "", "", "--help", "help"),
    Row("-help", "", "", "--help", "help"),
    Row("-version", "QEMU_VERSION", "", "--version", "show the version"),
    Row("-L", PREFIX, "DIR", "--sysroot={}", "where absolute paths are looked for first"),
    Row("-E", "", "VAR=VALUE", "--env={}", "set a variable of the environment"),
    Row("", "QEMU_SET_ENV", "VAR=VALUE,...", _set, "the same for several, with commas between them"),
    Row("-U", "QEMU_UNSET_ENV", "VAR,...", "--unset={}", "remove variables from it"),
    Row("-0", "QEMU_ARGV0", "NAME", "--argv0={}", "what the program sees as its own name"),
    Row("-s", "QEMU_STACK_SIZE", "SIZE", "--stack-size={}", "the size of the stack"),
    Row("-cpu", "QEMU_CPU", "MODEL", _model, "any, max, rv64, rva22u64 or what --isa takes"),
    Row("-r", "QEMU_UNAME", "RELEASE", "--uname={}", "the kernel's release, as uname tells it"),
    Row("-strace", "QEMU_STRACE", "", "--strace", "show system calls"),
    Row("-d", "QEMU_LOG", "ITEMS", _log, "in_asm, op, op_opt, out_asm, exec, strace, nochain"),
    Row("-D", "QEMU_LOG_FILENAME", "FILE", "--log={}", "where such lines go; %d is our process"),
    Row("-seed", "QEMU_RAND_SEED", "N", "--seed={}", "random numbers come from N"),
    Row("-singlestep", "QEMU_SINGLESTEP", "", _single, "a translation holds one instruction"),
    Row("-one-insn-per-tb", "QEMU_ONE_INSN_PER_TB", "", _single, "the same"),
    Row("-B", "QEMU_GUEST_BASE", "ADDRESS", "", "ignored: a program cannot see where its memory is"),
    Row("-R", "QEMU_RESERVED_VA", "SIZE", "", "ignored: a guest always has 38 bits of addresses"),
    Row("-p", "QEMU_PAGESIZE", "SIZE", "", "ignored: pages have 4096 bytes"),
    Row("-g", "QEMU_GDB", "PORT", None, "there is no server for a debugger yet"),
    Row("-dfilter", "QEMU_DFILTER", "RANGES", None, "dumps cannot be narrowed to addresses"),
    Row("-trace", "QEMU_TRACE", "EVENTS", None, "the events are QEMU's own; --trace shows instructions"),
    Row("-plugin", "QEMU_PLUGIN", "FILE", None, "plugins are QEMU's own; callbacks are written in Python"),
)  # fmt: skip
OPTIONS: Mapping[str, Row] = {row.option: row for row in ROWS if row.option}


def from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Variables that are set, each with the options of ours that it stands for.

    The prefix is not among them: it holds for every command.
    """
    for row in ROWS:
        if row.variable in env and row.variable != PREFIX:
            yield row.variable, row.words(env[row.variable])


def table() -> str:
    """The rows as a part of --help."""
    lines = ["options and variables of qemu-riscv64, in its own form:"]
    lines += [f"  {f'{row.option} {row.value}'.strip():17} {row.variable:21} {row.about}"
              for row in ROWS[2:] if row.ours is not None]  # fmt: skip
    refused = [row.option for row in ROWS if row.ours is None]
    return "\n".join([*lines, f"  not done: {' '.join(refused)}", ""])
