"""Extensions of the user's own: taken from a Python file, and looked over before they join the table.

What is wrong with one is said when it is added, not when a guest first executes it: so every body is built once, of
words chosen to be unlike. Owns: these checks. Must not know: who loads a guest, what the table holds otherwise.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from guests.decode import PatternError, have_common_word, layout, overlaps
from guests.riscv import registers
from guests.riscv.table import Extension
from guests.spec import BadExtension, Guest, Operands, Row, Treat
from ir.block import Callout, GuestInsn, Jump
from ir.builder import Builder, NeedsCallout
from ir.verify import InvalidIR, verify

_NAME = re.compile(r"x[a-z0-9]+")
_MNEMONIC = re.compile(r"[a-z][a-z0-9_.]*")
SAMPLES = (0, 0xFFFFFFFF, 0x55555555, 0xAAAAAAAA, 0x12345678)  # bits for the fields


def from_file(path: str | Path, standard: Sequence[Extension]) -> list[Extension]:
    """Execute a Python file and return the extensions among its names, but for standard ones that it imports.

    Raises BadExtension.
    """
    module = ModuleType(f"dragoman extension {path}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for it
    try:
        exec(compile(Path(path).read_bytes(), str(path), "exec"), module.__dict__)
    except OSError as error:
        if error.filename is None or Path(error.filename) != Path(path):
            raise BadExtension(f"{path}{_line(error, path)}: {_said(error)}") from error
        raise BadExtension(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (Exception, SystemExit) as error:
        raise BadExtension(f"{path}{_line(error, path)}: {_said(error)}") from error
    found = {id(value): value for value in vars(module).values() if isinstance(value, Extension)}
    own = [extension for extension in found.values() if extension not in standard]
    if not own:
        raise BadExtension(f"{path}: there is no dragoman.Extension in this file")
    return own


def _line(error: BaseException, path: str | Path) -> str:
    """Where in the file it was raised, if it was there."""
    number = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            number = trace.tb_lineno
        trace = trace.tb_next
    return "" if number is None else f", line {number}"


def _said(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def check_names(extensions: Sequence[Extension], rows: Sequence[Row]) -> None:
    """Names begin with x and are given once; instructions have names of their own and patterns that can be read.

    `rows` are those of the standard extensions. Raises BadExtension.
    """
    seen: set[str] = set()
    mnemonics = {row.name: row.extension for row in rows}
    for extension in extensions:
        name = extension.name
        if not _NAME.fullmatch(name):
            raise BadExtension(f"extension {name!r}: the name must be an x with small letters or digits after it")
        if name in seen:
            raise BadExtension(f"extension {name!r} is given twice")
        seen.add(name)
        if not extension.rows:
            raise BadExtension(f"extension {name!r} has no instructions")
        for row in extension.rows:
            where = _where(row)
            if not _MNEMONIC.fullmatch(row.name):
                raise BadExtension(f"{where}: the name must be small letters, digits, dots and underscores")
            if row.name in mnemonics:
                raise BadExtension(f"{where}: the extension {mnemonics[row.name]!r} has an instruction of this name")
            mnemonics[row.name] = name
            try:
                fields = layout(row.pattern).fields
            except PatternError as error:
                raise BadExtension(f"{where}: {error}") from error
            for field in fields:
                if field.name not in Operands.__slots__:
                    raise BadExtension(f"{where}: pattern {row.pattern!r}: unknown field {field.name!r}")


def check_rows(extensions: Sequence[Extension], guest: Guest) -> None:
    """No word is another instruction's too, and every body builds. Raises BadExtension.

    Within one extension a row may be a special case of another, as in the standard ones.
    """
    for extension in extensions:
        for name, other in overlaps(extension.rows):
            raise BadExtension(f"{_where(extension.row(name))}: some of its words are those of {other!r} too")
        for row in extension.rows:
            for rival in guest.rows:
                if rival.extension != row.extension and have_common_word(row, rival) and not _is_hint(row, rival):
                    raise BadExtension(f"{_where(row)}: some of its words are those of {rival.name!r} too")
            if row.body is not None:
                for bits in SAMPLES:
                    _try(row, guest, bits)


def _is_hint(row: Row, general: Row) -> bool:
    """Whether the row is made of words of `general` that do nothing, as it writes x0: the manual lets these be used."""
    a, b = layout(row.pattern), layout(general.pattern)
    inert = general.writes == "x" and general.treat is Treat.IDENT and not general.ends_block and not general.may_trap
    return inert and a.mask & b.mask == b.mask and a.mask >> 7 & 31 == 31 and a.match >> 7 & 31 == 0


def _try(row: Row, guest: Guest, bits: int) -> None:
    """Disassemble one word of the row and build its IR."""
    shape = layout(row.pattern)
    word = bits & (1 << 8 * shape.length) - 1 & ~shape.mask | shape.match
    decoded = guest.decode(word)
    if decoded is None or decoded.row is not row or row.body is None:
        return
    try:
        text = guest.disassemble(decoded, 0)
        if decoded.treat is Treat.CALLOUT:
            return
        builder = Builder(0, True, guest.align, guest.rounding_slot)
        registers.link(builder)
        builder.begin(GuestInsn(0, decoded.length, text, decoded.treat.value))
        try:
            row.body(builder, decoded.operands)
        except NeedsCallout:
            builder.drop()
            verify(builder.finish(Callout(0)))
        else:
            verify(builder.finish(builder.taken or Jump(builder.next_pc())))
    except InvalidIR as error:
        raise BadExtension(f"{_where(row)}: {str(error).partition(', ')[2]}") from error
    except Exception as error:
        raise BadExtension(f"{_where(row)}: {_said(error)}") from error


def _where(row: Row) -> str:
    return f"extension {row.extension!r}, instruction {row.name!r}"
