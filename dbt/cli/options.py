"""Options that several commands share, and the parser: options before the program's name, the rest is the program's.

Owns: their names, their checks, what they mean as arguments of the public functions. Must not know: any command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

from dbt.cli.errors import USAGE, Fail

PREFIX = "QEMU_LD_PREFIX"  # a variable that holds for every command; the others are in dbt.cli.qemu
STAGES = ("decode", "ir", "opt", "llvm", "asm")
VALUED = ("append", "edit")  # actions that take a value, besides the usual one
SWITCHES = {  # mechanisms by attribute, and what is done without them
    "background": "translate what is hot while the program waits, and not in a process of its own",
    "return_prediction": "a return does not look for its caller in its region first",
    "jump_cache": "indirect jumps that leave a region find their target in the tables of stencils, or ask the monitor",
    "checks": "addresses are not checked, so a program that strays from its memory reads and writes ours: only to "
    "measure what that costs, with programs that are known",
    "counts": "instructions are not counted in regions; only to measure what that costs",
    "fp_flags": "regions do not accrue floating-point exceptions; only to measure what that costs",
}
# Those of `translator_options`, by attribute; the reference engine has no use for them.
TRANSLATOR = (
    "max_block", "region", "tiers", "hot", "promote", *SWITCHES, "cache", "cache_size", "cache_policy", "smc", "chain",
    "sensitive", "chaos", "no_disk_cache",
)  # fmt: skip
MIN_CACHE, MAX_CACHE = 1 << 10, 1 << 30  # bytes of host code; code is reached by 32-bit offsets
MIN_STACK, MAX_STACK = 1 << 16, 1 << 26  # bytes
MAX_BLOCK = 2048  # a translation never crosses a page, and a page holds no more instructions
MAX_REGION = 2000


class Parser:
    """Options before the program's name; all that follows it is the program's.

    argparse is imported where it has something to say, and for what edits the environment: it takes 7 ms.
    """

    def __init__(
        self, name: str, description: str, operands: str = "", epilog: str | Callable[[], str] = "", qemu: bool = False,
    ) -> None:  # fmt: skip
        self.prog = f"dragoman {name}"
        self._qemu = qemu  # whether the words of qemu-riscv64 are understood, too
        self._texts: dict[str, Any] = {
            "usage": f"dragoman {name} [OPTIONS] {operands}".rstrip(), "description": description, "epilog": epilog,
        }  # fmt: skip
        self._options: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self._takes: dict[str, tuple[str, bool]] = {"-h": ("--help", False), "--help": ("--help", False)}

    def option(self, *names: str, **how: Any) -> None:
        """An option, in argparse's words. The last name is the long one.

        One that takes a value may have it in the next word, unless its value is optional.
        """
        self._options.append((names, how))
        value = "action" not in how or how["action"] in VALUED
        for name in names:
            self._takes[name] = names[-1], value and "nargs" not in how

    def error(self, message: str) -> NoReturn:
        raise Fail(USAGE, f"{message.removeprefix('argument ')} (see `{self.prog} --help`)")

    def _parsed(self, options: list[str]) -> Any:
        """The values of all options, by attribute."""
        found = self._values(options)
        if found is None:
            from dbt.cli.arguments import arguments

            return arguments(self.prog, self._texts, self._options, self.error).parse_args(options)
        return found

    def _values(self, options: list[str]) -> SimpleNamespace | None:
        """The same; None where argparse has something to say, which knows of help and of what is wrong."""
        values = {
            _attribute(names, how): how.get("default", False if how.get("action") == "store_true" else None)
            for names, how in self._options
        }  # fmt: skip
        known = {names[-1]: (_attribute(names, how), how) for names, how in self._options}
        for word in options:
            name, equals, text = word.partition("=")
            if name not in known:
                return None
            attribute, how = known[name]
            match how.get("action"), bool(equals):
                case None | "append" as action, True:
                    try:
                        value = how.get("type", str)(text)
                    except Exception:  # argparse has the words for it
                        return None
                    if value not in how.get("choices", (value,)):
                        return None
                    values[attribute] = [*(values[attribute] or ()), value] if action else value
                case "store_true", False:
                    values[attribute] = True
                case "store_const", False:
                    values[attribute] = how["const"]
                case None, False if how.get("nargs") == "?":
                    values[attribute] = how["const"]
                case _:
                    return None
        return SimpleNamespace(**values)

    def split(self, words: Sequence[str]) -> tuple[Any, list[str]]:
        """Parse the options in front; also returns what is left, from the first word that is none.

        The words are made unambiguous before argparse sees them, since it would look for options further on.
        """
        options = self._from_environment() if self._qemu else []
        rest = list(words)
        while rest and rest[0].startswith("-") and rest[0] != "-":
            word = rest.pop(0)
            if word == "--":
                break
            foreign = self._foreign(word, rest)
            if foreign is not None:
                options += foreign
                continue
            name, equals, value = word.partition("=")
            if not word.startswith("--"):
                name, value = word[:2], word[2:]
                equals = value
            if name not in self._takes:
                self.error(f"there is no option {name}")
            long, takes = self._takes[name]
            if takes and not equals:
                if not rest:
                    self.error(f"{name} needs a value")
                value, equals = rest.pop(0), "="
            options.append(f"{long}={value}" if equals else long)
        return self._parsed(options), rest

    def _foreign(self, word: str, rest: list[str]) -> list[str] | None:
        """What a word of qemu-riscv64's is in ours, with its value taken from `rest`; None if it is none."""
        if not self._qemu or word.startswith("--") or word in self._takes:
            return None
        from dbt.cli.qemu import OPTIONS

        row = OPTIONS.get(word)
        if row is None:
            return None
        if row.value and not rest:
            self.error(f"{word} needs a value")
        return row.words(rest.pop(0) if row.value else "")

    def _from_environment(self) -> list[str]:
        """The options that variables of qemu-riscv64 stand for; those on the command line come later, and win."""
        if not any(name.startswith("QEMU_") and name != PREFIX for name in os.environ):
            return []
        from dbt.cli.qemu import from_environment

        options: list[str] = []
        for variable, words in from_environment(os.environ):
            try:
                self._parsed(words)
            except Fail as failure:
                raise Fail(failure.status, f"{variable}: {failure}") from None
            options += words
        return options


def _attribute(names: tuple[str, ...], how: dict[str, Any]) -> str:
    return str(how.get("dest") or names[-1].removeprefix("--").replace("-", "_"))


def bad(message: str) -> Exception:
    """What a conversion raises: argparse puts the option's name in front."""
    from argparse import ArgumentTypeError

    return ArgumentTypeError(message)


def number(low: int, high: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text.replace("_", ""), 0)
        except ValueError:
            raise bad(f"{text!r} is not a number") from None
        if value < low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise bad(f"{text} is not {limits}")
        return value

    return convert


def amount(text: str) -> int:
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:] in tuple("kKmM") else (text, "")
    if not digits.isascii() or not digits.isdigit():
        raise bad(f"{text!r} is not a size, such as 65536, 64K or 1M")
    return int(digits[:12]) << {"": 0, "K": 10, "M": 20}[unit]


def size(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        value = amount(text)
        if not low <= value <= high:
            raise bad(f"{text} is not from {low >> 10}K to {high >> 20}M")
        return value

    return convert


def policy(text: str) -> str:
    from dbt.cache.policies import POLICIES  # not needed for --help

    if text not in POLICIES:
        raise bad(f"there is no policy {text!r} (there are: {', '.join(POLICIES)})")
    return text


def limit(text: str) -> int | None:
    return None if text == "none" else number(0)(text)


def seed(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise bad(f"{text!r} is not a number") from None


def assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise bad(f"{text!r} is not of the form VAR=VALUE")
    return name, value


def stages(text: str) -> frozenset[str]:
    found = frozenset(text.split(","))
    unknown = sorted(found - set(STAGES))
    if unknown:
        raise bad(f"there is no stage {unknown[0]!r} (there are: {', '.join(STAGES)})")
    return found


def strace_items(text: str) -> str:
    from dbt.linux.strace import selection  # with --strace only

    try:
        selection(text)
    except ValueError as error:
        raise bad(str(error)) from None
    return text


def numbered(text: str) -> str:
    """The name of a file, with our process number in it."""
    return text.replace("%d", str(os.getpid()))


def folder(text: str) -> str:
    if not os.path.isdir(text):
        raise bad(f"{text}: is not a folder")
    return text


def guest_options(parser: Parser) -> None:
    """The options that say what world the program meets."""
    parser.option(
        "--isa", metavar="STRING",
        help="the processor's instruction set, such as rv64imac or rv64gc_zicntr; other instructions are illegal then "
        "(default: all that is implemented)",
    )
    extension_option(parser)
    parser.option(
        "-L", "--sysroot", metavar="DIR", type=folder,
        help="look here first for the absolute paths that the program opens (default: QEMU_LD_PREFIX, if it is set)",
    )
    parser.option(
        "-E", "--env", metavar="VAR=VALUE", dest="edits", action="edit", type=assignment,
        help="set a variable in the program's environment, which is otherwise yours; may be repeated",
    )
    parser.option(
        "-U", "--unset", metavar="VAR,...", dest="edits", action="edit",
        help="remove variables from it; may be repeated",
    )
    parser.option("-0", "--argv0", metavar="NAME", help="what the program sees as its own name")


def extension_option(parser: Parser) -> None:
    parser.option(
        "--extension", metavar="FILE.py", dest="extensions", action="append", default=[],
        help="give the processor the instructions that a Python file of yours defines; may be repeated",
    )


def extensions_of(options: Any) -> list[Any]:
    """The extensions in the files that were given."""
    if not options.extensions:
        return []
    import guests
    from guests.spec import BadExtension

    try:
        return [extension for path in options.extensions for extension in guests.extensions_of(path)]
    except BadExtension as error:
        raise Fail(USAGE, str(error)) from None


def tiers(text: str) -> tuple[int, ...]:
    """The tiers that a list names."""
    chosen = {"0": (0,), "1": (1,), "0,1": (0, 1)}.get(text)
    if chosen is None:
        raise bad(f"{text!r} is not one of 0, 1 and 0,1")
    return chosen


def translator_options(parser: Parser, kept: bool = False) -> None:
    """The options that say how the translator works; none of them changes what a program sees.

    `kept`: translations on disk are used unless the user says no, and otherwise only if the user says so.
    """
    if kept:
        parser.option(
            "--no-disk-cache", action="store_const", const=True,
            help="take no translations from disk that earlier runs left there, and leave none (see `dragoman cache "
            "--help`)",
        )
    else:
        parser.option(
            "--disk-cache", action="store_true",
            help="use the translations that earlier runs left on disk, and leave what is new (see `dragoman cache "
            "--help`)",
        )
    parser.option(
        "--max-block", metavar="N", type=number(1, MAX_BLOCK),
        help="most instructions translated as one block (default: 512)",
    )
    parser.option(
        "--region", metavar="N", type=number(0, MAX_REGION),
        help="most guest instructions, about, in a region, which is what is hot around a block and one translation "
        "(default: 500; 0: each translation is a basic block)",
    )
    parser.option(
        "--tiers", metavar="LIST", type=tiers,
        help="what runs code: 0 for stencils alone, which are copied and filled at once and run at a few times less "
        "than full speed; 1 for translations by LLVM alone; 0,1 for stencils first, and translations of what is hot "
        "(default)",
    )
    parser.option(
        "--promote", metavar="N", type=number(0),
        help="look whether a block is worth translating once it has run N times from stencils, sooner if it is long or "
        "has floating point. It is, with what is hot around it, if all that has cost as much there as N visits to a "
        "block for every 28 bytes, and for a worker's start eight times more (default: 1000000)",
    )
    for name, what in SWITCHES.items():
        parser.option(flag(name), choices=("on", "off"), help=f"off: {what} (default: on)")
    parser.option(
        "--hot", metavar="N", type=number(0),
        help="where there are no stencils: translate a block once it has been interpreted N times (default: 64; 0: "
        "use none and translate at once; with --dump: 0, so that all that runs is shown)",
    )
    parser.option(
        "--cache", choices=("on", "off"),
        help="off: keep no translation, and translate a block whenever it is entered; shows what the cache is worth, "
        "and is slow beyond use for all but the smallest programs (default: on)",
    )
    parser.option(
        "--cache-size", metavar="N[K|M]", type=size(MIN_CACHE, MAX_CACHE),
        help="most bytes of host code that are kept, such as 64K (default: 32M); what does not fit is dropped, and "
        "translated again if it is still needed",
    )
    parser.option(
        "--cache-policy", metavar="NAME", type=policy,
        help="which translation is dropped first: the least recently used (lru, default) or the least frequently used "
        "(lfu), as far as the engine sees what runs; the oldest (fifo); the largest (size)",
    )
    parser.option(
        "--smc", choices=("detect", "fencei", "off"),
        help="when translations of code that the program has written over go: at the write (detect, default); at the "
        "program's fence.i or the system call that stands for it (fencei), as on a processor; never (off), which shows "
        "what a translator gets wrong that does not care",
    )
    parser.option(
        "--chain", choices=("on", "off"),
        help="off: let no translated block lead to the next, but ask the monitor after each; shows what chaining is "
        "worth (default: on)",
    )
    parser.option(
        "--sensitive", choices=("inline", "callout"),
        help="inline: translate simple instructions on CPU state, such as those on the floating-point flags, in place "
        "(default); callout: let the monitor execute them, as the rest of the sensitive ones",
    )
    parser.option(
        "--chaos", metavar="SEED", type=seed,
        help="disturb the translator at random, to test it: drop translations, leave host code early; a program must "
        "not notice",
    )


def flag(name: str) -> str:
    """An option's attribute as it is written on the command line."""
    return f"--{name.replace('_', '-')}"


def events_option(parser: Parser, what: str) -> None:
    parser.option(
        "--events", metavar="N", type=number(1), help=f"at the first block boundary after every N instructions {what}"
    )


def stats_option(parser: Parser, whose: str = "") -> None:
    """`whose`: of what, if that is no whole run."""
    parser.option(
        "--stats", metavar="json", nargs="?", const="text", choices=("text", "json"),
        help=f"at the end show what was executed, translated and how fast{whose}; --stats=json for one line of JSON",
    )  # fmt: skip


def symbols_option(parser: Parser) -> None:
    parser.option(
        "--symbols", metavar="FILE",
        help="names for a machine's code: an ELF file, or a list such as a kernel's System.map or /proc/kallsyms",
    )


def seed_option(parser: Parser, command: str) -> None:
    parser.option(
        "--deterministic", metavar="SEED", nargs="?", const=0, default=0, type=seed,
        help=f"{command} is deterministic anyway; --deterministic=7 chooses the seed (default: 0)",
    )


def guest_settings(options: Any) -> dict[str, Any]:
    """The guest options as arguments of the public functions."""
    env = None
    if options.edits:
        env = dict(os.environ)
        for name, value in options.edits:
            for each in [name] if value is not None else name.split(","):
                env.pop(each, None)
            if value is not None:
                env[name] = value
    sysroot = options.sysroot
    if sysroot is None and os.path.isdir(os.environ.get(PREFIX, "")):
        sysroot = os.environ[PREFIX]
    return {
        "isa": options.isa, "extensions": extensions_of(options), "sysroot": sysroot, "env": env,
        "argv0": options.argv0,
    }  # fmt: skip


def is_guest(program: str) -> bool:
    """Whether this is a bundled guest of a virtual machine."""
    from guests.programs import VIRTUALS

    return program.startswith("@") and program[1:] in VIRTUALS


def program_of(parser: Parser, rest: list[str]) -> tuple[str, list[str]]:
    if not rest:
        parser.error("which program?")
    return rest[0], rest[1:]


def translation(
    parser: Parser, options: Any, dump: frozenset[str] = frozenset(),
    write: Callable[[str], None] = print,
) -> Any:  # fmt: skip
    """The translator options as the public `Options`."""
    if options.cache == "off":
        for name in ("cache_size", "cache_policy", "chain"):
            if getattr(options, name):
                parser.error(f"--cache=off keeps nothing, so there is nothing for {flag(name)} to say")
    import dragoman

    chosen = dragoman.Options(dump=dump, write=write, chaos=options.chaos)
    if options.max_block is not None:
        chosen.max_instructions = options.max_block
    if options.region is not None:
        chosen.region = options.region
    chosen.cache_off = options.cache == "off"
    chosen.disk = options.disk_cache if hasattr(options, "disk_cache") else not options.no_disk_cache
    chosen.tiers = options.tiers or chosen.tiers
    for name in SWITCHES:
        setattr(chosen, name, getattr(options, name) != "off")
    if options.promote is not None:
        chosen.promote = options.promote
    chosen.chain = options.chain != "off"
    chosen.smc = options.smc or chosen.smc
    chosen.sensitive = options.sensitive or chosen.sensitive
    chosen.cache_size = options.cache_size or chosen.cache_size
    chosen.cache_policy = options.cache_policy or chosen.cache_policy
    if options.hot is not None or dump:
        chosen.hot = options.hot or 0
    return chosen
